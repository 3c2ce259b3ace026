//! The elements that extraction tells apart, and what each means for the shape of a text.

macro_rules! tags {
    ($($name:ident $text:literal),* $(,)?) => {
        /// An element's name; every name not listed is `Other`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Tag { Text, Other, $($name),* }

        impl Tag {
            fn of_lower(name: &str) -> Tag {
                match name { $($text => Tag::$name,)* _ => Tag::Other }
            }
        }

        /// How many there are, for tables by tag.
        pub const TAGS: usize = [Tag::Text, Tag::Other, $(Tag::$name),*].len();
    };
}

tags! {
    Html "html", Head "head", Body "body", Title "title", Meta "meta", Link "link", Base "base", Style "style",
    Script "script", Noscript "noscript", Template "template", Main "main", Article "article", Section "section",
    Nav "nav", Header "header", Footer "footer", Aside "aside", Div "div", Span "span", P "p", H1 "h1", H2 "h2",
    H3 "h3", H4 "h4", H5 "h5", H6 "h6", Ul "ul", Ol "ol", Li "li", Dl "dl", Dt "dt", Dd "dd", Table "table",
    Caption "caption", Thead "thead", Tbody "tbody", Tfoot "tfoot", Tr "tr", Td "td", Th "th", Pre "pre", Code "code",
    Blockquote "blockquote", Figure "figure", Figcaption "figcaption", A "a", B "b", Strong "strong", I "i", Em "em",
    Small "small", Sup "sup", Sub "sub", Br "br", Hr "hr", Img "img", Time "time", Address "address", Form "form",
    Fieldset "fieldset", Legend "legend", Label "label", Button "button", Select "select", Option "option",
    Optgroup "optgroup", Input "input", Textarea "textarea", Svg "svg", Math "math", Iframe "iframe", Object "object",
    Embed "embed", Video "video", Audio "audio", Canvas "canvas", Source "source", Track "track", Wbr "wbr", Area "area",
    Col "col", Param "param", Details "details", Summary "summary", Dialog "dialog", Menu "menu", Center "center",
    Hgroup "hgroup", Picture "picture", Xmp "xmp", Noembed "noembed", Noframes "noframes", Plaintext "plaintext",
    Listing "listing", Cite "cite", Q "q", Abbr "abbr", Del "del", S "s", Output "output",
}

/// Longer names are none of ours.
const LONGEST: usize = 10;

impl Tag {
    /// The tag of a name in any case.
    pub fn of(name: &[u8]) -> Tag {
        let mut lower = [0; LONGEST];
        let Some(lower) = lower.get_mut(..name.len()) else { return Tag::Other };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        std::str::from_utf8(lower).map_or(Tag::Other, Tag::of_lower)
    }

    /// Never has content.
    pub fn is_void(self) -> bool {
        use Tag::*;
        matches!(
            self,
            Meta | Link | Base | Br | Hr | Img | Input | Embed | Source | Track | Wbr | Area | Col | Param
        )
    }

    /// Its content is characters up to its own end tag, whatever they look like.
    pub fn is_raw(self) -> bool {
        use Tag::*;
        matches!(self, Script | Style | Title | Textarea | Iframe | Xmp | Noembed | Noframes | Plaintext)
    }

    /// Nothing in it is text of the page.
    pub fn is_skipped(self) -> bool {
        use Tag::*;
        matches!(
            self,
            Head | Script
                | Style
                | Template
                | Svg
                | Iframe
                | Object
                | Video
                | Audio
                | Canvas
                | Select
                | Textarea
                | Noembed
                | Noframes
        )
    }

    /// Text before and after it stands on lines of its own.
    pub fn is_block(self) -> bool {
        use Tag::*;
        matches!(
            self,
            Html | Body
                | Main
                | Article
                | Section
                | Nav
                | Header
                | Footer
                | Aside
                | Div
                | P
                | H1
                | H2
                | H3
                | H4
                | H5
                | H6
                | Ul
                | Ol
                | Li
                | Dl
                | Dt
                | Dd
                | Table
                | Caption
                | Thead
                | Tbody
                | Tfoot
                | Tr
                | Td
                | Th
                | Pre
                | Blockquote
                | Figure
                | Figcaption
                | Hr
                | Address
                | Form
                | Fieldset
                | Legend
                | Option
                | Optgroup
                | Details
                | Summary
                | Dialog
                | Menu
                | Center
                | Hgroup
                | Xmp
                | Plaintext
                | Listing
        )
    }

    /// h1 to h6 as 1 to 6.
    pub fn heading(self) -> Option<u8> {
        use Tag::*;
        Some(match self {
            H1 => 1,
            H2 => 2,
            H3 => 3,
            H4 => 4,
            H5 => 5,
            H6 => 6,
            _ => return None,
        })
    }

    /// White space in it counts.
    pub fn is_preformatted(self) -> bool {
        matches!(self, Tag::Pre | Tag::Xmp | Tag::Listing | Tag::Plaintext)
    }

    /// A start tag of it ends an open `<p>`.
    pub fn ends_paragraph(self) -> bool {
        self.is_block() && !matches!(self, Tag::Html | Tag::Body | Tag::Option | Tag::Optgroup | Tag::Legend)
    }

    /// End tags of other elements do not reach beyond it.
    pub fn is_scope(self) -> bool {
        use Tag::*;
        matches!(self, Html | Table | Td | Th | Caption | Template | Object | Button | Svg | Math)
    }

    /// What belongs into `<head>`; anything else opens the body.
    pub fn belongs_to_head(self) -> bool {
        use Tag::*;
        matches!(self, Title | Meta | Link | Base | Style | Script | Noscript | Template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case() {
        assert_eq!(Tag::of(b"DIV"), Tag::Div);
        assert_eq!(Tag::of(b"blockquote"), Tag::Blockquote);
        assert_eq!(Tag::of(b"h6"), Tag::H6);
        assert_eq!(Tag::of(b"custom-element"), Tag::Other);
        assert_eq!(Tag::of(b""), Tag::Other);
        assert_eq!(Tag::of(b"\xff"), Tag::Other);
    }
}
