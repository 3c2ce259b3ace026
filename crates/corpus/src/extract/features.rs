//! Features of a block for the classifier: its text, its element, its position on the page, its neighbors.
//!
//! A feature's number is its order here, and the model's: after a change the model must be trained again
//! (`tools/train_extraction.py`). Counts are taken as ln(1 + n).

use std::collections::{HashMap, HashSet, VecDeque};

use super::hints::{self, NAME_GROUPS, TEXT_GROUPS};
use super::page::{Block, Kind, Page, hash, within};
use super::structured::{KIND_COUNT, Structured};
use super::tags::Tag;

/// Number of ancestor block elements that are described one by one.
const LEVELS: usize = 6;
/// Number of neighbors on either side that are described.
const NEIGHBOURS: usize = 2;

/// Features of the whole page.
struct Overview {
    words: f32,
    blocks: f32,
    /// Ranges of nodes: the deepest elements that hold these shares of the words in long paragraphs.
    cores: [(u32, u32, u16); 3],
    /// Places in the order of blocks: of the first h1, of the first and last long paragraph.
    heading: Option<usize>,
    first_paragraph: Option<usize>,
    last_paragraph: Option<usize>,
    features: Vec<f32>,
    title_words: HashSet<u64>,
    /// Repeated ones count.
    title_length: usize,
    repeated: HashMap<u64, u32>,
}

const CORE_SHARES: [f32; 3] = [0.4, 0.65, 0.9];

/// Gives the features of each of a page's blocks to `take`, in order. A page of short blocks has more numbers
/// than bytes, a hundredfold: only the rows of neighbors are held.
pub fn of_blocks(page: &Page<'_>, title: &str, structured: &Structured, mut take: impl FnMut(&[f32])) {
    let overview = Overview::new(page, title, structured);
    let own = |block: &Block| own_features(page, block, &overview);
    // Of the blocks from `first` on: those before the one at hand, itself and those after.
    let mut ahead = page.blocks.iter();
    let mut near: VecDeque<Vec<f32>> = ahead.by_ref().take(NEIGHBOURS).map(own).collect();
    let (mut first, mut words_before, mut row) = (0, 0, Vec::new());
    for (index, block) in page.blocks.iter().enumerate() {
        near.extend(ahead.next().map(own));
        if index - first > NEIGHBOURS {
            near.pop_front();
            first += 1;
        }
        row.clear();
        row.extend_from_slice(&near[index - first]);
        row.extend(structured.shares(page.text_of(block)));
        place_features(page, block, index, words_before, &overview, &mut row);
        for step in [-2i64, -1, 1, 2] {
            let neighbor =
                usize::try_from(index as i64 + step).ok().and_then(|at| Some((page.blocks.get(at)?, at)));
            match neighbor {
                Some((other, at)) => {
                    let same_parent = parent(page, other) == parent(page, block);
                    let same_tag = element_tag(page, other) == element_tag(page, block);
                    // Words, share of links, sentence ends: the first of its own features.
                    row.extend_from_slice(&near[at - first][..4]);
                    row.extend([
                        flag(same_parent),
                        flag(same_tag),
                        f32::from(tag_class(element_tag(page, other))),
                    ]);
                }
                None => row.extend([-1.0; 7]),
            }
        }
        words_before += block.words;
        take(&row);
    }
}

impl Overview {
    fn new(page: &Page<'_>, title: &str, structured: &Structured) -> Overview {
        let last = &page.places[page.places.len() - 1];
        let words = last.words_before as f32;
        let paragraph_words = last.paragraph_words_before as f32;
        let blocks = page.blocks.len() as f32;
        let has = |tag: Tag| page.tree.nodes.iter().filter(|node| node.tag == tag).count() as f32;
        let paragraphs = page.blocks.iter().filter(|block| Page::is_paragraph(block)).count() as f32;
        let mut repeated: HashMap<u64, u32> = HashMap::new();
        for block in &page.blocks {
            *repeated.entry(hash(page.text_of(block))).or_default() += 1;
        }
        let mut features = vec![
            log(words),
            log(blocks),
            last.link_words_before as f32 / words.max(1.0),
            log(paragraphs),
            paragraph_words / words.max(1.0),
            has(Tag::Article).min(20.0),
            has(Tag::Main).min(3.0),
            log(has(Tag::P)),
            log(has(Tag::Table)),
            log(has(Tag::Pre)),
            log(has(Tag::Form)),
            log(structured.bodies.len() as f32),
        ];
        features.extend((0..KIND_COUNT).map(|bit| flag(structured.kinds >> bit & 1 == 1)));
        let is_paragraph = |block: &Block| Page::is_paragraph(block);
        let title_words =
            || title.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 2).map(hash);
        Overview {
            words,
            blocks,
            cores: CORE_SHARES.map(|share| core(page, share)),
            heading: page.blocks.iter().position(|block| element_tag(page, block) == Tag::H1),
            first_paragraph: page.blocks.iter().position(is_paragraph),
            last_paragraph: page.blocks.iter().rposition(is_paragraph),
            features,
            title_words: title_words().collect(),
            title_length: title_words().count(),
            repeated,
        }
    }
}

/// The deepest element that holds `share` of the words in long paragraphs (of all words, where there is
/// none).
fn core(page: &Page<'_>, share: f32) -> (u32, u32, u16) {
    let by_paragraphs = page.places[page.places.len() - 1].paragraph_words_before > 0;
    let weight = |from: usize, to: usize| {
        let (a, b) = (&page.places[from], &page.places[to]);
        if by_paragraphs {
            b.paragraph_words_before - a.paragraph_words_before
        } else {
            b.words_before - a.words_before
        }
    };
    let mut element = 0;
    let needed = weight(0, page.places.len() - 1) as f32 * share;
    'deeper: loop {
        let end = page.tree.nodes[element].end as usize;
        let mut child = element + 1;
        while child < end {
            let child_end = page.tree.nodes[child].end as usize;
            if page.tree.nodes[child].tag != Tag::Text
                && weight(child, child_end) as f32 >= needed
                && needed > 0.0
            {
                element = child;
                continue 'deeper;
            }
            child = child_end;
        }
        return (element as u32, end as u32, page.places[element].depth);
    }
}

fn own_features(page: &Page<'_>, block: &Block, overview: &Overview) -> Vec<f32> {
    let text = page.text_of(block);
    let words = block.words as f32;
    let per_word = |count: f32| count / words.max(1.0);
    let (mut characters, mut letters, mut digits, mut uppers, mut commas, mut ends, mut lines, mut others) =
        (0f32, 0f32, 0f32, 0f32, 0f32, 0f32, 0f32, 0f32);
    let mut before = ' ';
    for c in text.chars() {
        characters += 1.0;
        if c.is_alphabetic() {
            letters += 1.0;
            uppers += flag(c.is_uppercase());
        } else if c.is_numeric() {
            digits += 1.0;
        } else {
            match c {
                ',' | '،' | '、' | '，' | ';' => commas += 1.0,
                ' ' | '\n' if matches!(before, '.' | '!' | '?' | '。' | '！' | '？') => ends += 1.0,
                '。' | '！' | '？' => ends += 1.0,
                '|' | '·' | '•' | '/' | '»' | '›' | '→' | '#' | '@' | '$' | '€' | '£' => {
                    others += 1.0
                }
                _ => {}
            }
            lines += flag(c == '\n');
        }
        before = c;
    }
    let closes = matches!(before, '.' | '!' | '?' | '。' | '！' | '？' | '"' | '”');
    ends += flag(matches!(before, '.' | '!' | '?'));
    let hits = hints::texts(text);
    let first = text.chars().next().unwrap_or(' ');
    let (mut common, mut in_title, mut looked) = (0f32, 0f32, 0f32);
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).take(64) {
        looked += 1.0;
        common += flag(STOP_WORDS.contains(&word.to_ascii_lowercase().as_str()));
        in_title += flag(word.len() > 2 && overview.title_words.contains(&hash(word)));
    }
    let tag = element_tag(page, block);
    let mut row = vec![
        log(words),
        per_word(block.link_words as f32),
        flag(closes),
        f32::from(tag_class(tag)),
        per_word(ends),
        log(ends),
        per_word(commas),
        per_word(letters),
        digits / characters.max(1.0),
        uppers / letters.max(1.0),
        others / characters.max(1.0),
        log(lines),
        common / looked.max(1.0),
        in_title / looked.max(1.0),
        in_title / (overview.title_length as f32).max(1.0),
        per_word(block.strong_words as f32),
        flag(first.is_uppercase()),
        flag(first.is_numeric()),
        flag(before == ':'),
        flag(before == '?'),
        flag(block.broken),
        log(overview.repeated.get(&hash(text)).copied().unwrap_or(1) as f32 - 1.0),
        log(block.link_words as f32),
    ];
    row.extend(hits.iter().map(|&hits| f32::from(hits.min(8))));
    debug_assert_eq!(hits.len(), TEXT_GROUPS);
    row
}

fn place_features(
    page: &Page<'_>,
    block: &Block,
    index: usize,
    words_before: u32,
    overview: &Overview,
    row: &mut Vec<f32>,
) {
    let element = block.element as usize;
    let place = &page.places[element];
    row.extend((0..within::COUNT).map(|bit| flag(block.within >> bit & 1 == 1)));
    row.extend((0..NAME_GROUPS).map(|group| flag(place.all_names >> group & 1 == 1)));
    // Of the groups, how near: in its own element, or in one of the three above.
    let (mut near, mut at) = (0u32, element);
    for _ in 0..4 {
        near |= page.places[at].own_names;
        at = page.tree.nodes[at].parent as usize;
    }
    row.extend((0..NAME_GROUPS).map(|group| flag(near >> group & 1 == 1)));
    row.extend([f32::from(place.depth), f32::from(place.to_content), f32::from(place.to_boilerplate)]);
    row.push(f32::from(place.to_content) - f32::from(place.to_boilerplate));

    row.push(index as f32 / overview.blocks);
    row.push(words_before as f32 / overview.words.max(1.0));
    row.push(log(index as f32));
    for anchor in [overview.heading, overview.first_paragraph, overview.last_paragraph] {
        match anchor {
            Some(anchor) => {
                let distance = index as f32 - anchor as f32;
                row.push(distance.signum() * log(distance.abs()));
            }
            None => row.push(-99.0),
        }
    }
    for (start, end, depth) in overview.cores {
        row.push(flag((start..end).contains(&block.element)));
        let core = &page.places[start as usize];
        let words = page.places[end as usize].words_before - core.words_before;
        row.push(words as f32 / overview.words.max(1.0));
        row.push(f32::from(place.depth) - f32::from(depth));
    }
    let mut at = element;
    for _ in 0..LEVELS {
        let node = &page.tree.nodes[at];
        let (a, b) = (&page.places[at], &page.places[node.end as usize]);
        let words = (b.words_before - a.words_before) as f32;
        row.push(log(words));
        row.push((b.link_words_before - a.link_words_before) as f32 / words.max(1.0));
        row.push((b.paragraph_words_before - a.paragraph_words_before) as f32 / words.max(1.0));
        row.push(log((b.blocks_before - a.blocks_before) as f32));
        row.push(f32::from(tag_class(node.tag)));
        at = block_above(page, at);
    }
    let kind: Kind = page.kinds.get(&page.path_signature(block.element)).copied().unwrap_or_default();
    let kind_words = kind.words as f32;
    row.extend([
        log(kind.blocks as f32),
        log(kind_words / (kind.blocks as f32).max(1.0)),
        kind.link_words as f32 / kind_words.max(1.0),
        kind_words / overview.words.max(1.0),
    ]);
    row.extend_from_slice(&overview.features);
}

/// The nearest block element above; the root is above itself.
fn block_above(page: &Page<'_>, element: usize) -> usize {
    let mut at = page.tree.nodes[element].parent as usize;
    while at != 0 && !page.tree.nodes[at].tag.is_block() {
        at = page.tree.nodes[at].parent as usize;
    }
    at
}

fn parent(page: &Page<'_>, block: &Block) -> u32 {
    page.tree.nodes[block.element as usize].parent
}

fn element_tag(page: &Page<'_>, block: &Block) -> Tag {
    page.tree.nodes[block.element as usize].tag
}

fn tag_class(tag: Tag) -> u8 {
    use Tag::*;
    match tag {
        P => 0,
        Pre | Xmp | Listing | Blockquote => 1,
        H1 => 2,
        H2 => 3,
        H3 => 4,
        H4 | H5 | H6 => 5,
        Dt | Dd | Dl => 6,
        Li => 7,
        Td => 8,
        Th | Tr | Table | Tbody | Thead | Tfoot | Caption => 9,
        Ul | Ol | Menu => 10,
        Figcaption | Figure => 11,
        Article | Main => 12,
        Section => 13,
        Div => 14,
        Details | Summary => 15,
        Header | Hgroup => 16,
        Form | Fieldset | Legend | Option => 17,
        Aside => 18,
        Nav => 19,
        Footer | Address => 20,
        _ => 21,
    }
}

/// Frequent words of several European languages: running text has them, labels do not.
const STOP_WORDS: [&str; 64] = [
    "the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on",
    "not", "he", "this", "are", "or", "his", "from", "at", "which", "but", "have", "an", "had", "they",
    "you", "were", "their", "we", "can", "has", "its", "if", "will", "so", "your", "i", "de", "la", "le",
    "et", "les", "des", "en", "un", "une", "du", "der", "die", "und", "das", "den", "el", "que", "los", "y",
    "di", "il", "e",
];

fn log(count: f32) -> f32 {
    count.max(0.0).ln_1p()
}

fn flag(is: bool) -> f32 {
    if is { 1.0 } else { 0.0 }
}
