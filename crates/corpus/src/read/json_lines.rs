//! JSON lines: an object a line, its text in one field. Fields that are not asked for are passed over, never
//! held: a value may take sixteen times its bytes.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::outcome::{Outcome, Readable, Unusable};
use super::sink::{Row, Sink};
use super::text::skip_line;
use crate::clean;

/// Reads a file of JSON lines. A line that cannot be used is passed over and listed; a file without a usable
/// line is unusable.
pub fn read(bytes: &mut dyn Read, name: &str, sink: &mut Sink<'_>) -> Outcome<Readable> {
    // JSON may need six bytes for one of text ("\u00e9" for é).
    let longest_line = sink.options.maximum_document_bytes.saturating_mul(6);
    let mut lines = BufReader::with_capacity(1 << 20, bytes);
    let (mut number, mut used, mut first_reason) = (0u64, 0u64, None);
    loop {
        let mut line = Vec::new();
        number += 1;
        let read = lines.by_ref().take(longest_line as u64 + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let reason = if line.len() > longest_line {
            skip_line(&mut lines)?;
            Some("is longer than six times data.maximum_document_bytes".to_owned())
        } else if line.iter().all(u8::is_ascii_whitespace) {
            None
        } else {
            match parse(line, sink) {
                Ok(line) => {
                    used += 1;
                    sink.row(line, &format!("{name}:{number}"))?;
                    None
                }
                Err(reason) => Some(reason),
            }
        };
        if let Some(reason) = reason {
            first_reason.get_or_insert_with(|| (number, reason.clone()));
            sink.pass_over(&format!("{name}:{number}"), reason)?;
        }
    }
    Ok(match first_reason {
        Some((line, reason)) if used == 0 => Err(Unusable(format!("no usable line; line {line} {reason}"))),
        None if used == 0 => Err(Unusable("contains no JSON line".to_owned())),
        _ => Ok(()),
    })
}

/// What a line gives, or why it gives nothing.
pub fn parse(line: Vec<u8>, sink: &mut Sink<'_>) -> Result<Row, String> {
    let (line, repaired) = clean::repair(line);
    sink.counts.repaired_sequences += repaired;
    let not_json = |error: serde_json::Error| format!("is not JSON: {error}");
    if !line.trim_start().starts_with('{') {
        serde_json::from_str::<IgnoredAny>(&line).map_err(not_json)?;
        return Err("is not a JSON object".to_owned());
    }
    let (text_field, options) = (sink.text_field, sink.options);
    let wanted = [text_field, &options.language_field, &options.url_field];
    let mut reader = serde_json::Deserializer::from_str(&line);
    let Fields { values: [text, language, url], names } =
        (&mut reader).deserialize_map(Wanted(wanted)).map_err(not_json)?;
    reader.end().map_err(not_json)?;
    match text {
        Some(Field::Text(text)) => Ok(Row::new(text, Field::text(&language), Field::text(&url))),
        Some(Field::Other) => {
            Err(format!("has a `{text_field}` that is not a string: check data.text_field"))
        }
        None => {
            let names: String = names.join(", ").chars().take(LONGEST_NAMES).collect();
            Err(format!("has no field `{text_field}` (it has: {names}): set data.text_field"))
        }
    }
}

/// Names of fields that are told where the one that is asked for is missing.
const TOLD_NAMES: usize = 10;
const LONGEST_NAMES: usize = 200;

/// Takes the fields of these names, whose values are of any type.
struct Wanted<'a>([&'a str; 3]);

/// The fields that were asked for (of one that comes twice, the last), and the first names.
#[derive(Default)]
struct Fields {
    values: [Option<Field>; 3],
    names: Vec<String>,
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
        let mut fields = Fields::default();
        while let Some(mut name) = map.next_key::<String>()? {
            match self.0.iter().position(|&wanted| wanted == name) {
                Some(at) => fields.values[at] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
            if fields.names.len() < TOLD_NAMES && !fields.names.contains(&name) {
                name.truncate(name.floor_char_boundary(LONGEST_NAMES));
                fields.names.push(name);
            }
        }
        Ok(fields)
    }
}

/// A field's value, as far as it matters.
enum Field {
    Text(String),
    Other,
}

impl Field {
    fn text(field: &Option<Field>) -> Option<&str> {
        match field {
            Some(Field::Text(text)) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Field, D::Error> {
        reader.deserialize_any(AnyField)
    }
}

struct AnyField;

impl<'de> Visitor<'de> for AnyField {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Field, E> {
        Ok(Field::Text(text))
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut values: S) -> Result<Field, S::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut fields: M) -> Result<Field, M::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Fields {
        serde_json::Deserializer::from_str(line).deserialize_map(Wanted(["text", "lang", "url"])).unwrap()
    }

    #[test]
    fn the_last_of_a_name_counts_and_others_are_named() {
        let found =
            fields(r#"{"text": "a", "lang": 7, "x": {"text": [1e999]}, "text": "b\u00e9", "x": null}"#);
        assert_eq!(Field::text(&found.values[0]), Some("bé"));
        assert!(matches!(found.values[1], Some(Field::Other)) && found.values[2].is_none());
        assert_eq!(found.names, ["text", "lang", "x"]);
        for other in ["null", "true", "-1", "2", "0.5", "[\"a\"]", "{\"a\": []}"] {
            assert!(
                matches!(fields(&format!("{{\"text\": {other}}}")).values[0], Some(Field::Other)),
                "{other}"
            );
        }
        assert_eq!(fields(&format!("{{\"{}\": 1}}", "é".repeat(500))).names[0].len(), LONGEST_NAMES);
    }
}
