//! The embedded font: widths for the layout, outlines for the painter.

use super::truetype::{Glyph, Piece, TrueType};

pub(super) static FONT: &[u8] = include_bytes!("../../assets/roboto-subset.ttf");

/// A parsed font; parsing costs microseconds.
pub(super) struct Font {
    face: TrueType,
}

impl Font {
    pub(super) fn embedded() -> Font {
        Font { face: TrueType::parse(FONT).expect("invariant: the embedded font parses, as a test shows") }
    }

    /// Width of a text at a size, in the size's unit.
    pub(super) fn width(&self, text: &str, size: f32) -> f32 {
        text.chars().map(|c| self.advance(self.glyph(c), size)).sum()
    }

    /// Calls `outline` for each glyph with its offset from the text's start.
    pub(super) fn for_each_glyph(&self, text: &str, size: f32, mut draw: impl FnMut(Glyph, f32)) {
        let mut x = 0.0;
        for c in text.chars() {
            let glyph = self.glyph(c);
            draw(glyph, x);
            x += self.advance(glyph, size);
        }
    }

    /// A glyph in font units, y up. Nothing for a space.
    pub(super) fn outline(&self, glyph: Glyph) -> Vec<Piece> {
        self.face.outline(glyph)
    }

    /// Font units to a size.
    pub(super) fn scale(&self, size: f32) -> f32 {
        size / f32::from(self.face.units_per_em)
    }

    /// The text, cut with an ellipsis where it is wider than `width`.
    pub(super) fn fit(&self, text: &str, size: f32, width: f32) -> String {
        if self.width(text, size) <= width {
            return text.to_owned();
        }
        let mut kept = String::new();
        for c in text.chars() {
            kept.push(c);
            if self.width(&kept, size) + self.width("…", size) > width {
                kept.pop();
                break;
            }
        }
        kept.push('…');
        kept
    }

    /// Letters that the font lacks show as its empty box.
    fn glyph(&self, c: char) -> Glyph {
        self.face.glyph(c).unwrap_or(Glyph(0))
    }

    fn advance(&self, glyph: Glyph, size: f32) -> f32 {
        f32::from(self.face.advance(glyph)) * self.scale(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_font_has_the_letters_of_our_labels() {
        let font = Font::embedded();
        for c in "Training loss (nats per token) 0123456789,.−… äßéñøąłЖяΩ·×".chars() {
            assert!(font.face.glyph(c).is_some(), "{c}");
        }
        assert!(font.width("wide", 20.0) > font.width("wi", 20.0));
    }

    #[test]
    fn long_texts_are_cut_to_the_width() {
        let font = Font::embedded();
        assert_eq!(font.fit("short", 10.0, 100.0), "short");
        let cut = font.fit(&"long ".repeat(50), 10.0, 100.0);
        assert!(cut.ends_with('…') && font.width(&cut, 10.0) <= 100.0, "{cut}");
        assert_eq!(font.fit("anything", 10.0, 0.0), "…");
    }
}
