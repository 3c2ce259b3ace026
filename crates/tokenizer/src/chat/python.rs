//! Values as Python prints them: `str`, `repr` and `json.dumps`.
//!
//! Templates are written for Jinja in Python: what they print of numbers, lists and objects, and the spaces
//! and number formats of `tojson`, are part of what a model was trained on.

use std::fmt::{self, Write};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use unicode_normalization::char::is_combining_mark;

/// Values nest no deeper than this.
const DEEPEST: usize = 100;

/// Writes a value as `str(value)`; undefined is empty, as in Jinja.
pub(crate) fn write_str(out: &mut dyn Write, state: &State, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text).map_err(failed),
        None if value.is_undefined() => Ok(()),
        None => write_repr(out, state, value, 0),
    }
}

/// Writes a value as `repr(value)`.
fn write_repr(out: &mut dyn Write, state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    spend(state, value, depth)?;
    if let Some(text) = value.as_str() {
        return write_string(out, text).map_err(failed);
    }
    match value.kind() {
        ValueKind::Number => write_number(out, value).map_err(failed),
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.write_char(open).map_err(failed)?;
            let mut count = 0;
            for item in value.try_iter()?.checked() {
                if count > 0 {
                    out.write_str(", ").map_err(failed)?;
                }
                write_repr(out, state, &item?, depth + 1)?;
                count += 1;
            }
            if value.is_tuple() && count == 1 {
                out.write_char(',').map_err(failed)?;
            }
            out.write_char(close).map_err(failed)
        }
        ValueKind::Map => {
            out.write_char('{').map_err(failed)?;
            for (i, key) in value.try_iter()?.checked().enumerate() {
                let key = key?;
                if i > 0 {
                    out.write_str(", ").map_err(failed)?;
                }
                write_repr(out, state, &key, depth + 1)?;
                out.write_str(": ").map_err(failed)?;
                write_repr(out, state, &value.get_item(&key)?, depth + 1)?;
            }
            out.write_char('}').map_err(failed)
        }
        // None, True, False; and what only templates that look around print.
        _ => write!(out, "{value}").map_err(failed),
    }
}

fn failed(_: fmt::Error) -> Error {
    Error::new(ErrorKind::WriteFailure, "the text is too long")
}

/// Printing costs fuel by item, before the text is charged by its bytes.
fn spend(state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value is nested too deeply to be printed"));
    }
    state.consume_fuel(1 + value.as_str().map_or(0, |text| text.len() as u64 / 64))
}

/// The shortest digits that read back as the same number, laid out as Python does.
fn write_number(out: &mut dyn Write, value: &Value) -> fmt::Result {
    if value.is_integer() {
        return write!(out, "{value}");
    }
    match f64::try_from(value.clone()) {
        Ok(number) => out.write_str(&float(number)),
        Err(_) => write!(out, "{value}"),
    }
}

/// `repr(float)`: fixed from 1e-4 to 1e16, scientific with two digits of exponent outside.
pub(crate) fn float(number: f64) -> String {
    if !number.is_finite() {
        return match (number.is_nan(), number > 0.0) {
            (true, _) => "nan".into(),
            (false, true) => "inf".into(),
            (false, false) => "-inf".into(),
        };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let fixed = format!("{number}");
        return if fixed.contains('.') { fixed } else { fixed + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `repr(str)`.
fn write_string(out: &mut dyn Write, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            c if c == quote => write!(out, "\\{c}")?,
            c if is_printable(c) => out.write_char(c)?,
            c if u32::from(c) <= 0xff => write!(out, "\\x{:02x}", u32::from(c))?,
            c if u32::from(c) <= 0xffff => write!(out, "\\u{:04x}", u32::from(c))?,
            c => write!(out, "\\U{:08x}", u32::from(c))?,
        }
    }
    out.write_char(quote)
}

/// `str.isprintable`: not a control, format, surrogate, private or unassigned character, nor a separator
/// other than the space.
fn is_printable(c: char) -> bool {
    // The standard library's escapes are those characters, and combining marks.
    c == ' ' || (c.is_ascii() && !c.is_control()) || is_combining_mark(c) || {
        let mut escaped = c.escape_debug();
        escaped.next() == Some(c)
    }
}

/// The `tojson` filter: `json.dumps(value, ensure_ascii=False, indent=…, separators=…, sort_keys=…)`.
pub(crate) fn tojson(
    state: &State,
    value: &Value,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => kwargs.get::<Option<Value>>("indent")?,
    };
    let indent = match indent {
        None => None,
        Some(value) if value.is_none() => None,
        Some(value) => Some(match value.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(value).unwrap_or(0).min(64)),
        }),
    };
    let separators = match kwargs.get::<Option<Value>>("separators")?.filter(|value| !value.is_none()) {
        Some(pair) => {
            let part = |i: usize| {
                let part = pair.get_item_by_index(i)?;
                let text = part.as_str().map(str::to_owned);
                text.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "separators must be two strings"))
            };
            (part(0)?, part(1)?)
        }
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let dump = Dump {
        state,
        indent,
        separators,
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    let mut text = String::new();
    dump.write(&mut text, value, 0)?;
    Ok(Value::from(text))
}

struct Dump<'a, 's> {
    state: &'a State<'s, 's>,
    indent: Option<String>,
    separators: (String, String),
    sort_keys: bool,
    ensure_ascii: bool,
}

impl Dump<'_, '_> {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        spend(self.state, value, depth)?;
        if let Some(text) = value.as_str() {
            write_json_string(out, text, self.ensure_ascii);
            return Ok(());
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&json_number(value)),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
                self.list(out, '[', ']', items.len(), depth, |out, i| self.write(out, &items[i], depth + 1))?;
            }
            ValueKind::Map => {
                let keys: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
                let mut entries = Vec::with_capacity(keys.len());
                for key in keys {
                    entries.push((self.key(&key)?, value.get_item(&key)?));
                }
                if self.sort_keys {
                    entries.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.list(out, '{', '}', entries.len(), depth, |out, i| {
                    let (key, item) = &entries[i];
                    write_json_string(out, key, self.ensure_ascii);
                    out.push_str(&self.separators.1);
                    self.write(out, item, depth + 1)
                })?;
            }
            kind => {
                let message = format!("a value of type {kind} cannot be written as JSON");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        }
        Ok(())
    }

    /// Keys that are not strings are written as `json.dumps` converts them.
    fn key(&self, key: &Value) -> Result<String, Error> {
        match (key.as_str(), key.kind()) {
            (Some(text), _) => Ok(text.to_owned()),
            (None, ValueKind::None) => Ok("null".into()),
            (None, ValueKind::Bool) => Ok(key.is_true().to_string()),
            (None, ValueKind::Number) => Ok(json_number(key)),
            _ => Err(Error::new(ErrorKind::BadSerialization, "keys of JSON must be strings")),
        }
    }

    fn list(
        &self,
        out: &mut String,
        open: char,
        close: char,
        count: usize,
        depth: usize,
        mut write: impl FnMut(&mut String, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let new_line = |out: &mut String, depth: usize| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                (0..depth).for_each(|_| out.push_str(indent));
            }
        };
        out.push(open);
        for i in 0..count {
            if i > 0 {
                out.push_str(&self.separators.0);
            }
            new_line(out, depth + 1);
            write(out, i)?;
        }
        if count > 0 {
            new_line(out, depth);
        }
        out.push(close);
        Ok(())
    }
}

fn json_number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(number) if number.is_nan() => "NaN".into(),
        Ok(number) if number.is_infinite() => if number > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        Ok(number) => float(number),
        Err(_) => value.to_string(),
    }
}

/// A string as `json.dumps` writes it.
pub(crate) fn write_json_string(out: &mut String, text: &str, ensure_ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (ensure_ascii && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_pythons() {
        for (number, wanted) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (3.25, "3.25"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.25e-7, "1.25e-07"),
            (123456789.125, "123456789.125"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float(number), wanted);
        }
    }

    #[test]
    fn strings_are_pythons() {
        for (text, wanted) in [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("\"it's\"", "'\"it\\'s\"'"),
            ("a\n\t\r\\", "'a\\n\\t\\r\\\\'"),
            ("\u{0}\u{7f}\u{a0}\u{ad}", "'\\x00\\x7f\\xa0\\xad'"),
            ("é\u{301}日🙂", "'é\u{301}日🙂'"),
            ("\u{200b}\u{e000}\u{2028}", "'\\u200b\\ue000\\u2028'"),
            ("\u{f0000}", "'\\U000f0000'"),
        ] {
            let mut out = String::new();
            write_string(&mut out, text).unwrap();
            assert_eq!(out, wanted);
        }
    }
}
