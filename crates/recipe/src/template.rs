//! Recipe templates with every key, its meaning and its default, as written by `text2llm new`.

use serde_json::Value;

use crate::Recipe;
use crate::schema::{alternatives, json_schema, types, words};

const WIDTH: usize = 100;

/// A commented recipe called `name`. Keys of `example` (a recipe's text) are active; all others are commented
/// out with their defaults. Every line of the form `#key = value` is valid when uncommented.
pub fn commented(name: &str, example: &str) -> String {
    let chosen: toml::Table = toml::from_str(example).unwrap_or_default();
    let mut out = String::from(
        "# A text2llm recipe. A commented line such as `#seed = 42` shows a key's default. Uncomment it to\n\
         # change the value. `#key =` has no default; give it a value. `#key = {}` is an optional table\n\
         # with keys of its own.\n\
         # Estimate size, memory and time:   text2llm plan\n\
         # Train the model:                  text2llm run\n\n",
    );
    out.push_str(&format!("name = {}\n", toml::Value::String(name.to_owned())));
    let Some(Value::Object(properties)) = json_schema().get("properties") else { return out };
    let no_keys = toml::Table::new();
    let always = Recipe::default().to_value();
    for (section, schema) in properties {
        let Some(Value::Object(keys)) = schema.get("properties") else { continue };
        out.push('\n');
        comment(&mut out, schema);
        // A section that does something by being there.
        if always.get(section).is_none() && !chosen.contains_key(section) {
            out.push_str(&format!("# [{section}] is not used here; the example finetune shows its keys.\n"));
            continue;
        }
        out.push_str(&format!("[{section}]\n"));
        let chosen = chosen.get(section).and_then(toml::Value::as_table).unwrap_or(&no_keys);
        for (key, schema) in keys {
            comment(&mut out, schema);
            if let Some(value) = chosen.get(key) {
                out.push_str(&format!("{key} = {value}\n"));
                continue;
            }
            let default = schema.get("default").filter(|value| !value.is_null());
            match default.and_then(|value| toml::Value::try_from(value).ok()) {
                Some(value) => out.push_str(&format!("#{key} = {value}\n")),
                None if is_optional_table(section, key, schema) => out.push_str(&format!("#{key} = {{}}\n")),
                None => out.push_str(&format!("#{key} =\n")),
            }
        }
    }
    out
}

/// Whether `key = {}` is valid: a table none of whose keys is required.
fn is_optional_table(section: &str, key: &str, schema: &Value) -> bool {
    alternatives(schema).iter().any(|schema| types(schema) == ["object"])
        && Recipe::load("", &format!("[{section}]\n{key} = {{}}\n"), &[]).is_ok()
}

fn comment(out: &mut String, schema: &Value) {
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let mut text = description.replace('\n', " ");
    if let Some(words) = words(schema) {
        text.push_str(&format!(" One of: {}.", words.join(", ")));
    } else if let Some(range) = alternatives(schema).first().and_then(|schema| range(schema)) {
        text.push_str(&format!(" Range: {range}."));
    }
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    if line.len() > 1 {
        out.push_str(&line);
        out.push('\n');
    }
}

fn range(schema: &Value) -> Option<String> {
    let bound = |word: &str| schema.get(word).and_then(Value::as_f64);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        (Some(least), None) if least > 0.0 => Some(format!("at least {least}")),
        _ => None,
    }
}
