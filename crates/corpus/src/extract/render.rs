//! Renders kept blocks as plain text: paragraphs separated, list items and table rows on lines of their own,
//! code unchanged.

use super::page::{Block, Page};
use super::tags::Tag;

/// The text of the blocks marked in `kept`.
pub fn text(page: &Page<'_>, kept: &[bool]) -> String {
    let mut out = String::new();
    let mut before: Option<Line> = None;
    for (block, _) in page.blocks.iter().zip(kept).filter(|&(_, &kept)| kept) {
        let line = Line::of(page, block);
        if let Some(before) = before {
            out.push_str(before.separator(&line));
        }
        let opens_item = line.item.is_some() && before.is_none_or(|before| before.item != line.item);
        if opens_item {
            for _ in 1..line.list_depth {
                out.push_str("  ");
            }
            out.push_str("- ");
        }
        out.push_str(page.text_of(block));
        before = Some(line);
    }
    out
}

/// Where a block stands among lines.
#[derive(Clone, Copy, PartialEq)]
struct Line {
    element: u32,
    row: Option<u32>,
    item: Option<u32>,
    list_depth: usize,
}

impl Line {
    fn of(page: &Page<'_>, block: &Block) -> Line {
        let nodes = &page.tree.nodes;
        let mut line = Line { element: block.element, row: None, item: None, list_depth: 0 };
        let mut at = block.element as usize;
        // What stands in a table or list within an element further up is told by the innermost.
        while at != 0 {
            match nodes[at].tag {
                Tag::Tr if line.row.is_none() && line.item.is_none() => line.row = Some(at as u32),
                Tag::Li if line.row.is_none() => {
                    line.item.get_or_insert(at as u32);
                    line.list_depth += 1;
                }
                Tag::Table => break,
                _ => {}
            }
            at = nodes[at].parent as usize;
        }
        line
    }

    fn separator(&self, next: &Line) -> &'static str {
        if self.row.is_some() && self.row == next.row {
            // Paragraphs of one cell stay apart from the next cell's.
            return if self.element == next.element { "\n" } else { " | " };
        }
        let in_table = self.row.is_some() && next.row.is_some();
        let in_list = self.item.is_some() && next.item.is_some();
        if in_table || in_list { "\n" } else { "\n\n" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::tree::Tree;

    fn everything(html: &str) -> String {
        let page = Page::new(Tree::parse(html));
        text(&page, &vec![true; page.blocks.len()])
    }

    #[test]
    fn lists_tables_and_code() {
        assert_eq!(everything("<h1>T</h1><p>a<p>b"), "T\n\na\n\nb");
        assert_eq!(everything("a<ul><li>b<li>c<ul><li>d</ul></ul>e"), "a\n\n- b\n- c\n  - d\n\ne");
        assert_eq!(everything("<table><tr><th>a<th>b<tr><td>1<td><p>2</table>"), "a | b\n1 | 2");
        assert_eq!(everything("<p>x<pre>if a:\n    b\n</pre>y"), "x\n\nif a:\n    b\n\ny");
    }
}
