//! Arguments against a tool's JSON Schema.
//!
//! Checked: `type` (a name or a list of names), `nullable`, `enum`, `const`, `required`, `properties`,
//! `additionalProperties` (false or a schema), `items`, `minItems`, `maxItems`, `minimum`, `maximum`,
//! `exclusiveMinimum`, `exclusiveMaximum`, `minLength`, `maxLength`, `anyOf`, `oneOf` (as `anyOf`) and
//! `allOf`. Anything else, `pattern`, `format` and `$ref` included, is not checked, and an unknown `type`
//! (`dict`, `float` and such occur in the wild) matches everything.

use serde_json::Value;

/// Schemas from strangers nest no deeper than this.
const DEEPEST: usize = 64;

/// Every mismatch as (path below `path`, message).
pub(crate) fn check(schema: &Value, value: &Value, path: &str) -> Vec<(String, String)> {
    let mut mismatches = Vec::new();
    visit(schema, value, path, 0, &mut mismatches);
    mismatches
}

fn visit(schema: &Value, value: &Value, path: &str, depth: usize, found: &mut Vec<(String, String)>) {
    if depth > DEEPEST || (value.is_null() && schema["nullable"] == true) {
        return;
    }
    let mut fail = |message: String| found.push((path.to_owned(), message));
    if let Some(names) = type_names(&schema["type"])
        && !names.iter().any(|name| has_type(value, name))
    {
        // What follows would only repeat it.
        return fail(format!("{} is not of type {}", short(value), names.join(" or ")));
    }
    if let Some(choices) = schema["enum"].as_array()
        && !choices.iter().any(|choice| same(choice, value))
    {
        let choices: Vec<String> = choices.iter().take(12).map(short).collect();
        fail(format!("{} is none of {}", short(value), choices.join(", ")));
    }
    if let Some(wanted) = schema.get("const")
        && !same(wanted, value)
    {
        fail(format!("{} is not {}", short(value), short(wanted)));
    }
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            let mut limit = |key: &str, fits: fn(&f64, &f64) -> bool| {
                if let Some(limit) = schema[key].as_f64()
                    && !fits(&number, &limit)
                {
                    fail(format!("{} violates {key} {limit}", short(value)));
                }
            };
            limit("minimum", f64::ge);
            limit("maximum", f64::le);
            limit("exclusiveMinimum", f64::gt);
            limit("exclusiveMaximum", f64::lt);
        }
        Value::String(text) => {
            check_count(schema, "minLength", "maxLength", text.chars().count(), "characters", &mut fail);
        }
        Value::Array(items) => {
            check_count(schema, "minItems", "maxItems", items.len(), "items", &mut fail);
            if schema["items"].is_object() {
                for (i, item) in items.iter().enumerate() {
                    visit(&schema["items"], item, &format!("{path}[{i}]"), depth + 1, found);
                }
            }
        }
        Value::Object(_) => visit_object(schema, value, path, depth, found),
        Value::Null | Value::Bool(_) => {}
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        visit(part, value, path, depth + 1, found);
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(parts) = schema[key].as_array()
            && !parts.is_empty()
        {
            let fits = |part: &Value| {
                let mut mismatches = Vec::new();
                visit(part, value, path, depth + 1, &mut mismatches);
                mismatches.is_empty()
            };
            if !parts.iter().any(fits) {
                found.push((path.to_owned(), format!("{} fits no schema of {key}", short(value))));
            }
        }
    }
}

fn visit_object(schema: &Value, value: &Value, path: &str, depth: usize, found: &mut Vec<(String, String)>) {
    let Some(object) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            found.push((path.to_owned(), format!("the required `{name}` is missing")));
        }
    }
    let properties = schema["properties"].as_object();
    let others = schema.get("additionalProperties");
    for (key, item) in object {
        let path = format!("{path}.{key}");
        match (properties.and_then(|properties| properties.get(key)), others) {
            (Some(schema), _) => visit(schema, item, &path, depth + 1, found),
            (None, Some(Value::Bool(false))) => {
                found.push((path, format!("`{key}` is not a parameter")));
            }
            (None, Some(schema @ Value::Object(_))) => visit(schema, item, &path, depth + 1, found),
            (None, _) => {}
        }
    }
}

fn check_count(
    schema: &Value,
    least: &str,
    most: &str,
    count: usize,
    unit: &str,
    fail: &mut impl FnMut(String),
) {
    if let Some(least) = schema[least].as_u64()
        && (count as u64) < least
    {
        fail(format!("has {count} {unit}, fewer than {least}"));
    }
    if let Some(most) = schema[most].as_u64()
        && count as u64 > most
    {
        fail(format!("has {count} {unit}, more than {most}"));
    }
}

/// The names in `type`, if all are known.
fn type_names(value: &Value) -> Option<Vec<&str>> {
    let names: Vec<&str> = match value {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().map(Value::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    let known = ["string", "number", "integer", "boolean", "array", "object", "null"];
    (!names.is_empty() && names.iter().all(|name| known.contains(name))).then_some(names)
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "number" => value.is_number(),
        // As the specification says, 3.0 is an integer.
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => value.is_null(),
    }
}

/// Equality of JSON: 1 and 1.0 are the same number.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// A value in an error message.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keywords_are_checked() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string", "minLength": 1, "maxLength": 5},
                "unit": {"type": "string", "enum": ["c", "f"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
                "share": {"type": ["number", "null"], "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
                "where": {"anyOf": [{"type": "string"}, {"type": "object", "required": ["lat"]}]},
                "both": {"allOf": [{"minimum": 1}, {"maximum": 3}]},
                "fixed": {"const": 4},
                "odd": {"type": "float"},
                "maybe": {"type": "string", "nullable": true},
            },
            "required": ["city"],
            "additionalProperties": false,
        });
        let check = |value: Value| -> Vec<String> {
            super::check(&schema, &value, "a").into_iter().map(|(path, m)| format!("{path}: {m}")).collect()
        };
        let good = json!({
            "city": "Paris", "unit": "c", "days": 3.0, "share": null, "tags": ["a"], "where": {"lat": 1},
            "both": 2, "fixed": 4.0, "odd": [], "maybe": null,
        });
        assert_eq!(check(good), Vec::<String>::new());
        for (bad, wanted) in [
            (json!({}), "a: the required `city` is missing"),
            (json!({"city": 3}), "a.city: `3` is not of type string"),
            (json!({"city": ""}), "a.city: has 0 characters, fewer than 1"),
            (json!({"city": "London"}), "a.city: has 6 characters, more than 5"),
            (json!({"city": "x", "unit": "k"}), "a.unit: `\"k\"` is none of `\"c\"`, `\"f\"`"),
            (json!({"city": "x", "days": 1.5}), "a.days: `1.5` is not of type integer"),
            (json!({"city": "x", "days": 8}), "a.days: `8` violates maximum 7"),
            (json!({"city": "x", "days": 0}), "a.days: `0` violates minimum 1"),
            (json!({"city": "x", "share": 0}), "a.share: `0` violates exclusiveMinimum 0"),
            (json!({"city": "x", "share": 1}), "a.share: `1` violates exclusiveMaximum 1"),
            (json!({"city": "x", "share": "1"}), "a.share: `\"1\"` is not of type number or null"),
            (json!({"city": "x", "tags": []}), "a.tags: has 0 items, fewer than 1"),
            (json!({"city": "x", "tags": ["a", 2]}), "a.tags[1]: `2` is not of type string"),
            (json!({"city": "x", "where": {}}), "a.where: `{}` fits no schema of anyOf"),
            (json!({"city": "x", "both": 4}), "a.both: `4` violates maximum 3"),
            (json!({"city": "x", "fixed": 5}), "a.fixed: `5` is not `4`"),
            (json!({"city": "x", "town": 1}), "a.town: `town` is not a parameter"),
        ] {
            assert_eq!(check(bad), [wanted]);
        }
    }

    #[test]
    fn a_deep_schema_ends() {
        let mut schema = json!({"type": "array"});
        let mut value = json!([]);
        for _ in 0..100 {
            schema = json!({"type": "array", "items": schema, "anyOf": [{"type": "array"}]});
            value = json!([value]);
        }
        assert_eq!(check(&schema, &value, "a"), []);
    }
}
