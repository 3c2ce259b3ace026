//! References to hub datasets in recipes:
//! `hf://OWNER/NAME[@REVISION][/PATTERN][?split=…&config=…&column=…]`, or a short name.

use crate::{Error, Result};

/// Sets that are known by a name of their own.
const NAMED: [(&str, &str); 3] = [
    ("tinystories", "hf://roneneldan/TinyStories/data/train-*.parquet"),
    ("wikitext-2", "hf://Salesforce/wikitext/wikitext-2-raw-v1/train-*.parquet"),
    ("wikitext-103", "hf://Salesforce/wikitext/wikitext-103-raw-v1/train-*.parquet"),
];
const SCHEME: &str = "hf://";

/// A dataset, and which of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// As the recipe has it.
    pub entry: String,
    /// Owner and name.
    pub id: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// A glob over the paths of its files.
    pub pattern: Option<String>,
    /// The selected split; by default "train" if there is such a split.
    pub split: Option<String>,
    /// The configuration, a folder or a part of file names.
    pub config: Option<String>,
    /// The column that contains the text, if it is not the recipe's `text_field`.
    pub column: Option<String>,
    /// Whether rows are lines of articles rather than documents.
    pub rows_are_lines: bool,
}

impl Reference {
    /// Reads an entry of `data.paths`; `None` where it means something else.
    ///
    /// # Errors
    /// An entry that is meant for the hub and is misspelled.
    pub fn parse(entry: &str) -> Result<Option<Reference>> {
        let lower = entry.to_lowercase();
        let named = NAMED.iter().find(|(name, _)| *name == lower).map(|(_, reference)| *reference);
        let Some(rest) = named.unwrap_or(entry).strip_prefix(SCHEME) else { return Ok(None) };
        let fail = |message: String| Err(Error::Reference { entry: entry.to_owned(), message });
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parts = path.splitn(3, '/');
        let (owner, name, pattern) =
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let is_word = |text: &str| {
            !text.is_empty()
                && !text.starts_with('.')
                && !text.contains("..")
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        // A branch such as refs/convert/parquet is written with its slashes as %2F.
        let revision = revision.replace("%2F", "/");
        let is_revision = !revision.is_empty() && revision.split('/').all(is_word);
        if !is_word(owner) || !is_word(name) || !is_revision {
            return fail(
                "expected hf://OWNER/NAME, hf://OWNER/NAME@REVISION or hf://OWNER/NAME/PATTERN".to_owned(),
            );
        }
        let mut reference = Reference {
            entry: entry.to_owned(),
            id: format!("{owner}/{name}"),
            revision,
            pattern: pattern.filter(|pattern| !pattern.is_empty()).map(ToOwned::to_owned),
            split: None,
            config: None,
            column: None,
            rows_are_lines: owner == "Salesforce" && name == "wikitext",
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match key {
                "split" => &mut reference.split,
                "config" => &mut reference.config,
                "column" => &mut reference.column,
                _ => return fail(format!("unknown parameter `{key}`: use split, config or column")),
            };
            if value.is_empty() {
                return fail(format!("`{key}` has no value: expected {key}=NAME"));
            }
            *place = Some(value.to_owned());
        }
        Ok(Some(reference))
    }

    /// Reads what names a model, `hf://OWNER/NAME[@REVISION][/FILE]`; `None` where it means something else.
    ///
    /// # Errors
    /// As [`Reference::parse`]; a parameter, which only datasets have.
    pub fn parse_model(entry: &str) -> Result<Option<Reference>> {
        let Some(reference) =
            entry.starts_with(SCHEME).then(|| Reference::parse(entry)).transpose()?.flatten()
        else {
            return Ok(None);
        };
        let given =
            [("split", &reference.split), ("config", &reference.config), ("column", &reference.column)];
        let first = given.into_iter().find_map(|(key, value)| value.is_some().then_some(key));
        match first {
            None => Ok(Some(reference)),
            Some(key) => Err(Error::Reference {
                entry: entry.to_owned(),
                message: format!(
                    "`{key}` is a parameter of datasets, and this names a model: remove it (a model's \
                     revision and file are written hf://OWNER/NAME@REVISION/FILE)"
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_named_sets_known() {
        let parse = |entry: &str| Reference::parse(entry).unwrap().unwrap();
        let plain = parse("hf://roneneldan/TinyStories");
        assert_eq!((plain.id.as_str(), plain.revision.as_str()), ("roneneldan/TinyStories", "main"));
        let whole =
            parse("hf://a/b@refs%2Fconvert%2Fparquet/default/*.parquet?split=test&column=body&config=en");
        assert_eq!(
            (whole.revision.as_str(), whole.pattern.as_deref()),
            ("refs/convert/parquet", Some("default/*.parquet"))
        );
        assert_eq!(
            (whole.split.as_deref(), whole.column.as_deref(), whole.config.as_deref()),
            (Some("test"), Some("body"), Some("en"))
        );
        assert_eq!(parse("TinyStories").id, "roneneldan/TinyStories");
        assert_eq!(parse("wikitext-2").pattern.as_deref(), Some("wikitext-2-raw-v1/train-*.parquet"));
        assert!(parse("wikitext-2").rows_are_lines && !plain.rows_are_lines);
        assert_eq!(Reference::parse("texts/a.txt").unwrap(), None);
    }

    #[test]
    fn misspelt_entries_are_told() {
        for bad in
            ["hf://", "hf://a", "hf://../b", "hf://a/b@", "hf://a/b?splitt=x", "hf://a/b?split", "hf://a/b c"]
        {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_model_has_no_parameters() {
        let model = Reference::parse_model("hf://a/b@v1/c.gguf").unwrap().unwrap();
        assert_eq!((model.revision.as_str(), model.pattern.as_deref()), ("v1", Some("c.gguf")));
        // A folder of this name is one.
        assert_eq!(Reference::parse_model("tinystories").unwrap(), None);
        for key in ["split", "config", "column"] {
            let refused = Reference::parse_model(&format!("hf://a/b?{key}=x")).unwrap_err().to_string();
            assert!(refused.contains(&format!("`{key}` is a parameter of datasets")), "{refused}");
        }
        assert!(Reference::parse_model("hf://a/b?revision=x").is_err());
    }
}
