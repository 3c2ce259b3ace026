//! Which language a text is in: for reports, and for the filter by languages.

use std::cell::RefCell;

use whatlang::Lang;

/// Bytes used for detection; more only costs time.
const LOOKED_AT_BYTES: usize = 800;
/// A document may be dropped for it, so more is looked at.
const CLASSIFIED_BYTES: usize = 4096;

/// English function words: about half of English text, and rare in other languages.
const FUNCTION_WORDS: [&str; 56] = [
    "the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on",
    "not", "this", "are", "or", "his", "from", "at", "which", "but", "have", "an", "had", "they", "you",
    "were", "their", "one", "all", "can", "has", "there", "been", "if", "more", "when", "will", "would",
    "who", "what", "its", "into", "than", "them", "these", "your", "how", "does", "should", "may", "about",
];
/// So many words are looked at, at least the first number of them …
const WORDS: std::ops::Range<usize> = 20..80;
/// … of which one in so many must be a function word.
const ONE_IN: usize = 4;

/// Whether a text is English beyond doubt. The detector takes some 200 µs for any text, and this 2.
fn is_plainly_english(text: &str) -> bool {
    let (mut words, mut functions, mut articles) = (0, 0, 0);
    for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).take(WORDS.end) {
        words += 1;
        let is = |known: &&str| known.len() == word.len() && known.eq_ignore_ascii_case(word);
        if let Some(word) = FUNCTION_WORDS.iter().find(|known| is(known)) {
            functions += 1;
            articles += usize::from(*word == "the");
        }
    }
    words >= WORDS.start && functions * ONE_IN >= words && articles > 0
}

/// The ISO 639-1 code of a text's language (639-3 where there is none), when the detector is sure.
pub fn detect(text: &str) -> Option<String> {
    let start = &text[..text.floor_char_boundary(LOOKED_AT_BYTES)];
    if is_plainly_english(start) {
        return Some("en".to_owned());
    }
    known(start, || {
        let info = whatlang::detect(start).filter(whatlang::Info::is_reliable)?;
        Some(short_code(info.lang()))
    })
    .map(ToOwned::to_owned)
}

/// Languages recently detected by this thread, by the texts' hashes.
const TOLD_LATELY: usize = 1024;

thread_local! {
    static LATELY: RefCell<Vec<(u128, Option<&'static str>)>> = const { RefCell::new(Vec::new()) };
}

/// What was told of this text lately, or what `tell` says: the detector takes 20 µs for a letter, and tables
/// hold the same few words a million times.
fn known(text: &str, tell: impl FnOnce() -> Option<&'static str>) -> Option<&'static str> {
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
    let hash = u128::from_le_bytes(hash);
    LATELY.with_borrow_mut(|lately| {
        lately.resize(TOLD_LATELY, (0, None));
        let place = &mut lately[hash as usize % TOLD_LATELY];
        if place.0 != hash {
            *place = (hash, tell());
        }
        place.1
    })
}

/// The likeliest language and how likely it is, by a longer look.
pub fn likeliest(text: &str) -> Option<(&'static str, f64)> {
    let start = &text[..text.floor_char_boundary(CLASSIFIED_BYTES)];
    let info = whatlang::detect(start)?;
    Some((short_code(info.lang()), info.confidence()))
}

/// The code of a language that a source names: `en` for `EN`, `en-US` and `eng`.
pub fn code(named: &str) -> String {
    let lower = named.trim().to_lowercase();
    let first = lower.split(['-', '_']).next().unwrap_or_default();
    match first.len() {
        3 => shortened(first).to_owned(),
        _ => first.to_owned(),
    }
}

fn short_code(language: Lang) -> &'static str {
    shortened(language.code())
}

/// The two letters of a language that has three, where it has two.
fn shortened(long: &str) -> &str {
    const CODES: &[&str] = &[
        "epo eo", "eng en", "rus ru", "cmn zh", "spa es", "por pt", "ita it", "ben bn", "fra fr", "deu de",
        "ukr uk", "kat ka", "ara ar", "hin hi", "jpn ja", "heb he", "yid yi", "pol pl", "amh am", "jav jv",
        "kor ko", "nob nb", "dan da", "swe sv", "fin fi", "tur tr", "nld nl", "hun hu", "ces cs", "ell el",
        "bul bg", "bel be", "mar mr", "kan kn", "ron ro", "slv sl", "hrv hr", "srp sr", "mkd mk", "lit lt",
        "lav lv", "est et", "tam ta", "vie vi", "urd ur", "tha th", "guj gu", "uzb uz", "pan pa", "aze az",
        "ind id", "tel te", "pes fa", "mal ml", "ori or", "mya my", "nep ne", "sin si", "khm km", "tuk tk",
        "aka ak", "zul zu", "sna sn", "afr af", "lat la", "slk sk", "cat ca", "tgl tl",
    ];
    CODES.iter().find(|pair| pair.starts_with(long)).map_or(long, |pair| &pair[4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_have_short_codes() {
        let french =
            "Sélectionnez le texte que vous souhaitez mettre en forme, puis choisissez une commande du menu.";
        assert_eq!(detect(french).as_deref(), Some("fr"));
        assert_eq!(
            detect("Select the text that you want to format, and then choose a command.").as_deref(),
            Some("en")
        );
        assert_eq!(detect("1 2 3"), None);
        for (named, wanted) in
            [("EN", "en"), ("pt-BR", "pt"), ("zh_Hans", "zh"), ("fra", "fr"), ("yue", "yue")]
        {
            assert_eq!(code(named), wanted);
        }
        let dutch = "Het is in de zomer van het jaar dat we in een huis aan de zee waren, en of het nu was \
                     of niet, er is veel van de wind en het water te zien, als we in de tuin zitten en over \
                     de dag spreken die was.";
        assert!(!is_plainly_english(dutch));
        let english = "The number of steps that are needed to reach the end of the list depends on how it \
                       was made, and on what is in it when the search begins.";
        assert!(is_plainly_english(english));
        for &language in Lang::all() {
            assert!(short_code(language).len() <= 3);
        }
    }
}
