//! JSON that is not a value a line: an array of objects, or objects one after another, over as many lines as
//! they like. Values are cut out one by one, so memory stays within one of them.

use std::io::{BufRead, BufReader, Read};

use super::json_lines;
use super::outcome::{Outcome, Readable, Unusable};
use super::sink::Sink;

/// Reads a file of JSON. A value that cannot be used is passed over and listed; a file without a usable one
/// is unusable.
pub fn read(bytes: &mut dyn Read, name: &str, sink: &mut Sink<'_>) -> Outcome<Readable> {
    // JSON may need six bytes for one of text, and indents what it nests.
    let longest = sink.options.maximum_document_bytes.saturating_mul(6);
    let mut values = Values { bytes: BufReader::with_capacity(1 << 20, bytes), longest, in_array: None };
    let (mut number, mut used, mut first_reason) = (0u64, 0u64, None);
    while let Some(value) = values.next()? {
        number += 1;
        let place = format!("{name}#{number}");
        let reason = match value {
            Some(value) => match json_lines::parse(value, sink) {
                Ok(row) => {
                    used += 1;
                    sink.row(row, &place)?;
                    continue;
                }
                Err(reason) => reason,
            },
            None => "is longer than six times data.maximum_document_bytes".to_owned(),
        };
        first_reason.get_or_insert_with(|| (number, reason.clone()));
        sink.pass_over(&place, reason)?;
    }
    Ok(match first_reason {
        Some((value, reason)) if used == 0 => {
            Err(Unusable(format!("no usable value; value {value} {reason}")))
        }
        None if used == 0 => Err(Unusable("contains no JSON value".to_owned())),
        _ => Ok(()),
    })
}

/// The values of a stream, told apart by brackets and quotes alone: whether one is JSON is its reader's to
/// say.
struct Values<R> {
    bytes: R,
    longest: usize,
    /// Whether they stand in an array; `None` before the first byte.
    in_array: Option<bool>,
}

impl<R: BufRead> Values<R> {
    /// The next value's bytes; the inner `None` for one that is too long.
    fn next(&mut self) -> std::io::Result<Option<Option<Vec<u8>>>> {
        let mut value = Vec::new();
        let (mut depth, mut in_text, mut escaped, mut length) = (0usize, false, false, 0usize);
        loop {
            let chunk = self.bytes.fill_buf()?;
            if chunk.is_empty() {
                // What is cut off is a value that its reader refuses.
                return Ok((length > 0).then_some((length <= self.longest).then_some(value)));
            }
            let (mut taken, mut ended) = (0, false);
            for &byte in chunk {
                taken += 1;
                if length == 0 {
                    match byte {
                        b'[' if self.in_array.is_none() => {
                            self.in_array = Some(true);
                            continue;
                        }
                        b',' | b' ' | b'\n' | b'\r' | b'\t' => continue,
                        b']' if self.in_array == Some(true) => continue,
                        _ => _ = self.in_array.get_or_insert(false),
                    }
                }
                let is_end = match byte {
                    _ if escaped => {
                        escaped = false;
                        false
                    }
                    b'\\' if in_text => {
                        escaped = true;
                        false
                    }
                    b'"' => {
                        in_text = !in_text;
                        !in_text && depth == 0
                    }
                    _ if in_text => false,
                    b'{' | b'[' => {
                        depth += 1;
                        false
                    }
                    b'}' | b']' if depth > 0 => {
                        depth -= 1;
                        depth == 0
                    }
                    // A number or a word ends before what does not belong to it.
                    b',' | b' ' | b'\n' | b'\r' | b'\t' | b']' | b'}' => depth == 0,
                    _ => false,
                };
                length += 1;
                if length <= self.longest {
                    value.push(byte);
                }
                if is_end {
                    ended = true;
                    break;
                }
            }
            self.bytes.consume(taken);
            if ended {
                return Ok(Some((length <= self.longest).then_some(value)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str, longest: usize, buffer: usize) -> Vec<Option<String>> {
        let bytes = BufReader::with_capacity(buffer, text.as_bytes());
        let mut values = Values { bytes, longest, in_array: None };
        let mut found = Vec::new();
        while let Some(value) = values.next().unwrap() {
            found.push(value.map(|value| String::from_utf8(value).unwrap()));
        }
        found
    }

    #[test]
    fn values_are_cut_out_of_arrays_and_of_what_follows_one_another() {
        for buffer in [1, 2, 3, 100] {
            let check = |text: &str, wanted: &[&str]| {
                let wanted: Vec<_> = wanted.iter().map(|&value| Some(value.to_owned())).collect();
                assert_eq!(values(text, 100, buffer), wanted, "{text}");
            };
            check("[{\"a\": 1},\n {\"b\": [2, \"]}\\\"\"]}]\n", &["{\"a\": 1}", "{\"b\": [2, \"]}\\\"\"]}"]);
            check("{\"a\":\n 1}\n{\"b\": {}}", &["{\"a\":\n 1}", "{\"b\": {}}"]);
            check("[\"x, y\", {}]", &["\"x, y\"", "{}"]);
            check("[]", &[]);
            check(" \n", &[]);
            check("[{\"a\": ", &["{\"a\": "]);
            assert_eq!(values("[{\"a\": \"long\"}, {}]", 5, buffer), [None, Some("{}".to_owned())]);
        }
    }
}
