//! Words that tell content from what surrounds it: in class names and ids, and in the text itself.
//!
//! They are evidence for the classifier, never a rule. A group is one feature; its order is the model's.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

/// Groups of words in classes and ids. A word in capitals counts only when it stands alone.
const NAMES: &[&[&str]] = &[
    &["NAV", "navbar", "navigation", "menu", "breadcrumb", "paginat", "PAGER", "TOC"],
    &["sidebar", "side-bar", "ASIDE", "RAIL", "widget"],
    &["footer", "copyright", "legal", "disclaimer"],
    &["header", "masthead", "topbar", "top-bar"],
    &["comment", "disqus", "REPLY", "respond"],
    &["share", "sharing", "social", "follow", "twitter", "facebook"],
    &[
        "related",
        "recommend",
        "similar",
        "popular",
        "trending",
        "recent",
        "also",
        "MORE",
        "readnext",
        "suggest",
    ],
    &["AD", "ADS", "advert", "sponsor", "promo", "CTA", "outbrain", "taboola", "banner"],
    &[
        "cookie", "consent", "gdpr", "popup", "pop-up", "modal", "overlay", "dialog", "lightbox", "drawer",
        "tooltip",
    ],
    &["newsletter", "subscri", "signup", "sign-up", "login", "account", "CART", "search", "minicart"],
    &["META", "byline", "author", "DATE", "TAGS", "category", "caption", "credit", "timestamp", "BIO"],
    &[
        "content",
        "MAIN",
        "BODY",
        "entry",
        "TEXT",
        "story",
        "RTE",
        "richtext",
        "rich-text",
        "prose",
        "markdown",
    ],
    &["article", "POST", "BLOG", "single", "hentry", "wysiwyg"],
    &["product", "price", "description", "SPEC", "specs", "detail", "feature"],
    &["forum", "thread", "topic", "message", "answer", "question", "review", "post-body", "cooked"],
    &["hidden", "sr-only", "visually", "collapse", "d-none", "print", "screen-reader", "skip"],
    &["card", "grid", "list", "item", "tile", "slide", "carousel", "swiper"],
    &["BTN", "button", "toolbar", "control", "icon", "toggle", "filter", "sort"],
    &["hero", "intro", "lead", "summary", "excerpt", "abstract", "subtitle", "teaser"],
    &["faq", "accordion", "TAB", "TABS", "tabpanel", "panel"],
];

/// Groups of words in text.
const TEXTS: &[&[&str]] = &[
    &["share", "tweet", "pin it", "facebook", "twitter", "instagram", "linkedin", "whatsapp", "follow us"],
    &["subscribe", "newsletter", "sign up", "inbox", "unsubscribe"],
    &["log in", "login", "sign in", "register", "create an account", "my account", "password"],
    &["cookie", "privacy", "terms of", "terms and", "terms &", "consent", "gdpr"],
    &["©", "copyright", "rights reserved", "powered by", "trademark"],
    &["comment", "reply", "leave a", "posted by", "permalink"],
    &[
        "related",
        "read more",
        "you may also",
        "you might",
        "more from",
        "recommended",
        "see also",
        "popular",
        "trending",
        "latest",
    ],
    &[
        "menu",
        "skip to",
        "back to",
        "next",
        "previous",
        "view all",
        "show more",
        "load more",
        "see all",
        "learn more",
        "click here",
        "close",
    ],
    &[
        "add to cart",
        "add to bag",
        "buy now",
        "checkout",
        "wishlist",
        "shipping",
        "in stock",
        "quantity",
        "sold out",
        "your cart",
    ],
    &[
        "by ",
        "author",
        "published",
        "updated",
        "min read",
        "minutes read",
        "minute read",
        "posted on",
        "views",
        "written by",
    ],
    &["advertisement", "sponsored", "affiliate", "promo"],
    &["phone", "email", "e-mail", "contact us", "call us", "fax", "p.o. box"],
    &["helpful", "rating", "stars", "reviews", "verified", "report"],
    &["search", "filter", "sort by", "results", "select", "choose"],
    &["get started", "book now", "free trial", "request a", "download", "try it", "schedule a", "apply now"],
];

/// Features that [`names`] gives.
pub const NAME_GROUPS: usize = NAMES.len();
/// Features that [`texts`] gives.
pub const TEXT_GROUPS: usize = TEXTS.len();

struct Words {
    search: AhoCorasick,
    /// By pattern: its group, and whether it must stand alone.
    groups: Vec<(u8, bool)>,
}

impl Words {
    fn new(groups: &[&[&str]]) -> Option<Words> {
        let patterns: Vec<(&str, u8)> = (0..)
            .zip(groups)
            .flat_map(|(group, words)| words.iter().map(move |&word| (word, group)))
            .collect();
        let search = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns.iter().map(|(word, _)| word))
            .ok()?;
        let alone = |word: &str| word.bytes().all(|byte| byte.is_ascii_uppercase());
        Some(Words { search, groups: patterns.iter().map(|&(word, group)| (group, alone(word))).collect() })
    }
}

static NAME_WORDS: LazyLock<Option<Words>> = LazyLock::new(|| Words::new(NAMES));
static TEXT_WORDS: LazyLock<Option<Words>> = LazyLock::new(|| Words::new(TEXTS));

/// The groups that a class or id speaks of, as bits.
pub fn names(value: &str) -> u32 {
    let Some(words) = NAME_WORDS.as_ref() else { return 0 };
    let bytes = value.as_bytes();
    let mut found = 0;
    for hit in words.search.find_iter(value) {
        let (group, alone) = words.groups[hit.pattern().as_usize()];
        let is_letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphabetic);
        let within_a_word = (hit.start() > 0 && is_letter(hit.start() - 1)) || is_letter(hit.end());
        if !alone || !within_a_word {
            found |= 1 << group;
        }
    }
    found
}

/// How often a text uses the words of each group; each begins at a word's beginning.
pub fn texts(text: &str) -> [u16; TEXT_GROUPS] {
    let mut found = [0u16; TEXT_GROUPS];
    let Some(words) = TEXT_WORDS.as_ref() else { return found };
    let bytes = text.as_bytes();
    for hit in words.search.find_iter(text) {
        if hit.start() == 0 || !bytes[hit.start() - 1].is_ascii_alphanumeric() {
            let count = &mut found[usize::from(words.groups[hit.pattern().as_usize()].0)];
            *count = count.saturating_add(1);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_names_and_texts() {
        assert_eq!(names("site-nav"), 1);
        assert_eq!(names("canvas navigate"), 0, "not alone");
        assert_eq!(names("shadow"), 0);
        assert_eq!(names("Main_Ad SideBar"), 1 << 11 | 1 << 7 | 1 << 1);
        assert_eq!(names("é"), 0);
        let found = texts("Share this: tweet it. Reshare.");
        assert_eq!(found[0], 2);
    }
}
