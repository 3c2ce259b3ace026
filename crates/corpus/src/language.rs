//! Which language a text is in: for reports, and for the filter by languages.

use whatlang::Lang;

/// Enough to tell; more only costs time.
const LOOKED_AT_BYTES: usize = 800;
/// A document may be dropped for it, so more is looked at.
const JUDGED_BYTES: usize = 4096;

/// The ISO 639-1 code of a text's language (639-3 where there is none), when the detector is sure.
pub fn detect(text: &str) -> Option<String> {
    let start = &text[..text.floor_char_boundary(LOOKED_AT_BYTES)];
    let info = whatlang::detect(start).filter(whatlang::Info::is_reliable)?;
    Some(short_code(info.lang()).to_owned())
}

/// The likeliest language and how likely it is, by a longer look.
pub fn likeliest(text: &str) -> Option<(&'static str, f64)> {
    let start = &text[..text.floor_char_boundary(JUDGED_BYTES)];
    let info = whatlang::detect(start)?;
    Some((short_code(info.lang()), info.confidence()))
}

fn short_code(language: Lang) -> &'static str {
    const CODES: &[&str] = &[
        "epo eo", "eng en", "rus ru", "cmn zh", "spa es", "por pt", "ita it", "ben bn", "fra fr", "deu de",
        "ukr uk", "kat ka", "ara ar", "hin hi", "jpn ja", "heb he", "yid yi", "pol pl", "amh am", "jav jv",
        "kor ko", "nob nb", "dan da", "swe sv", "fin fi", "tur tr", "nld nl", "hun hu", "ces cs", "ell el",
        "bul bg", "bel be", "mar mr", "kan kn", "ron ro", "slv sl", "hrv hr", "srp sr", "mkd mk", "lit lt",
        "lav lv", "est et", "tam ta", "vie vi", "urd ur", "tha th", "guj gu", "uzb uz", "pan pa", "aze az",
        "ind id", "tel te", "pes fa", "mal ml", "ori or", "mya my", "nep ne", "sin si", "khm km", "tuk tk",
        "aka ak", "zul zu", "sna sn", "afr af", "lat la", "slk sk", "cat ca", "tgl tl",
    ];
    let long = language.code();
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
        for &language in Lang::all() {
            assert!(short_code(language).len() <= 3);
        }
    }
}
