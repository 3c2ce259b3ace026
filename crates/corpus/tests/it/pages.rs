//! HTML files and web archives.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use corpus::CorpusOptions;
use corpus::extract::{self, ExtractionMode};
use tokens::Split;

use crate::{Project, gzip, undivided};

const PAGE: &str = "<html lang=en><title>On bread</title><nav><a href=/>Home</a> <a \
                    href=/x>Shop</a></nav><main><h1>On bread</h1><p>Bread is made of flour, water and salt, \
                    and it rises because yeast makes gas of the sugar in the dough.</p><p>A loaf is baked at \
                    a high heat for half an hour, until the crust is brown and sounds hollow when it is \
                    struck.</p></main><footer>Copyright 2026 <a href=/p>Privacy</a></footer>";

fn response(url: &str, body: &str) -> Vec<u8> {
    let http = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{body}");
    let head = format!(
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nContent-Type: application/http; \
         msgtype=response\r\n\
         Content-Length: {}\r\n\r\n",
        http.len()
    );
    [head.as_bytes(), http.as_bytes(), b"\r\n\r\n"].concat()
}

#[test]
fn a_folder_of_pages_gives_texts_with_their_titles() {
    let latin = PAGE.replace("Bread is", "Br\u{e8}d is").chars().map(|c| c as u8).collect::<Vec<_>>();
    let project = Project::new(&[
        ("in/a.html", PAGE.as_bytes()),
        ("in/b.htm.gz", &gzip(&latin)),
        ("in/c.html", b"\0\0\0"),
    ]);
    let options = CorpusOptions { quarantine_limit: 0.5, ..undivided(&["in"]) };
    let summary = project.prepare(&options).unwrap();
    assert_eq!((summary.documents(), summary.quarantined), (2, 1));
    let documents = project.documents(Split::Train);
    assert!(documents[0].text.starts_with("Bread is made") || documents[0].text.starts_with("On bread"));
    assert!(documents[1].text.contains("Brèd is"), "{}", documents[1].text);
    assert!(!documents[0].text.contains("Shop"));
    assert_eq!(documents[0].title.as_deref(), Some("On bread"));
    assert_eq!(documents[0].language.as_deref(), Some("en"));
}

#[test]
fn an_archive_that_breaks_off_keeps_what_came_before() {
    let records = [
        b"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 3\r\n\r\na:b\r\n\r\n".to_vec(),
        response("https://x.org/1", PAGE),
        response("https://x.org/2", &PAGE.replace("yeast", "leaven")),
    ]
    .concat();
    let whole = Project::new(&[("a.warc.gz", &gzip(&records))]);
    let summary = whole.prepare(&undivided(&["a.warc.gz"])).unwrap();
    assert_eq!((summary.documents(), summary.quarantined), (2, 0));
    assert_eq!(whole.documents(Split::Train)[1].url.as_deref(), Some("https://x.org/2"));

    let lenient = CorpusOptions { quarantine_limit: 0.5, ..undivided(&["a.warc"]) };
    for cut in [records.len() - 200, records.len() - 500] {
        let cut = Project::new(&[("a.warc", &records[..cut])]);
        let summary = cut.prepare(&lenient).unwrap();
        assert_eq!(summary.documents(), 1);
        assert!(summary.quarantine[0].reason.contains("truncated"), "{:?}", summary.quarantine);
    }
    let mut claims = records.clone();
    claims.extend(
        b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: \
          99999999999999\r\n\r\nx",
    );
    let summary = Project::new(&[("a.warc", &claims)]).prepare(&lenient).unwrap();
    assert_eq!(
        (summary.documents(), summary.quarantined),
        (2, 1),
        "a length is not believed before it is read"
    );
    let none = Project::new(&[("a.warc", b"not an archive")]).prepare(&undivided(&["a.warc"]));
    assert!(none.unwrap_err().to_string().contains("not a WARC archive"));
}

#[test]
fn blocked_addresses_are_dropped_and_told() {
    let records = [
        response("https://bad.org/1", PAGE),
        response("https://good.org/2", &PAGE.replace("yeast", "leaven")),
    ]
    .concat();
    let project = Project::new(&[("a.warc", &records), ("list.txt", b"# ours\nbad.org\n")]);
    let mut options: CorpusOptions = undivided(&["a.warc"]);
    options.filters.url_block_lists = vec!["list.txt".to_owned()];
    let summary = project.prepare(&options).unwrap();
    assert_eq!((summary.documents(), summary.drops["url"].reasons["blocked_domain"]), (1, 1));
    let report = std::fs::read_to_string(project.documents_folder().join("report.html")).unwrap();
    assert!(report.contains("blocked_domain"));
    options.filters.url_block_lists = vec!["nowhere.txt".to_owned()];
    assert!(project.prepare(&options).unwrap_err().to_string().contains("nowhere.txt"));
}

/// Word-level F1 on some of the pages the model was trained on (tests/data/README.md): that the crate
/// computes what was trained, not how good it is.
#[test]
fn extraction_scores_as_trained() {
    let data = Path::new("tests/data/pages");
    let truth = std::fs::read_to_string(data.join("truth.jsonl")).unwrap();
    let words = |text: &str| {
        let mut counts: HashMap<String, i64> = HashMap::new();
        for word in
            text.to_lowercase().split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty())
        {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
        counts
    };
    let (mut sum, mut pages) = (0.0, 0.0);
    for line in truth.lines() {
        let page: serde_json::Value = serde_json::from_str(line).unwrap();
        let file =
            std::fs::File::open(data.join(format!("{}.html.gz", page["id"].as_str().unwrap()))).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        let found = words(&extract::extract(&extract::decode(&bytes, None).0, ExtractionMode::Balanced).text);
        let truth = words(page["main_content"].as_str().unwrap());
        let common: i64 = found.iter().map(|(word, n)| n.min(truth.get(word).unwrap_or(&0))).sum();
        sum +=
            2.0 * common as f64 / (found.values().sum::<i64>() + truth.values().sum::<i64>()).max(1) as f64;
        pages += 1.0;
    }
    let mean = sum / pages;
    println!("F1 {mean:.4} on {pages} pages seen in training");
    assert!(mean > 0.855, "{mean}");
}
