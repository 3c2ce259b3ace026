//! Splits a tree into blocks: the runs of text between the boundaries of block elements, with their context.

use std::collections::HashMap;
use std::ops::Range;

use super::hints;
use super::tags::Tag;
use super::tree::{Node, Tree};

/// The ancestors of an element, as bits of [`Surroundings::within`].
pub mod within {
    macro_rules! bits {
        ($($name:ident)*) => { bits!(@ 0, $($name)*); };
        (@ $n:expr, $name:ident $($rest:ident)*) => { pub const $name: u32 = 1 << ($n); bits!(@ $n + 1, $($rest)*); };
        (@ $n:expr,) => { /// How many bits there are.
            pub const COUNT: u32 = $n; };
    }
    bits!(NAV HEADER FOOTER ASIDE ARTICLE MAIN FORM LIST TABLE FIGURE LINK BUTTON HEADING QUOTE PRE DETAILS SECTION
        HIDDEN SKIPPED DIALOG LABEL DEFINITION INVISIBLE ITEM_BODY COMMENTS NOSCRIPT);
}

/// The context of an element, inherited from its parent.
#[derive(Clone, Copy, Default)]
pub struct Surroundings {
    pub within: u32,
    /// Groups of hints in its own class and id, and in all above.
    pub own_names: u32,
    pub all_names: u32,
    pub depth: u16,
    /// Steps up to the nearest element that speaks of content, and of what surrounds it; 255: none.
    pub to_content: u8,
    pub to_boilerplate: u8,
    /// Words of text, of text in links, and of long plain paragraphs, before this node: differences are a
    /// subtree's.
    pub words_before: u32,
    pub link_words_before: u32,
    pub paragraph_words_before: u32,
    pub blocks_before: u32,
    /// The tag and classes of the element, hashed.
    pub signature: u64,
}

/// A run of text.
#[derive(Clone, Debug)]
pub struct Block {
    /// Range in the page's text.
    pub text: Range<usize>,
    /// The innermost block element around it.
    pub element: u32,
    pub words: u32,
    pub link_words: u32,
    /// Words in bold or emphasised.
    pub strong_words: u32,
    pub within: u32,
    /// Ends at a `<br>`, not at a border.
    pub broken: bool,
}

/// A page as blocks.
pub struct Page<'a> {
    pub tree: Tree<'a>,
    pub places: Vec<Surroundings>,
    pub text: String,
    pub blocks: Vec<Block>,
    /// Blocks, words and link words that share an element's path signature.
    pub kinds: HashMap<u64, Kind>,
}

/// Blocks whose elements look alike.
#[derive(Clone, Copy, Default)]
pub struct Kind {
    pub blocks: u32,
    pub words: u32,
    pub link_words: u32,
}

const CONTENT_NAMES: u32 = 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14;
const BOILERPLATE_NAMES: u32 = 0b11_1111_1111;
/// A paragraph of so many words with few links is content, or is meant to look like it.
const LONG_PARAGRAPH_WORDS: u32 = 20;

impl<'a> Page<'a> {
    /// Finds the blocks of a page.
    pub fn new(tree: Tree<'a>) -> Page<'a> {
        let mut places = places(&tree);
        // One past the end, so that sums of every subtree are differences.
        places.push(Surroundings::default());
        let mut finder = Finder {
            tree: &tree,
            places: &places,
            text: String::new(),
            blocks: Vec::new(),
            current: None,
            scratch: String::new(),
        };
        finder.walk();
        let (text, blocks) = (finder.text, finder.blocks);
        let mut page = Page { places, text, blocks, kinds: HashMap::new(), tree };
        page.sum_up();
        page
    }

    /// A block's text.
    pub fn text_of(&self, block: &Block) -> &str {
        &self.text[block.text.clone()]
    }

    /// What an element and the two above it look like.
    pub fn path_signature(&self, element: u32) -> u64 {
        let (mut hash, mut at) = (0u64, element as usize);
        for _ in 0..3 {
            hash = mix(hash ^ self.places[at].signature);
            at = self.tree.nodes[at].parent as usize;
        }
        hash
    }

    /// Whether a block is a long paragraph with few links.
    pub fn is_paragraph(block: &Block) -> bool {
        block.words >= LONG_PARAGRAPH_WORDS && block.link_words * 4 < block.words
    }

    fn sum_up(&mut self) {
        let (mut words, mut link_words, mut paragraph_words, mut next) = (0, 0, 0, 0);
        // Blocks are in the order of the page, and so are elements; a block counts where its element begins
        // or later, so sums go by the node after which the block's first text stands.
        let starts: Vec<u32> = self.blocks.iter().map(|block| block.element).collect();
        let mut order: Vec<usize> = (0..starts.len()).collect();
        order.sort_by_key(|&index| starts[index]);
        for index in 0..self.places.len() {
            let place = &mut self.places[index];
            place.words_before = words;
            place.link_words_before = link_words;
            place.paragraph_words_before = paragraph_words;
            place.blocks_before = next as u32;
            while let Some(block) = order.get(next).map(|&at| &self.blocks[at]) {
                if block.element as usize > index {
                    break;
                }
                words += block.words;
                link_words += block.link_words;
                paragraph_words += if Page::is_paragraph(block) { block.words } else { 0 };
                next += 1;
            }
        }
        for at in 0..self.blocks.len() {
            let signature = self.path_signature(self.blocks[at].element);
            let kind = self.kinds.entry(signature).or_default();
            kind.blocks += 1;
            kind.words += self.blocks[at].words;
            kind.link_words += self.blocks[at].link_words;
        }
    }
}

/// FNV-1a of a text in lower case (ASCII).
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Scrambles 64 bits (the finaliser of MurmurHash3).
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

fn places(tree: &Tree<'_>) -> Vec<Surroundings> {
    let mut places: Vec<Surroundings> = Vec::with_capacity(tree.nodes.len());
    for (index, node) in tree.nodes.iter().enumerate() {
        let above = if index == 0 {
            Surroundings { to_content: u8::MAX, to_boilerplate: u8::MAX, ..Surroundings::default() }
        } else {
            places[node.parent as usize]
        };
        places.push(if node.tag == Tag::Text { above } else { place(tree, node, &above) });
    }
    places
}

fn place(tree: &Tree<'_>, node: &Node, above: &Surroundings) -> Surroundings {
    use within::*;
    let mut own = match node.tag {
        Tag::Nav => NAV,
        Tag::Header => HEADER,
        Tag::Footer => FOOTER,
        Tag::Aside => ASIDE,
        Tag::Article => ARTICLE,
        Tag::Main => MAIN,
        Tag::Form => FORM,
        Tag::Ul | Tag::Ol | Tag::Menu => LIST,
        Tag::Table => TABLE,
        Tag::Figure => FIGURE,
        Tag::A => LINK,
        Tag::Button => BUTTON,
        Tag::Blockquote => QUOTE,
        Tag::Details => DETAILS,
        Tag::Section => SECTION,
        Tag::Dialog => DIALOG,
        Tag::Label => LABEL,
        Tag::Dl => DEFINITION,
        Tag::Noscript => NOSCRIPT,
        tag if tag.heading().is_some() => HEADING,
        tag if tag.is_preformatted() => PRE,
        tag if tag.is_skipped() => SKIPPED,
        _ => 0,
    };
    let (mut names, mut signature) = (0, node.tag as u64);
    for (name, value) in tree.attributes(node) {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("class") || is("id") {
            names |= hints::names(value);
            if is("class") {
                signature = value.bytes().fold(signature, |hash, byte| {
                    // Numbered classes ("item-12") are one kind.
                    if byte.is_ascii_digit() {
                        hash
                    } else {
                        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                    }
                });
            }
        } else if is("role") {
            own |= match value.to_ascii_lowercase().as_str() {
                "navigation" | "menu" | "menubar" => NAV,
                "banner" => HEADER,
                "contentinfo" => FOOTER,
                "complementary" => ASIDE,
                "main" => MAIN,
                "article" => ARTICLE,
                "dialog" | "alertdialog" => DIALOG,
                "button" => BUTTON,
                _ => 0,
            };
        } else if is("hidden") || (is("aria-hidden") && value.eq_ignore_ascii_case("true")) {
            own |= HIDDEN;
        } else if is("style") {
            let style: String =
                value.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
            if style.contains("display:none") || style.contains("visibility:hidden") {
                own |= INVISIBLE;
            }
        } else if is("itemprop") {
            own |= match value {
                "articleBody" | "text" | "description" | "reviewBody" => ITEM_BODY,
                "comment" => COMMENTS,
                _ => 0,
            };
        }
    }
    let nearer = |is: bool, steps: u8| if is { 0 } else { steps.saturating_add(1) };
    Surroundings {
        within: above.within | own,
        own_names: names,
        all_names: above.all_names | names,
        depth: above.depth + 1,
        to_content: nearer(names & CONTENT_NAMES != 0, above.to_content),
        to_boilerplate: nearer(names & BOILERPLATE_NAMES != 0, above.to_boilerplate),
        signature: mix(signature),
        ..Surroundings::default()
    }
}

struct Finder<'p, 'a> {
    tree: &'p Tree<'a>,
    places: &'p [Surroundings],
    text: String,
    blocks: Vec<Block>,
    current: Option<Block>,
    scratch: String,
}

impl Finder<'_, '_> {
    fn walk(&mut self) {
        let mut index = 0;
        // Ends of the block elements around, innermost last: where text goes on in an outer element.
        let mut open: Vec<(u32, u32)> = Vec::new();
        while index < self.tree.nodes.len() {
            while open.last().is_some_and(|&(_, end)| end as usize <= index) {
                open.pop();
                self.finish();
            }
            let node = self.tree.nodes[index];
            let element = open.last().map_or(0, |&(element, _)| element);
            match node.tag {
                Tag::Text => self.take(&node, index, element),
                Tag::Br => self.line_break(),
                tag if tag.is_skipped() || tag == Tag::Title => {
                    index = node.end as usize;
                    continue;
                }
                tag if tag.is_block() => {
                    self.finish();
                    open.push((index as u32, node.end));
                }
                _ => {}
            }
            index += 1;
        }
        self.finish();
    }

    fn take(&mut self, node: &Node, index: usize, element: u32) {
        let place = &self.places[index];
        let raw = self.tree.raw_text(node);
        self.scratch.clear();
        let text = if memchr::memchr(b'&', raw.as_bytes()).is_some() {
            html_escape::decode_html_entities_to_string(raw, &mut self.scratch)
        } else {
            raw
        };
        let start = self.text.len();
        let block = self.current.get_or_insert(Block {
            text: start..start,
            element,
            words: 0,
            link_words: 0,
            strong_words: 0,
            within: place.within,
            broken: false,
        });
        let before = self.text.len();
        if place.within & within::PRE != 0 {
            self.text.extend(text.chars().filter(|&c| c != '\r'));
        } else {
            append_folded(&mut self.text, block.text.start, text);
        }
        block.text.end = self.text.len();
        let words = count_words(&self.text[before..]);
        block.words += words;
        if place.within & (within::LINK | within::BUTTON) != 0 {
            block.link_words += words;
        }
        let parent = self.tree.nodes[node.parent as usize].tag;
        if matches!(parent, Tag::B | Tag::Strong | Tag::Em | Tag::I) {
            block.strong_words += words;
        }
    }

    fn line_break(&mut self) {
        let Some(block) = &mut self.current else { return };
        let text = &self.text[block.text.clone()];
        if text.ends_with('\n') && block.within & within::PRE == 0 {
            block.broken = true;
            self.finish();
        } else {
            let trimmed = text.trim_end_matches(' ').len();
            self.text.truncate(block.text.start + trimmed);
            self.text.push('\n');
            block.text.end = self.text.len();
        }
    }

    fn finish(&mut self) {
        let Some(mut block) = self.current.take() else { return };
        let text = &self.text[block.text.clone()];
        let is_pre = block.within & within::PRE != 0;
        let trimmed = if is_pre { text.trim_end().trim_start_matches('\n') } else { text.trim() };
        if trimmed.trim().is_empty() {
            self.text.truncate(block.text.start);
            return;
        }
        let start = block.text.start + (trimmed.as_ptr() as usize - text.as_ptr() as usize);
        block.text = start..start + trimmed.len();
        self.blocks.push(block);
    }
}

/// Appends `text` with each run of white space as one space, none at the start of a block or line.
fn append_folded(out: &mut String, start: usize, text: &str) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() || first == '\u{200b}' {
            if out.len() > start && !out.ends_with([' ', '\n']) {
                out.push(' ');
            }
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{200b}');
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || c == '\u{200b}').unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
}

/// Runs of letters, digits and underscores.
pub fn count_words(text: &str) -> u32 {
    let (mut words, mut inside) = (0, false);
    for c in text.chars() {
        let is_word = c.is_alphanumeric() || c == '_';
        words += u32::from(is_word && !inside);
        inside = is_word;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(html: &str) -> Vec<String> {
        let page = Page::new(Tree::parse(html));
        page.blocks.iter().map(|block| page.text_of(block).to_owned()).collect()
    }

    #[test]
    fn blocks_end_at_block_elements_and_at_two_breaks() {
        assert_eq!(blocks("<p>a <b>b</b>\n c<p>d"), ["a b c", "d"]);
        assert_eq!(blocks("<div>a<div>b</div>c</div>"), ["a", "b", "c"]);
        assert_eq!(blocks("a<br>b <br><br>c"), ["a\nb", "c"]);
        assert_eq!(blocks("<p>x &amp; y&nbsp;z &lt;b&gt; &bogus;"), ["x & y z <b> &bogus;"]);
        assert_eq!(blocks("<pre>\n  a\n    b\n</pre>"), ["  a\n    b"]);
        assert_eq!(blocks("<script>x</script><style>y</style><p>z<template>n</template>"), ["z"]);
        assert_eq!(blocks(" <p> </p> "), [""; 0]);
    }

    #[test]
    fn words_and_links_are_counted_by_subtree() {
        let page = Page::new(Tree::parse("<div><p>one two <a href=x>three</a></p></div><p>four</p>"));
        assert_eq!((page.blocks[0].words, page.blocks[0].link_words), (3, 1));
        let div = &page.tree.nodes[1];
        let sum = page.places[div.end as usize].words_before - page.places[1].words_before;
        assert_eq!((div.tag, sum), (Tag::Div, 3));
    }
}
