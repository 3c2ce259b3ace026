//! JSON lines: an object a line, its text in one field.

use std::io::{BufRead, BufReader, Read};

use serde_json::Value;

use super::text::skip_line;
use super::{Outcome, Row, Sink, Unusable, Verdict};
use crate::clean;

/// Reads a file of JSON lines. A line that cannot be used is passed over and listed; a file without a usable line is
/// unusable.
pub fn read(bytes: &mut dyn Read, name: &str, sink: &mut Sink<'_>) -> Outcome<Verdict> {
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
        Some((line, reason)) if used == 0 => {
            Err(Unusable(format!("no line can be used; line {line} {reason}")))
        }
        None if used == 0 => Err(Unusable("holds no line of JSON".to_owned())),
        _ => Ok(()),
    })
}

/// What a line gives, or why it gives nothing.
fn parse(line: Vec<u8>, sink: &mut Sink<'_>) -> Result<Row, String> {
    let (line, repaired) = clean::repair(line);
    sink.counts.repaired_sequences += repaired;
    let mut value: Value = serde_json::from_str(&line).map_err(|error| format!("is not JSON: {error}"))?;
    let Value::Object(fields) = &mut value else { return Err("is not a JSON object".to_owned()) };
    let text_field = sink.text_field;
    let text = match fields.get_mut(text_field).map(Value::take) {
        Some(Value::String(text)) => text,
        Some(_) => return Err(format!("has a `{text_field}` that is not a string: check data.text_field")),
        None => {
            let names: Vec<&str> = fields.keys().take(10).map(String::as_str).collect();
            return Err(format!(
                "has no field `{text_field}` (it has: {}): set data.text_field",
                names.join(", ")
            ));
        }
    };
    let named = |field: &str| fields.get(field).and_then(Value::as_str);
    Ok(Row::new(text, named(&sink.options.language_field), named(&sink.options.url_field)))
}
