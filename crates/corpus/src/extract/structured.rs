//! What a page's structured data and head say of its kind and its text: evidence for the classifier.

use std::collections::HashSet;

use serde_json::Value;

use super::page::{Page, hash, mix};
use super::tags::Tag;

/// Structured data longer than this is not read.
const LONGEST_JSON: usize = 4 << 20;
const DEEPEST_JSON: usize = 16;

/// Kinds of pages that schema.org and Open Graph tell apart.
const KINDS: &[&[&str]] = &[
    &["article", "newsarticle", "blogposting", "techarticle", "report", "scholarlyarticle", "blog"],
    &["product", "productgroup", "og:product", "offer", "aggregateoffer"],
    &["discussionforumposting", "qapage", "socialmediaposting", "comment", "answer"],
    &["faqpage"],
    &["collectionpage", "itemlist", "searchresultspage", "productcollection"],
    &["service", "localbusiness", "professionalservice", "softwareapplication"],
    &["recipe", "howto", "course", "event", "jobposting"],
];

/// Features of a page.
pub const KIND_COUNT: usize = KINDS.len();

/// What the page tells of itself for programs.
#[derive(Default)]
pub struct Structured {
    /// Bits by [`KINDS`].
    pub kinds: u32,
    /// Pairs of words of its descriptions, and of texts given whole.
    pub descriptions: HashSet<u64>,
    pub bodies: HashSet<u64>,
}

impl Structured {
    /// Reads JSON-LD and the head's descriptions.
    pub fn of_page(page: &Page<'_>) -> Structured {
        let tree = &page.tree;
        let mut found = Structured::default();
        for (index, node) in tree.nodes.iter().enumerate() {
            if node.tag == Tag::Meta {
                let name = tree.attribute(node, "property").or_else(|| tree.attribute(node, "name"));
                let content = tree.attribute(node, "content").unwrap_or_default();
                match name.unwrap_or_default().to_ascii_lowercase().as_str() {
                    "description" | "og:description" | "twitter:description" => {
                        add_pairs(&mut found.descriptions, &html_escape::decode_html_entities(content));
                    }
                    "og:type" => found.kind(content),
                    _ => {}
                }
            } else if let Some(value) = json_at(page, index) {
                found.take(&value, 0);
            }
        }
        found
    }

    /// The shares of a text's words that stand in descriptions and in bodies beside the same neighbor.
    pub fn shares(&self, text: &str) -> [f32; 2] {
        if self.descriptions.is_empty() && self.bodies.is_empty() {
            return [0.0; 2];
        }
        let (mut pairs, mut in_descriptions, mut in_bodies) = (0f32, 0f32, 0f32);
        each_pair(text, |pair| {
            pairs += 1.0;
            in_descriptions += if self.descriptions.contains(&pair) { 1.0 } else { 0.0 };
            in_bodies += if self.bodies.contains(&pair) { 1.0 } else { 0.0 };
        });
        [in_descriptions / pairs.max(1.0), in_bodies / pairs.max(1.0)]
    }

    fn kind(&mut self, name: &str) {
        let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        for (bit, names) in KINDS.iter().enumerate() {
            self.kinds |= u32::from(names.contains(&name.as_str())) << bit;
        }
    }

    fn take(&mut self, value: &Value, depth: usize) {
        if depth > DEEPEST_JSON {
            return;
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.take(item, depth + 1)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    match (key.as_str(), value) {
                        ("@type", Value::String(kind)) => self.kind(kind),
                        ("@type", Value::Array(kinds)) => {
                            kinds.iter().filter_map(Value::as_str).for_each(|kind| self.kind(kind));
                        }
                        ("articleBody" | "text" | "reviewBody", Value::String(text)) => {
                            add_pairs(&mut self.bodies, text)
                        }
                        ("description", Value::String(text)) => add_pairs(&mut self.descriptions, text),
                        (_, Value::Object(_) | Value::Array(_)) => self.take(value, depth + 1),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

/// The JSON-LD of a script element.
pub fn json_at(page: &Page<'_>, index: usize) -> Option<Value> {
    let tree = &page.tree;
    let node = &tree.nodes[index];
    if node.tag != Tag::Script || !tree.attribute(node, "type")?.contains("ld+json") {
        return None;
    }
    let text = tree.nodes.get(index + 1).filter(|text| text.tag == Tag::Text)?;
    let text = tree.raw_text(text);
    if text.len() > LONGEST_JSON {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn add_pairs(set: &mut HashSet<u64>, text: &str) {
    each_pair(text, |pair| {
        set.insert(pair);
    });
}

fn each_pair(text: &str, mut take: impl FnMut(u64)) {
    let mut before = 0;
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let hash = hash(word);
        take(mix(before ^ hash.rotate_left(17)));
        before = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::tree::Tree;

    #[test]
    fn json_ld_tells_kind_and_text() {
        let html = r#"<script type="application/ld+json">{"@type":"http://schema.org/Product","description":"a warm red scarf",
            "review":[{"@type":["Review"],"reviewBody":"it keeps me warm"}]}</script><p>x"#;
        let found = Structured::of_page(&Page::new(Tree::parse(html)));
        assert_eq!(found.kinds, 1 << 1);
        assert!(found.shares("Warm red scarf for all")[0] > 0.3);
        assert!(found.shares("it keeps me warm")[1] > 0.99);
        assert_eq!(found.shares("something else")[0], 0.0);
    }
}
