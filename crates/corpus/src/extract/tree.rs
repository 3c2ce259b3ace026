//! HTML to a tree in one array, in one pass: tokens are read leniently and elements closed as browsers imply
//! it.
//!
//! Not a conforming parser (no foster parenting, no adoption agency): what it guarantees is that any bytes
//! give a tree in linear time, no deeper than [`DEEPEST`]. html5ever takes quadratic time on deep nesting.
//! Nodes lie in the order of the page, so a subtree is a range.

use std::ops::Range;

use memchr::{memchr, memmem};

use super::tags::{TAGS, Tag};

/// As deep as browsers go; what is nested deeper becomes a child of the deepest.
pub const DEEPEST: usize = 512;
/// Limit on nodes of a page: a base number and one per this many bytes, since a node takes thirty times the
/// bytes of the shortest. Specifications in one page have a few hundred thousand.
const HARMLESS_NODES: usize = 1_000_000;
const BYTES_PER_NODE: usize = 32;

/// An element or a run of text.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub tag: Tag,
    /// The root is its own parent.
    pub parent: u32,
    /// One past the last node of the subtree.
    pub end: u32,
    start: u32,
    stop: u32,
}

/// A page.
pub struct Tree<'a> {
    source: &'a str,
    pub nodes: Vec<Node>,
    /// Number of elements with content that were nested deeper than [`DEEPEST`].
    pub flattened: u32,
    /// Whether the limit on nodes was exceeded: the rest is left out.
    pub is_cut: bool,
}

impl<'a> Tree<'a> {
    /// Parses a page; beyond 4 GB the rest is left out.
    pub fn parse(source: &'a str) -> Tree<'a> {
        let source = &source[..source.floor_char_boundary(u32::MAX as usize - 1)];
        let mut builder = Builder {
            source,
            nodes: Vec::with_capacity(source.len() / 24 + 16),
            open: Vec::with_capacity(64),
            counts: [0; TAGS],
            flattened: 0,
            is_cut: false,
        };
        builder.push(Tag::Html, 0..0);
        builder.read();
        let end = builder.nodes.len() as u32;
        for &index in &builder.open {
            builder.nodes[index as usize].end = end;
        }
        let Builder { nodes, flattened, is_cut, .. } = builder;
        Tree { source, nodes, flattened, is_cut }
    }

    /// A text node's characters as they stand in the source, references and all.
    pub fn raw_text(&self, node: &Node) -> &'a str {
        &self.source[node.start as usize..node.stop as usize]
    }

    /// An element's attributes: names as written, values with references.
    pub fn attributes(&self, node: &Node) -> Attributes<'a> {
        Attributes { rest: &self.source[node.start as usize..node.stop as usize] }
    }

    /// One attribute's value as written.
    pub fn attribute(&self, node: &Node, name: &str) -> Option<&'a str> {
        self.attributes(node).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Names and values of a start tag, one by one.
pub struct Attributes<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let rest = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if rest.is_empty() {
            self.rest = rest;
            return None;
        }
        // A name may begin with `=`.
        let name_end = rest
            .char_indices()
            .skip(1)
            .find(|(_, c)| c.is_ascii_whitespace() || matches!(c, '/' | '='))
            .map_or(rest.len(), |(at, _)| at);
        let (name, after) = rest.split_at(name_end);
        let Some(value) = after.trim_ascii_start().strip_prefix('=') else {
            self.rest = after;
            return Some((name, ""));
        };
        let value = value.trim_ascii_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, rest) = match quote {
            Some(quote) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
            None => value.split_at(value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len())),
        };
        self.rest = rest;
        Some((name, value))
    }
}

struct Builder<'a> {
    source: &'a str,
    nodes: Vec<Node>,
    open: Vec<u32>,
    /// Open elements by tag, so that a stray end tag costs nothing.
    counts: [u32; TAGS],
    flattened: u32,
    is_cut: bool,
}

impl Builder<'_> {
    fn read(&mut self) {
        let bytes = self.source.as_bytes();
        let most_nodes = HARMLESS_NODES + bytes.len() / BYTES_PER_NODE;
        let mut at = 0;
        while at < bytes.len() {
            if self.nodes.len() > most_nodes {
                self.is_cut = true;
                return;
            }
            let next = memchr(b'<', &bytes[at..]).map_or(bytes.len(), |offset| at + offset);
            self.text(at..next);
            if next >= bytes.len() {
                return;
            }
            at = match bytes.get(next + 1) {
                Some(b'!') => self.declaration(next),
                Some(b'?') => find(bytes, next, b'>'),
                Some(b'/') if bytes.get(next + 2).is_some_and(u8::is_ascii_alphabetic) => self.end_tag(next),
                Some(b'/') => find(bytes, next, b'>'),
                Some(byte) if byte.is_ascii_alphabetic() => self.start_tag(next),
                _ => {
                    self.text(next..next + 1);
                    next + 1
                }
            };
        }
    }

    fn declaration(&mut self, at: usize) -> usize {
        let bytes = self.source.as_bytes();
        let rest = &bytes[at..];
        let after = |needle: &[u8], from: usize| {
            memmem::find(&rest[from..], needle).map_or(bytes.len(), |found| at + from + found + needle.len())
        };
        if rest.starts_with(b"<!-->") || rest.starts_with(b"<!--->") {
            return find(bytes, at, b'>');
        }
        if rest.starts_with(b"<!--") {
            return after(b"-->", 4);
        }
        if rest.starts_with(b"<![CDATA[") {
            let end = after(b"]]>", 9);
            self.text(at + 9..end.saturating_sub(3).max(at + 9));
            return end;
        }
        find(bytes, at, b'>')
    }

    fn end_tag(&mut self, at: usize) -> usize {
        let bytes = self.source.as_bytes();
        let name = name_at(bytes, at + 2);
        let tag = Tag::of(&bytes[name.clone()]);
        self.close(tag);
        if tag == Tag::P && self.counts[Tag::P as usize] == 0 {
            // A lone `</p>` is a paragraph break.
            self.leaf(Tag::P, 0..0);
        }
        find(bytes, name.end, b'>')
    }

    fn start_tag(&mut self, at: usize) -> usize {
        let bytes = self.source.as_bytes();
        let name = name_at(bytes, at + 1);
        let tag = Tag::of(&bytes[name.clone()]);
        let (attributes, closes_itself, end) = attributes_at(bytes, name.end);
        if matches!(tag, Tag::Html | Tag::Body | Tag::Head) && self.counts[tag as usize] > 0 {
            // A second one only brings attributes; the first `<html>` is the root's.
            if tag == Tag::Html && self.nodes[0].stop == 0 {
                self.nodes[0].start = attributes.start as u32;
                self.nodes[0].stop = attributes.end as u32;
            }
            return end;
        }
        self.imply_ends(tag);
        if tag.is_void() {
            self.leaf(tag, attributes);
            return end;
        }
        let is_foreign = matches!(tag, Tag::Other | Tag::Svg | Tag::Math);
        if closes_itself && is_foreign {
            self.leaf(tag, attributes);
            return end;
        }
        self.push(tag, attributes);
        if !tag.is_raw() {
            return end;
        }
        let (text, end) = raw_text(bytes, end, &bytes[name]);
        // Scripts are kept for the structured data some of them are; as text they are passed over.
        if matches!(tag, Tag::Title | Tag::Xmp | Tag::Plaintext | Tag::Script) {
            self.text(text);
        }
        self.close(tag);
        end
    }

    /// Closes what a start tag of `tag` ends without saying so.
    fn imply_ends(&mut self, tag: Tag) {
        use Tag::*;
        if self.counts[Head as usize] > 0 && !tag.belongs_to_head() {
            self.close(Head);
        }
        if tag.ends_paragraph() && self.counts[P as usize] > 0 {
            self.close(P);
        }
        match tag {
            Li => self.close_within(&[Li], &[Ul, Ol, Menu]),
            Dt | Dd => self.close_within(&[Dt, Dd], &[Dl]),
            Tr => self.close_within(&[Tr], &[Table, Thead, Tbody, Tfoot]),
            Td | Th => self.close_within(&[Td, Th], &[Tr, Table]),
            Thead | Tbody | Tfoot => self.close_within(&[Thead, Tbody, Tfoot], &[Table]),
            Option | Optgroup => self.close_within(&[Option], &[Select]),
            A => self.close_within(&[A], &[Td, Th, Table]),
            H1 | H2 | H3 | H4 | H5 | H6 if self.top().is_some_and(|node| node.tag.heading().is_some()) => {
                self.pop();
            }
            _ => {}
        }
    }

    /// Closes the innermost of `tags`, unless one of `limits` lies between.
    fn close_within(&mut self, tags: &[Tag], limits: &[Tag]) {
        if tags.iter().all(|&tag| self.counts[tag as usize] == 0) {
            return;
        }
        for depth in (1..self.open.len()).rev() {
            let tag = self.nodes[self.open[depth] as usize].tag;
            if tags.contains(&tag) {
                return self.pop_to(depth);
            }
            if limits.contains(&tag) {
                return;
            }
        }
    }

    /// Closes the innermost `tag` within its scope.
    fn close(&mut self, tag: Tag) {
        use Tag::*;
        if self.counts[tag as usize] == 0 || matches!(tag, Html | Body | Other) {
            // Unknown elements share a tag: their ends are theirs only when innermost.
            if tag == Other && self.top().is_some_and(|node| node.tag == Other) {
                self.pop();
            }
            return;
        }
        let is_table_part = matches!(tag, Table | Thead | Tbody | Tfoot | Tr | Td | Th | Caption);
        for depth in (1..self.open.len()).rev() {
            let open = self.nodes[self.open[depth] as usize].tag;
            if open == tag {
                return self.pop_to(depth);
            }
            let is_limit = if is_table_part { open == Table } else { open.is_scope() };
            if is_limit {
                return;
            }
        }
    }

    fn top(&self) -> std::option::Option<&Node> {
        self.open.last().map(|&index| &self.nodes[index as usize])
    }

    fn pop(&mut self) {
        if self.open.len() > 1 {
            self.pop_to(self.open.len() - 1);
        }
    }

    fn pop_to(&mut self, depth: usize) {
        let end = self.nodes.len() as u32;
        for index in self.open.drain(depth..) {
            let node = &mut self.nodes[index as usize];
            node.end = end;
            self.counts[node.tag as usize] -= 1;
        }
    }

    fn push(&mut self, tag: Tag, attributes: Range<usize>) {
        let index = self.leaf(tag, attributes);
        if self.open.len() < DEEPEST {
            self.open.push(index);
            self.counts[tag as usize] += 1;
        } else {
            self.flattened += 1;
        }
    }

    fn leaf(&mut self, tag: Tag, range: Range<usize>) -> u32 {
        let index = self.nodes.len() as u32;
        let parent = self.open.last().copied().unwrap_or(0);
        let (start, stop) = (range.start as u32, range.end as u32);
        self.nodes.push(Node { tag, parent, end: index + 1, start, stop });
        index
    }

    fn text(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        if self.counts[Tag::Head as usize] > 0
            && self.top().is_some_and(|node| node.tag == Tag::Head)
            && !self.source[range.clone()].trim_ascii().is_empty()
        {
            self.close(Tag::Head);
        }
        self.leaf(Tag::Text, range);
    }
}

/// One past the next `byte` from `at`.
fn find(bytes: &[u8], at: usize, byte: u8) -> usize {
    memchr(byte, &bytes[at..]).map_or(bytes.len(), |offset| at + offset + 1)
}

fn name_at(bytes: &[u8], start: usize) -> Range<usize> {
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>' | b'<');
    let length = bytes[start..].iter().position(is_end).unwrap_or(bytes.len() - start);
    start..start + length
}

/// The attributes' range, whether the tag ends in `/>`, and one past its `>`. Quotes hide `>`.
fn attributes_at(bytes: &[u8], start: usize) -> (Range<usize>, bool, usize) {
    let mut at = start;
    let mut after_equals = false;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'>' => {
                let closes_itself = at > start && bytes[at - 1] == b'/';
                return (start..at - usize::from(closes_itself), closes_itself, at + 1);
            }
            b'"' | b'\'' if after_equals => {
                at = find(bytes, at + 1, byte);
                after_equals = false;
                continue;
            }
            b'=' => after_equals = true,
            _ if byte.is_ascii_whitespace() => {}
            _ => after_equals = false,
        }
        at += 1;
    }
    (start..bytes.len(), false, bytes.len())
}

/// The characters up to `</name`, and one past that end tag.
fn raw_text(bytes: &[u8], start: usize, name: &[u8]) -> (Range<usize>, usize) {
    let mut at = start;
    while let Some(offset) = memmem::find(&bytes[at..], b"</") {
        let end = at + offset;
        let found = bytes.get(end + 2..end + 2 + name.len());
        let is_whole = bytes.get(end + 2 + name.len()).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        if is_whole && found.is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return (start..end, find(bytes, end, b'>'));
        }
        at = end + 2;
    }
    (start..bytes.len(), bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as nested names, text in quotes.
    fn shape(html: &str) -> String {
        fn write(tree: &Tree<'_>, index: usize, out: &mut String) {
            let node = &tree.nodes[index];
            if node.tag == Tag::Text {
                out.push_str(&format!("{:?}", tree.raw_text(node)));
                return;
            }
            out.push_str(&format!("{:?}", node.tag).to_lowercase());
            let mut child = index + 1;
            if child < node.end as usize {
                out.push('(');
                while child < node.end as usize {
                    write(tree, child, out);
                    child = tree.nodes[child].end as usize;
                    if child < node.end as usize {
                        out.push(' ');
                    }
                }
                out.push(')');
            }
        }
        let mut out = String::new();
        write(&Tree::parse(html), 0, &mut out);
        out
    }

    #[test]
    fn elements_nest_as_browsers_imply() {
        let check = |html: &str, wanted: &str| assert_eq!(shape(html), wanted, "{html}");
        check("<p>a<p>b<div>c</div>", r#"html(p("a") p("b") div("c"))"#);
        check("<ul><li>a<li>b<ul><li>c</ul></ul>d", r#"html(ul(li("a") li("b" ul(li("c")))) "d")"#);
        check(
            "<table><tr><td>a<td>b<tr><th>c</table>x",
            r#"html(table(tr(td("a") td("b")) tr(th("c"))) "x")"#,
        );
        check("<div><b>a</div>b", r#"html(div(b("a")) "b")"#);
        check("<td>a</div>b", r#"html(td("a" "b"))"#);
        check("<dl><dt>a<dd>b<dt>c</dl>", r#"html(dl(dt("a") dd("b") dt("c")))"#);
        check("a<br/>b<img src='>'>c", r#"html("a" br "b" img "c")"#);
        check("<title>a<b></title>b", r#"html(title("a<b>") "b")"#);
        check("<script>if (a</b>) '</scripty>'</SCRIPT >b", r#"html(script("if (a</b>) '</scripty>'") "b")"#);
        check("<!-- <p> -->a<![CDATA[b]]><?php x ?>c<!doctype html>", r#"html("a" "b" "c")"#);
        check("a < b <3 </ x>", r#"html("a " "<" " b " "<" "3 ")"#);
        check("<head><title>t</title>a<p>b", r#"html(head(title("t")) "a" p("b"))"#);
        check("<a href=x>a<a>b</a>", r#"html(a("a") a("b"))"#);
        check("<svg/><x-y>a</x-y>b", r#"html(svg other("a") "b")"#);
    }

    #[test]
    fn attributes_in_every_spelling() {
        let tree = Tree::parse("<a HREF=x/y class = 'b c' title=\"a>b\" hidden data-x=\"\">");
        let found: Vec<_> = tree.attributes(&tree.nodes[1]).collect();
        assert_eq!(
            found,
            [("HREF", "x/y"), ("class", "b c"), ("title", "a>b"), ("hidden", ""), ("data-x", "")]
        );
        assert_eq!(tree.attribute(&tree.nodes[1], "href"), Some("x/y"));
    }

    #[test]
    fn depth_is_capped_and_text_is_kept() {
        let html = "<div>".repeat(100_000) + "deep" + &"</div>".repeat(100_000) + "after";
        let tree = Tree::parse(&html);
        let texts: Vec<_> =
            tree.nodes.iter().filter(|n| n.tag == Tag::Text).map(|n| tree.raw_text(n)).collect();
        assert_eq!(texts, ["deep", "after"]);
        let mut deepest = 0;
        for mut node in tree.nodes.iter() {
            let mut depth = 0;
            while node.parent != 0 {
                node = &tree.nodes[node.parent as usize];
                depth += 1;
            }
            deepest = deepest.max(depth);
            if deepest > DEEPEST {
                break;
            }
        }
        assert!(deepest <= DEEPEST, "{deepest}");
    }

    #[test]
    fn unfinished_pages_end() {
        for html in
            ["<", "</", "<a", "<a b", "<a b='", "<!--", "<!-->", "<script>", "<![CDATA[", "</a", "<a/", "&"]
        {
            let tree = Tree::parse(html);
            assert_eq!(tree.nodes[0].end as usize, tree.nodes.len(), "{html}");
        }
    }
}
