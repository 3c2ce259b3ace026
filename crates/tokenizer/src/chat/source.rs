//! The source of a template, before minijinja reads it.
//!
//! `{% generation %}` … `{% endgeneration %}`, which transformers uses to mark what is trained and nothing
//! else knows, becomes a block without an effect: spans come from rendering. Attributes with two leading
//! underscores, which only serve to climb out of a sandbox, are refused as transformers refuses them.
//!
//! Every value that is assigned passes through [`BOUNDED`] (see `bounds`).

/// The function that refuses values without bounds.
pub(crate) const BOUNDED: &str = "_bounded";
/// The same for values within a namespace, which must not be namespaces.
pub(crate) const BOUNDED_ITEM: &str = "_bounded_item";

/// The source for programs that do not know generation marks: each becomes an `if` that always holds, so that
/// white space is trimmed around it as before.
pub(crate) fn without_generation_marks(source: &str) -> String {
    let replaced = rewrite(source, |tag, close| {
        Ok(match keyword(tag, close) {
            "generation" => Some(tag.replacen("generation", "if true", 1)),
            "endgeneration" => Some(tag.replacen("endgeneration", "endif", 1)),
            _ => None,
        })
    });
    replaced.unwrap_or_else(|_| source.to_owned())
}

/// The source with its tags replaced: `replacement` gets each with what closes it; `None` leaves it as it is.
fn rewrite(
    source: &str,
    replacement: impl Fn(&str, &str) -> Result<Option<String>, String>,
) -> Result<String, String> {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(close) = close_of(rest) else {
            out.push('{');
            rest = &rest[1..];
            continue;
        };
        let tag = &rest[..tag_length(rest, close)];
        rest = &rest[tag.len()..];
        match replacement(tag, close)? {
            Some(replaced) => out.push_str(&replaced),
            None => out.push_str(tag),
        }
        if keyword(tag, close) == "raw" {
            // Up to the end tag everything is text.
            let end = raw_length(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What closes the tag that `text` begins with, if it begins with one.
fn close_of(text: &str) -> Option<&'static str> {
    match text.as_bytes().get(1) {
        Some(b'#') => Some("#}"),
        Some(b'{') => Some("}}"),
        Some(b'%') => Some("%}"),
        _ => None,
    }
}

/// The source with its generation marks replaced, or the name of a forbidden attribute.
pub(crate) fn prepare(source: &str) -> Result<String, String> {
    rewrite(source, |tag, close| {
        if close != "#}" {
            refuse_underscores(tag)?;
        }
        Ok(match keyword(tag, close) {
            "generation" => Some(tag.replacen("generation", "with", 1)),
            "endgeneration" => Some(tag.replacen("endgeneration", "endwith", 1)),
            "set" => Some(bound_assignment(tag)),
            "macro" => Some(format!("{tag}{}", bound_parameters(tag))),
            _ => None,
        })
    })
}

/// Length of the tag that `text` begins with; all of it if the tag does not end.
fn tag_length(text: &str, close: &str) -> usize {
    if close == "#}" {
        return text[2..].find(close).map_or(text.len(), |end| end + 4);
    }
    let bytes = text.as_bytes();
    let mut at = 2;
    let mut braces = 0;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' => braces += 1,
            // "}}" inside a dictionary closes the dictionary first.
            b'}' if braces > 0 => braces -= 1,
            _ if text.as_bytes()[at..].starts_with(close.as_bytes()) => return at + 2,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The keyword of a block tag.
fn keyword<'t>(tag: &'t str, close: &str) -> &'t str {
    let inner = if close == "%}" { inside(tag).1.trim_start() } else { "" };
    inner.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// A block tag's opening, content and closing, with white-space control.
fn inside(tag: &str) -> (&str, &str, &str) {
    let control = |at: usize| usize::from(matches!(tag.as_bytes().get(at), Some(b'-' | b'+')));
    let open = 2 + control(2);
    if !tag.ends_with("%}") || tag.len() < open + 2 {
        return (tag, "", "");
    }
    let end = tag.len() - 2;
    let end = if end > open { end - control(end - 1) } else { end };
    (&tag[..open], &tag[open..end], &tag[end..])
}

/// `set x = value` as `set x = _bounded((value))`; a block's `set x` as it is, since it makes text.
fn bound_assignment(tag: &str) -> String {
    let (open, content, close) = inside(tag);
    match content.split_once('=') {
        Some((target, value)) if !value.starts_with('=') => {
            let function = if target.contains('.') { BOUNDED_ITEM } else { BOUNDED };
            format!("{open}{target}= {function}(({value})) {close}")
        }
        _ => tag.to_owned(),
    }
}

/// For each parameter of a macro, an assignment that bounds it.
fn bound_parameters(tag: &str) -> String {
    let (_, content, close) = inside(tag);
    let Some((_, parameters)) = content.split_once('(') else { return String::new() };
    let mut depth = 0;
    let mut names = vec![String::new()];
    for c in parameters.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => names.push(String::new()),
            c => names.last_mut().into_iter().for_each(|name| name.push(c)),
        }
    }
    let names = names.iter().map(|name| name.split('=').next().unwrap_or_default().trim());
    let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    names.filter(is_name).map(|name| format!("{{% set {name} = {BOUNDED_ITEM}({name}) {close}")).collect()
}

/// Length of the text up to the `{% endraw %}` tag.
fn raw_length(text: &str) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find("{%") {
        let start = from + at;
        let length = tag_length(&text[start..], "%}");
        if keyword(&text[start..start + length], "%}") == "endraw" {
            return start;
        }
        from = start + 2;
    }
    text.len()
}

/// An attribute such as `.__class__` outside of strings.
fn refuse_underscores(tag: &str) -> Result<(), String> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in tag.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '.' && tag[at + 1..].trim_start().starts_with("__") => {
                let name = tag[at + 1..].trim_start();
                let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
                return Err(name[..end].to_owned());
            }
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_marks_become_blocks_without_effect() {
        for (source, wanted) in [
            ("a{% generation %}b{% endgeneration %}c", "a{% with %}b{% endwith %}c"),
            ("{%- generation -%}{{ x }}{%+ endgeneration +%}", "{%- with -%}{{ x }}{%+ endwith +%}"),
            ("{%generation%}{%endgeneration%}", "{%with%}{%endwith%}"),
            (
                "{# {% generation %} #}{{ '{% generation %}' }}",
                "{# {% generation %} #}{{ '{% generation %}' }}",
            ),
            ("{% raw %}{% generation %}{% endraw %}{", "{% raw %}{% generation %}{% endraw %}{"),
            ("{{ {'a': {'b': 1}} }}{% if generation %}", "{{ {'a': {'b': 1}} }}{% if generation %}"),
            ("{{ 'it\\'s }}' }}{% generation %}", "{{ 'it\\'s }}' }}{% with %}"),
            ("{{ unfinished", "{{ unfinished"),
            ("{% raw %}unfinished", "{% raw %}unfinished"),
            ("{{ '\\", "{{ '\\"),
        ] {
            assert_eq!(prepare(source).as_deref(), Ok(wanted));
        }
    }

    #[test]
    fn other_programs_get_conditions_that_hold_instead_of_generation_marks() {
        for (source, wanted) in [
            ("a{%- generation -%}b{% endgeneration %}c{", "a{%- if true -%}b{% endif %}c{"),
            (
                "{# {% generation %} #}{% set x = 1 %}{% raw %}{% generation %}{% endraw %}",
                "{# {% generation %} #}{% set x = 1 %}{% raw %}{% generation %}{% endraw %}",
            ),
        ] {
            assert_eq!(without_generation_marks(source), wanted);
        }
    }

    #[test]
    fn assigned_values_are_bounded() {
        for (source, wanted) in [
            ("{% set x = 1 %}", "{% set x = _bounded(( 1 )) %}"),
            (
                "{%- set n.x = a if b == c else d -%}",
                "{%- set n.x = _bounded_item(( a if b == c else d )) -%}",
            ),
            ("{% set a, b = 1, 2 %}", "{% set a, b = _bounded(( 1, 2 )) %}"),
            ("{% set x %}text{% endset %}", "{% set x %}text{% endset %}"),
            ("{% setting = 1 %}{%%}{%-%}", "{% setting = 1 %}{%%}{%-%}"),
            (
                "{% macro f(a, b=[1, 2]) -%}",
                "{% macro f(a, b=[1, 2]) -%}{% set a = _bounded_item(a) -%}{% set b = _bounded_item(b) -%}",
            ),
            ("{% macro f() %}", "{% macro f() %}"),
        ] {
            assert_eq!(prepare(source).as_deref(), Ok(wanted));
        }
    }

    #[test]
    fn attributes_with_underscores_are_refused() {
        assert_eq!(prepare("{{ ''.__class__.x }}"), Err("__class__".into()));
        assert_eq!(prepare("{% if a . __init__ %}"), Err("__init__".into()));
        assert!(prepare("{{ '.__class__' }} .__class__ {# .__class__ #}").is_ok());
    }
}
