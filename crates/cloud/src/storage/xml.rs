//! As much of XML as S3 answers in: elements by their path, without attributes and namespaces.

use quick_xml::Reader;
use quick_xml::events::Event;

/// Responses with deeper nesting are refused.
const DEEPEST: usize = 16;

/// Calls back for each element at its end with its path, such as `ListBucketResult/Contents/Key`, and its
/// text. `None` if it is not XML.
pub fn elements(text: &str, visit: &mut dyn FnMut(&str, &str)) -> Option<()> {
    let mut reader = Reader::from_str(text);
    let (mut path, mut words) = (Vec::<String>::new(), String::new());
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                if path.len() == DEEPEST {
                    return None;
                }
                path.push(tag.local_name().as_ref().to_owned());
                words.clear();
            }
            Event::Empty(tag) => visit(&format!("{}/{}", path.join("/"), tag.local_name().as_ref()), ""),
            Event::End(_) => {
                visit(&path.join("/"), &words);
                path.pop()?;
                words.clear();
            }
            Event::Text(text) => words.push_str(&text),
            Event::CData(text) => words.push_str(&text),
            Event::GeneralRef(name) => {
                words.push_str(&quick_xml::escape::unescape(&format!("&{};", &*name)).ok()?);
            }
            Event::Eof => return path.is_empty().then_some(()),
            _ => {}
        }
    }
}

/// The text of the first element of this path.
pub fn text_of(text: &str, wanted: &str) -> Option<String> {
    let mut found = None;
    elements(text, &mut |path, words| {
        if path == wanted && found.is_none() {
            found = Some(words.to_owned());
        }
    })?;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_by_path() {
        let text =
            "<?xml version=\"1.0\"?>\n<A xmlns=\"http://x\"><B><C>a &lt;&#233;</C></B><B><C/></B> </A>";
        let mut seen = Vec::new();
        elements(text, &mut |path, words| seen.push(format!("{path}={words}"))).unwrap();
        assert_eq!(seen, ["A/B/C=a <é", "A/B=", "A/B/C=", "A/B=", "A= "]);
        assert_eq!(text_of(text, "A/B/C").as_deref(), Some("a <é"));
        for bad in ["<A>", "<A></B>", "<A>&nope;</A>"] {
            assert_eq!(text_of(bad, "A"), None, "{bad}");
        }
        assert_eq!(text_of(&"<A>".repeat(1000), "A"), None);
    }
}
