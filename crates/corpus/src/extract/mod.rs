//! Main-text extraction from HTML, without the boilerplate around the text.
//!
//! A page is parsed into a tree (`tree`), the tree is split into blocks of text (`page`), and each block gets
//! a vector of features (`features`). Boosted trees (`forest`) give the probability that a block belongs to
//! the main text. The blocks with the best expected F-measure are kept and rendered (`render`). Time is
//! linear in the size of the page. The trees were trained on labeled pages by `tools/train_extraction.py`.
//!
//! Scripts are not run, so content that a page loads later is missing.

mod encoding;
mod features;
mod forest;
mod hints;
mod metadata;
mod page;
mod render;
mod structured;
mod tags;
mod tree;

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use encoding::{decode, is_binary};
pub use metadata::Metadata;

use forest::Forest;
use page::Page;
use structured::Structured;
use tree::Tree;

static BLOCKS: LazyLock<Option<Forest>> =
    LazyLock::new(|| Forest::read(include_bytes!("../../assets/extraction/blocks.forest")));

/// How to treat blocks that may or may not belong to the main text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExtractionMode {
    /// Balance precision and recall (best F1).
    #[default]
    Balanced,
    /// Favor precision: less text and less boilerplate.
    Precision,
    /// Favor recall: more text and more boilerplate.
    Recall,
    /// All visible text.
    Everything,
}

/// The main text of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extraction {
    /// Title, address, date, language.
    #[serde(flatten)]
    pub metadata: Metadata,
    /// The text: paragraphs with a blank line between, list items with a dash, table rows with bars.
    pub text: String,
    /// Elements nested so deeply that they were flattened.
    #[serde(skip)]
    pub flattened_elements: u32,
    /// Whether the page exceeded the limit on elements, and the rest was skipped.
    #[serde(skip)]
    pub is_cut: bool,
}

/// The main text of a page.
pub fn extract(html: &str, mode: ExtractionMode) -> Extraction {
    let tree = Tree::parse(html);
    let (flattened_elements, is_cut) = (tree.flattened, tree.is_cut);
    let page = Page::new(tree);
    let mut metadata = metadata::of_page(&page);
    let kept = match mode {
        ExtractionMode::Everything => vec![true; page.blocks.len()],
        _ => {
            let said = probabilities(&page, metadata.title.as_deref().unwrap_or_default());
            best(&page, &said, mode)
        }
    };
    let text = render::text(&page, &kept);
    metadata::settle_language(&mut metadata, &text);
    Extraction { metadata, text, flattened_elements, is_cut }
}

/// The probability of each block that it belongs to the main text.
fn probabilities(page: &Page<'_>, title: &str) -> Vec<f32> {
    let mut said = Vec::with_capacity(page.blocks.len());
    features::of_blocks(page, title, &Structured::of_page(page), |row| {
        let probability = BLOCKS.as_ref().and_then(|forest| forest.probability(row));
        // A model that does not match the features fails the crate's tests; here all blocks are kept.
        said.push(probability.unwrap_or(1.0));
    });
    said
}

/// Selects the blocks with the best expected F-measure by words: the most likely blocks, as long as it rises.
fn best(page: &Page<'_>, said: &[f32], mode: ExtractionMode) -> Vec<bool> {
    let beta_squared = match mode {
        ExtractionMode::Precision => 0.25,
        ExtractionMode::Recall => 4.0,
        _ => 1.0,
    };
    let mut order: Vec<usize> = (0..said.len()).collect();
    order.sort_by(|&a, &b| said[b].total_cmp(&said[a]).then(a.cmp(&b)));
    let words = |index: usize| f64::from(page.blocks[index].words.max(1));
    let expected: f64 = order.iter().map(|&index| f64::from(said[index]) * words(index)).sum();
    let (mut hits, mut taken, mut best) = (0.0, 0.0, (0.0, 0));
    for (count, &index) in (1..).zip(&order) {
        hits += f64::from(said[index]) * words(index);
        taken += words(index);
        let measure = hits / (taken + beta_squared * expected);
        if measure > best.0 {
            best = (measure, count);
        }
    }
    let mut kept = vec![false; said.len()];
    order[..best.1].iter().for_each(|&index| kept[index] = true);
    kept
}

/// The training data of a page.
#[doc(hidden)]
pub mod training {
    use super::*;

    /// Texts of the blocks, their word counts, and rows of features.
    pub fn rows(html: &str) -> (Vec<String>, Vec<u32>, usize, Vec<f32>) {
        let page = Page::new(Tree::parse(html));
        let metadata = metadata::of_page(&page);
        let title = metadata.title.as_deref().unwrap_or_default();
        let (mut width, mut values) = (0, Vec::new());
        features::of_blocks(&page, title, &Structured::of_page(&page), |row| {
            width = row.len();
            values.extend_from_slice(row);
        });
        let texts = page.blocks.iter().map(|block| page.text_of(block).to_owned()).collect();
        (texts, page.blocks.iter().map(|block| block.words).collect(), width, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<html lang=en><head><title>On rivers</title></head><body>
        <nav><ul><li><a href=/>Home</a><li><a href=/news>News</a><li><a href=/shop>Shop</a></ul></nav>
        <article><h1>On rivers</h1>
        <p>Rivers carry water from the mountains to the sea, and on their way they shape the land through which they flow.</p>
        <p>Where the slope is steep the water runs fast and cuts deep valleys; where it is gentle the river winds in wide bends.</p>
        <pre>flow = width * depth * speed</pre>
        <ul><li>The upper course has rapids and falls, and few people live on it.</li><li>The lower course has bends and
        broad banks, on which most of the towns were built.</li></ul></article>
        <footer><a href=/p>Privacy policy</a> <a href=/c>Contact us</a> Copyright 2026 All rights reserved.</footer></body></html>"#;

    #[test]
    fn the_model_fits_the_features() {
        let page = Page::new(Tree::parse(PAGE));
        let mut rows = 0;
        features::of_blocks(&page, "On rivers", &Structured::of_page(&page), |row| {
            assert!(BLOCKS.as_ref().unwrap().probability(row).is_some(), "train the model again");
            rows += 1;
        });
        assert_eq!(rows, page.blocks.len());
    }

    #[test]
    fn the_text_stays_and_the_site_goes() {
        let found = extract(PAGE, ExtractionMode::Balanced);
        for wanted in ["Rivers carry water", "wide bends", "- The upper course", "width * depth"] {
            assert!(found.text.contains(wanted), "{wanted}: {}", found.text);
        }
        for unwanted in ["Home", "Shop", "Privacy", "rights reserved"] {
            assert!(!found.text.contains(unwanted), "{unwanted}: {}", found.text);
        }
        assert_eq!(found.metadata.title.as_deref(), Some("On rivers"));
        assert_eq!(found.metadata.language.as_deref(), Some("en"));
        assert!(extract(PAGE, ExtractionMode::Everything).text.contains("Shop"));
    }

    #[test]
    fn modes_take_more_or_less() {
        let length = |mode| extract(PAGE, mode).text.len();
        assert!(length(ExtractionMode::Precision) <= length(ExtractionMode::Balanced));
        assert!(length(ExtractionMode::Balanced) <= length(ExtractionMode::Recall));
        assert!(length(ExtractionMode::Recall) <= length(ExtractionMode::Everything));
    }

    #[test]
    fn pages_made_to_hurt_end_soon() {
        let start = std::time::Instant::now();
        for html in [
            "<div>".repeat(200_000) + "x",
            "<p>".repeat(200_000) + "x",
            "<table><tr><td>".repeat(60_000) + "x",
            "<a href='".repeat(100_000),
            "</b>".repeat(300_000),
            "<b><i>".repeat(100_000) + &"</b></i>".repeat(100_000),
            "&".repeat(1_000_000),
            "<!--".repeat(200_000),
            "x<br>".repeat(200_000),
        ] {
            extract(&html, ExtractionMode::Balanced);
        }
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}
