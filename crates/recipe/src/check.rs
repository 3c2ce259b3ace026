//! Checks a recipe's keys, types and ranges against the schema, collecting every mistake.

use serde_json::Value as Schema;
use toml::Value;

use crate::diagnostic::{Aim, Diagnostic};
use crate::document::Document;
use crate::schema::{alternatives, json_schema, types, words};

/// Returns all mistakes of the document, in the order of the keys.
pub(crate) fn check(document: &Document<'_>) -> Vec<Diagnostic> {
    let mut checker = Checker { document, found: Vec::new() };
    checker.table(&document.values, json_schema(), "");
    checker.found
}

struct Checker<'a> {
    document: &'a Document<'a>,
    found: Vec<Diagnostic>,
}

impl Checker<'_> {
    fn refuse(&mut self, path: &str, aim: Aim, message: String, help: Option<String>) {
        self.found.push(self.document.diagnostic(path, aim, message, help));
    }

    fn table(&mut self, table: &toml::Table, schema: &Schema, path: &str) {
        let Some(Schema::Object(properties)) = schema.get("properties") else { return };
        for key in
            schema.get("required").and_then(Schema::as_array).into_iter().flatten().filter_map(Schema::as_str)
        {
            if !table.contains_key(key) {
                self.refuse(path, Aim::Key, format!("[{path}] requires the key `{key}`"), None);
            }
        }
        for (key, value) in table {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match properties.get(key) {
                Some(schema) => self.value(value, schema, &inner),
                None => {
                    let message = match (path.is_empty(), value.is_table()) {
                        (true, true) => format!("unknown section [{key}]"),
                        (true, false) => format!("unknown key `{key}` outside any section"),
                        (false, _) => format!("unknown key `{key}` in [{path}]"),
                    };
                    let help = nearest_help(key, path, properties.keys().map(String::as_str));
                    self.refuse(&inner, Aim::Key, message, Some(help));
                }
            }
        }
    }

    fn value(&mut self, value: &Value, schema: &Schema, path: &str) {
        if let Some(words) = words(schema) {
            if !value.as_str().is_some_and(|given| words.contains(&given)) {
                let message = format!("`{path}` must not be {}", shown(value));
                let mut help = format!("one of {}", quoted_list(&words));
                if let Some(near) = value.as_str().and_then(|given| nearest(given, words.iter().copied())) {
                    help = format!("did you mean \"{near}\"? It must be {help}");
                }
                self.refuse(path, Aim::Value, message, Some(help));
            }
            return;
        }
        let alternatives = alternatives(schema);
        if alternatives.is_empty() || alternatives.iter().all(|s| types(s).is_empty()) {
            return;
        }
        let Some(fitting) = alternatives.iter().find(|s| types(s).iter().any(|name| fits(value, name)))
        else {
            let names: Vec<&str> = alternatives.iter().flat_map(|s| types(s)).map(described).collect();
            let message =
                format!("`{path}` must be {}, not {}", names.join(" or "), described(value.type_str()));
            self.refuse(path, Aim::Value, message, example(schema));
            return;
        };
        match value {
            Value::Table(table) => match variant(table, &alternatives) {
                Ok(schema) => self.table(table, schema, path),
                Err((tag, words)) => {
                    let message = format!("`{path}.{tag}` must be one of {}", quoted_list(&words));
                    self.refuse(&format!("{path}.{tag}"), Aim::Value, message, None);
                }
            },
            Value::Array(items) => {
                if let Some(schema) = fitting.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.value(item, schema, &format!("{path}[{index}]"));
                    }
                }
                let least = fitting.get("minItems").and_then(Schema::as_u64).unwrap_or(0);
                if (items.len() as u64) < least {
                    let message = format!("`{path}` must have at least {least} items, not {}", items.len());
                    self.refuse(path, Aim::Value, message, None);
                }
            }
            Value::Integer(number) => self.range(*number as f64, fitting, path),
            Value::Float(number) => self.range(*number, fitting, path),
            Value::String(text) => {
                let least = fitting.get("minLength").and_then(Schema::as_u64).unwrap_or(0);
                if (text.chars().count() as u64) < least {
                    self.refuse(path, Aim::Value, format!("`{path}` must not be empty"), None);
                }
            }
            _ => {}
        }
    }

    fn range(&mut self, number: f64, schema: &Schema, path: &str) {
        let bound = |word: &str| schema.get(word).and_then(Schema::as_f64);
        let (least, most) = (bound("minimum"), bound("maximum"));
        let (above, below) = (bound("exclusiveMinimum"), bound("exclusiveMaximum"));
        let inside = number.is_finite()
            && least.is_none_or(|least| number >= least)
            && most.is_none_or(|most| number <= most)
            && above.is_none_or(|above| number > above)
            && below.is_none_or(|below| number < below);
        if inside {
            return;
        }
        let mut limits = Vec::new();
        limits.extend(least.map(|n| format!("at least {n}")));
        limits.extend(above.map(|n| format!("more than {n}")));
        limits.extend(most.map(|n| format!("at most {n}")));
        limits.extend(below.map(|n| format!("less than {n}")));
        if limits.is_empty() {
            limits.push("a finite number".to_owned());
        }
        let message = format!("`{path}` must be {}, not {number}", limits.join(" and "));
        self.refuse(path, Aim::Value, message, example(schema));
    }
}

/// The alternative of a tagged table that its tag selects, or the only one if there is no tag. Otherwise the
/// tag and its words.
fn variant<'a>(
    table: &toml::Table,
    alternatives: &[&'a Schema],
) -> Result<&'a Schema, (String, Vec<&'a str>)> {
    let mut known = (String::new(), Vec::new());
    for &schema in alternatives {
        let properties = schema.get("properties").and_then(Schema::as_object);
        let tag = properties.and_then(|properties| {
            properties.iter().find_map(|(key, s)| Some((key, s.get("const")?.as_str()?)))
        });
        match tag {
            None => return Ok(schema),
            Some((key, word)) if table.get(key).and_then(Value::as_str) == Some(word) => return Ok(schema),
            Some((key, word)) => {
                known.0.clone_from(key);
                known.1.push(word);
            }
        }
    }
    Err(known)
}

fn fits(value: &Value, json_type: &str) -> bool {
    match json_type {
        "integer" => value.is_integer(),
        "number" => value.is_integer() || value.is_float(),
        "string" => value.is_str(),
        "boolean" => value.is_bool(),
        "array" => value.is_array(),
        "object" => value.is_table(),
        _ => false,
    }
}

fn described(type_name: &str) -> &'static str {
    match type_name {
        "integer" => "an integer",
        "number" => "a number",
        "float" => "a floating-point number",
        "string" => "a string in quotes",
        "boolean" => "true or false",
        "array" => "a list [ … ]",
        "object" | "table" => "a section of keys",
        _ => "another type of value",
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 { format!("{}…", text.chars().take(60).collect::<String>()) } else { text }
}

fn quoted_list(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

fn example(schema: &Schema) -> Option<String> {
    let default = schema.get("default").filter(|value| !value.is_null())?;
    Some(format!("the default is {default}"))
}

/// The candidate closest to `given`, unless none is close enough.
pub(crate) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase().replace('-', "_");
    candidates
        .map(|candidate| {
            (strsim::jaro_winkler(&given, &candidate.to_lowercase().replace('-', "_")), candidate)
        })
        .filter(|(score, _)| *score > 0.78)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn nearest_help<'a>(key: &str, path: &str, here: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(key, here.clone()) {
        return format!("the nearest valid key is `{near}`");
    }
    // Keys of another section are the other common mistake.
    if let Some(Schema::Object(properties)) = json_schema().get("properties") {
        for (section, schema) in properties {
            if section != path && schema.get("properties").and_then(|inner| inner.get(key)).is_some() {
                return format!("`{key}` belongs to [{section}]");
            }
        }
    }
    format!("valid keys: {}", here.collect::<Vec<_>>().join(", "))
}
