//! Metadata of a page: title, address, date, language.

use serde::Serialize;
use serde_json::Value;

use super::page::Page;
use super::structured;
use super::tags::Tag;
use crate::language;

/// Metadata of a page; unknown values are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// The title, without the site's name if it can be separated.
    pub title: Option<String>,
    /// The address that the page names as its own.
    pub url: Option<String>,
    /// When it was published: the day, as YYYY-MM-DD.
    pub date: Option<String>,
    /// ISO 639-1 code, declared by the page or else detected.
    pub language: Option<String>,
    /// The site's name.
    pub site: Option<String>,
    /// The author.
    pub author: Option<String>,
}

const DEEPEST_JSON: usize = 6;

/// Collects from the head, the structured data and the first heading.
pub fn of_page(page: &Page<'_>) -> Metadata {
    let tree = &page.tree;
    let mut found = Metadata::default();
    let (mut title_tag, mut heading, mut date_in_text) = (None, None, None);
    for (index, node) in tree.nodes.iter().enumerate() {
        match node.tag {
            Tag::Meta => from_meta(page, index, &mut found),
            Tag::Link => {
                let is_canonical =
                    tree.attribute(node, "rel").is_some_and(|rel| rel.eq_ignore_ascii_case("canonical"));
                if is_canonical {
                    set(&mut found.url, tree.attribute(node, "href").unwrap_or_default());
                }
            }
            Tag::Title if title_tag.is_none() && node.end as usize > index + 1 => {
                title_tag = Some(tree.raw_text(&tree.nodes[index + 1]));
            }
            Tag::Html if index == 0 => {
                let language = tree.attribute(node, "lang").or_else(|| tree.attribute(node, "xml:lang"));
                set_language(&mut found, language.unwrap_or_default());
            }
            Tag::Time => {
                // Weaker than what the head or the structured data say.
                date_in_text = date_in_text.or_else(|| tree.attribute(node, "datetime").and_then(day));
            }
            Tag::Script => {
                if let Some(value) = structured::json_at(page, index) {
                    from_json(&value, 0, &mut found);
                }
            }
            _ => {}
        }
    }
    for block in &page.blocks {
        if tree.nodes[block.element as usize].tag == Tag::H1 {
            heading = Some(page.text_of(block));
            break;
        }
    }
    let title_tag = title_tag.map(folded);
    found.title = best_title(found.title.take(), title_tag, heading, found.site.as_deref());
    found.date = found.date.take().or(date_in_text);
    found
}

/// The language of the text, where the page does not say.
pub fn settle_language(metadata: &mut Metadata, text: &str) {
    if metadata.language.is_none() {
        metadata.language = language::detect(text);
    }
}

fn from_meta(page: &Page<'_>, index: usize, found: &mut Metadata) {
    let tree = &page.tree;
    let node = &tree.nodes[index];
    let attribute = |name| tree.attribute(node, name);
    let Some(content) = attribute("content") else { return };
    let name = attribute("property").or_else(|| attribute("name")).or_else(|| attribute("itemprop"));
    let name = name.or_else(|| attribute("http-equiv")).unwrap_or_default().to_ascii_lowercase();
    match name.as_str() {
        "og:title" | "twitter:title" | "dc.title" | "citation_title" => set(&mut found.title, content),
        "og:url" => set(&mut found.url, content),
        "og:site_name" | "application-name" => set(&mut found.site, content),
        "author" | "dc.creator" | "citation_author" => set(&mut found.author, content),
        "article:published_time"
        | "date"
        | "dc.date"
        | "dc.date.issued"
        | "dcterms.date"
        | "datepublished"
        | "pubdate"
        | "publish_date"
        | "publish-date"
        | "citation_publication_date"
        | "citation_date"
        | "parsely-pub-date" => found.date = found.date.take().or_else(|| day(content)),
        "content-language" | "og:locale" | "dc.language" => set_language(found, content),
        _ => {}
    }
}

fn from_json(value: &Value, depth: usize, found: &mut Metadata) {
    match value {
        Value::Array(items) if depth < DEEPEST_JSON => {
            items.iter().for_each(|item| from_json(item, depth + 1, found));
        }
        Value::Object(fields) => {
            if found.date.is_none() {
                found.date = fields.get("datePublished").and_then(Value::as_str).and_then(day);
            }
            let author = fields.get("author").map(|author| author.get(0).unwrap_or(author));
            let author = author.and_then(|author| author.get("name").unwrap_or(author).as_str());
            set(&mut found.author, author.unwrap_or_default());
            for key in ["@graph", "mainEntity"] {
                if let Some(inner) = fields.get(key).filter(|_| depth < DEEPEST_JSON) {
                    from_json(inner, depth + 1, found);
                }
            }
        }
        _ => {}
    }
}

fn folded(text: &str) -> String {
    let text = html_escape::decode_html_entities(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn set(field: &mut Option<String>, value: &str) {
    if field.is_none() {
        *field = Some(folded(value)).filter(|value| !value.is_empty());
    }
}

fn set_language(found: &mut Metadata, value: &str) {
    let code: String = value.trim().chars().take_while(char::is_ascii_alphabetic).collect();
    if found.language.is_none() && matches!(code.len(), 2 | 3) {
        found.language = Some(code.to_ascii_lowercase());
    }
}

/// YYYY-MM-DD of a date that begins so, in its own time zone.
fn day(value: &str) -> Option<String> {
    let value = value.trim().get(..10)?.replace('/', "-");
    let parts: Vec<u32> = value.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let good = matches!(parts[..], [year, 1..=12, 1..=31] if (1000..3000).contains(&year));
    good.then_some(value)
}

/// The heading that the title repeats; else what the head names; else the title without the site's name.
fn best_title(
    named: Option<String>,
    tag: Option<String>,
    heading: Option<&str>,
    site: Option<&str>,
) -> Option<String> {
    let whole = named.clone().or_else(|| tag.clone());
    if let (Some(heading), Some(whole)) = (heading, &whole)
        && heading.chars().count() > 3
        && whole.to_lowercase().starts_with(&heading.to_lowercase())
    {
        return Some(heading.replace('\n', " "));
    }
    let title = named.or(tag).or_else(|| heading.map(|heading| heading.replace('\n', " ")))?;
    let without = site.and_then(|site| {
        let rest = title.strip_suffix(site)?.trim_end();
        Some(rest.strip_suffix(['|', '-', '–', '—', '·', '•', ':'])?.trim_end().to_owned())
    });
    without.filter(|title| !title.is_empty()).or(Some(title)).filter(|title| !title.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::tree::Tree;

    #[test]
    fn a_page_tells_of_itself() {
        let html = r#"<html lang="en-US"><head><title>A tale &amp; more | Site</title>
            <link rel=canonical href="https://x.org/a"><meta property="og:site_name" content="Site">
            <script type="application/ld+json">{"@graph":[{"datePublished":"2024-05-06T10:00:00+02:00","author":[{"name":"Ann"}]}]}</script>
            </head><body><h2>x</h2><p>y <time datetime="2020-01-01">then</time></p>"#;
        let found = of_page(&Page::new(Tree::parse(html)));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found.title, some("A tale & more"));
        assert_eq!(found.url, some("https://x.org/a"));
        assert_eq!(found.date, some("2024-05-06"));
        assert_eq!(found.language, some("en"));
        assert_eq!(found.author, some("Ann"));
    }

    #[test]
    fn dates_that_are_none_are_left_out() {
        assert_eq!(day("2024-13-01"), None);
        assert_eq!(day("2024/03/01 x"), Some("2024-03-01".to_owned()));
        assert_eq!(day("May 5, 2024"), None);
        assert_eq!(day("日本日本日本"), None);
    }
}
