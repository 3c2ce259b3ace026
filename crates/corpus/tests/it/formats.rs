//! Tables, documents and archives: what they hold becomes documents, as files of a folder do.

use parquet::basic::{Compression, ZstdLevel};
use tokens::Split;

use crate::samples::{self, bzip2, docx, parquet, pdf, pdf_page, tar, zip};
use crate::{Project, gzip, undivided};

fn texts(name: &str, bytes: &[u8]) -> Vec<String> {
    let project = Project::new(&[(name, bytes)]);
    let summary = project.prepare(&undivided(&[name])).unwrap();
    assert_eq!(summary.quarantined, 0, "{:?}", summary.quarantine);
    project.texts(Split::Train)
}

#[test]
fn tables_give_a_document_a_row() {
    let csv = "id,text,language\r\n1,\"Hello, \"\"you\"\"\nthere\",EN\r\n2,caf\u{e9},\r\n";
    assert_eq!(texts("a.csv", csv.as_bytes()), ["Hello, \"you\"\nthere", "caf\u{e9}"]);
    assert_eq!(texts("a.tsv.gz", &gzip(b"text\tn\na,b\t1\n")), ["a,b"]);
    assert_eq!(texts("a.csv", b"\xef\xbb\xbftext;n\nhalf;1,5\n"), ["half"]);
    let project = Project::new(&[("a.csv", b"n,text\n1,one\n2\n\n3,three\n")]);
    let mut options = undivided(&["a.csv"]);
    options.quarantine_limit = 0.5;
    let summary = project.prepare(&options).unwrap();
    assert_eq!(project.texts(Split::Train), ["one", "three"]);
    assert_eq!((summary.quarantined, summary.quarantine[0].source.as_str()), (1, "a.csv:3"));
    options.text_field = "body".into();
    let message = project.prepare(&options).unwrap_err().to_string();
    assert!(message.contains("no column `body` (it has: n, text)"), "{message}");
}

#[test]
fn json_gives_a_document_an_object() {
    let array = "\u{feff}[\n  {\"id\": 1, \"text\": \"one, [two]\", \"language\": \"en-US\"},\n  \
                 {\"text\": \"\\\"three\\\"\"}\n]\n";
    assert_eq!(texts("a.json", array.as_bytes()), ["one, [two]", "\"three\""]);
    let project = Project::new(&[("a.json", array.as_bytes())]);
    project.prepare(&undivided(&["a.json"])).unwrap();
    let document = &project.documents(Split::Train)[0];
    assert_eq!((document.source.as_str(), document.language.as_deref()), ("a.json#1", Some("en")));
    // As C4 has it: lines, under this name.
    assert_eq!(texts("a.json.gz", &gzip(b"{\"text\":\"x\",\"n\":{}}\n{\"text\":\"y\"}\n")), ["x", "y"]);
    assert_eq!(texts("a.json", b"{\n  \"text\": \"pretty\"\n}"), ["pretty"]);
    let project = Project::new(&[("a.json", br#"[{"text": "x"}, 3, {"a": 1}, {"text": "cut"#)]);
    let mut options = undivided(&["a.json"]);
    options.quarantine_limit = 0.9;
    let summary = project.prepare(&options).unwrap();
    assert_eq!((project.texts(Split::Train), summary.quarantined), (vec!["x".to_owned()], 3));
    // Beside other files it is settings.
    let project = Project::new(&[("in/a.txt", b"text"), ("in/package.json", b"{\"name\": \"x\"}")]);
    let summary = project.prepare(&undivided(&["in"])).unwrap();
    assert_eq!((summary.quarantined, summary.ignored_files), (0, 1));
}

#[test]
fn parquet_gives_a_document_a_row_whatever_its_packing() {
    let texts_wanted: Vec<String> = (0..1000).map(|i| format!("row {i} of a table, with é")).collect();
    let mut rows: Vec<(Option<&str>, Option<&str>)> =
        texts_wanted.iter().map(|text| (Some(text.as_str()), Some("FR"))).collect();
    rows.insert(500, (None, None));
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for (compression, dictionary, group) in [
        (Compression::UNCOMPRESSED, false, 1001),
        (Compression::SNAPPY, true, 300),
        (Compression::GZIP(Default::default()), false, 1001),
        (zstd, true, 1001),
        (Compression::LZ4_RAW, false, 77),
    ] {
        let bytes = parquet(&rows, group, compression, dictionary);
        let project = Project::new(&[("a.parquet", &bytes)]);
        let summary = project.prepare(&undivided(&["a.parquet"])).unwrap();
        assert_eq!(project.texts(Split::Train), texts_wanted, "{compression:?}");
        assert_eq!(summary.train.languages.keys().collect::<Vec<_>>(), ["fr"]);
        assert_eq!(project.documents(Split::Train)[999].source, "a.parquet:1001");
    }
    let project = Project::new(&[("a.parquet", &parquet(&rows[..3], 3, zstd, false))]);
    let mut options = undivided(&["a.parquet"]);
    options.text_field = "body".into();
    let message = project.prepare(&options).unwrap_err().to_string();
    assert!(message.contains("no column `body` (it has: text, language)"), "{message}");
}

#[test]
fn documents_of_offices_and_presses_give_their_text() {
    assert_eq!(texts("a.docx", &docx(&["One &amp; two", "three"])), ["One & two\n\nthree"]);
    assert_eq!(texts("a.xml", b"<a><t>One</t><p>tw<b>o</b></p></a>"), ["One\ntwo"]);
    let two = pdf(&[&pdf_page(&["First line", "second \\(line\\)"]), &pdf_page(&["Page two"])]);
    let found = texts("a.pdf", &two);
    assert_eq!(found[0].trim_end(), "First line\nsecond (line)\n\nPage two");
    assert_eq!(texts("a.txt.bz2", &[bzip2(b"first "), bzip2(b"second")].concat()), ["first second"]);
    assert_eq!(texts("a.txt.xz", samples::XZ), ["un \u{e9}t\u{e9}, xz"]);
}

#[test]
fn archives_are_read_like_folders() {
    use tar::EntryType::{Directory, Regular};
    let inner = zip(&[
        ("x.txt", b"in the zip"),
        ("__MACOSX/x.txt", b"no"),
        ("p.pdf", &pdf(&[&pdf_page(&["printed"])])),
    ]);
    let table = parquet(&[(Some("in the table"), None)], 1, Compression::SNAPPY, true);
    let archive = tar(&[
        ("d/", Directory, b""),
        ("d/a.txt", Regular, b"in the tar"),
        ("d/b.jsonl.gz", Regular, &gzip(b"{\"text\": \"a line\"}\n")),
        ("d/.hidden.txt", Regular, b"no"),
        ("d/c.png", Regular, b"no"),
        ("d/e.zip", Regular, &inner),
        ("d/f.parquet", Regular, &table),
    ]);
    let wanted = ["in the tar", "a line", "in the zip", "printed", "in the table"];
    for (name, bytes) in [
        ("a.tar", archive.clone()),
        ("a.tar.gz", gzip(&archive)),
        ("a.tgz", gzip(&archive)),
        ("a.tar.zst", zstd::encode_all(archive.as_slice(), 3).unwrap()),
        ("a.tar.bz2", bzip2(&archive)),
    ] {
        let found = texts(name, &bytes);
        assert_eq!(found.iter().map(|text| text.trim()).collect::<Vec<_>>(), wanted, "{name}");
    }
    let project = Project::new(&[("in/a.tar", &archive)]);
    let summary = project.prepare(&undivided(&["in"])).unwrap();
    assert_eq!((summary.files, summary.ignored_files), (1, 3));
    assert_eq!(project.documents(Split::Train)[2].source, "in/a.tar/d/e.zip/x.txt");
}

#[test]
fn fetched_files_have_their_own_name_and_column_and_wikitext_s_lines_are_joined() {
    let lines = [
        " = One = \n",
        "",
        " A line . \n",
        " = = Section = = \n",
        " Another . \n",
        " = Two = \n",
        " End . \n",
    ];
    let rows: Vec<(Option<&str>, Option<&str>)> = lines.iter().map(|line| (Some(*line), None)).collect();
    let project = Project::new(&[("cache/x", &parquet(&rows, 4, Compression::SNAPPY, true))]);
    let mut options = undivided(&["wikitext-2"]);
    options.text_field = "other".into();
    options.remote = vec![corpus::RemoteEntry {
        entry: "wikitext-2".into(),
        text_field: Some("text".into()),
        rows_are_lines: true,
        files: vec![corpus::RemoteFile {
            name: "hf://Salesforce/wikitext@0123/train.parquet".into(),
            path: project.path("cache/x"),
            bytes: 1,
            identity: None,
        }],
        is_folder: false,
    }];
    project.prepare(&options).unwrap();
    let documents = project.documents(Split::Train);
    let texts: Vec<&str> = documents.iter().map(|document| document.text.as_str()).collect();
    let first = " = One = \n\n A line . \n = = Section = = \n Another . \n";
    assert_eq!(texts, [first, " = Two = \n End . \n"]);
    assert_eq!(documents[1].source, "hf://Salesforce/wikitext@0123/train.parquet:6");
    let inputs = corpus::inputs(&store::fs::RealFs, &options, project.folder.path()).unwrap();
    assert_eq!(inputs.keys().collect::<Vec<_>>(), ["hf://Salesforce/wikitext@0123/train.parquet"]);
}

#[test]
fn objects_are_known_by_what_names_them_and_folders_of_them_by_what_can_be_read() {
    let project = Project::new(&[("cache/x", b"A text of some words.\n")]);
    let file = |name: &str, etag: &str| corpus::RemoteFile {
        name: format!("s3://raw/{name}"),
        path: project.path(if name == "a.txt" { "cache/x" } else { "cache/nowhere" }),
        bytes: 22,
        identity: Some(format!("etag:{etag}:22")),
    };
    let mut options = undivided(&["s3://raw/"]);
    let mut entry = corpus::RemoteEntry {
        entry: "s3://raw/".into(),
        is_folder: true,
        files: vec![file("a.txt", "1"), file("b.css", "2")],
        ..Default::default()
    };
    options.remote = vec![entry.clone()];
    let summary = project.prepare(&options).unwrap();
    assert_eq!((summary.files, summary.ignored_files), (1, 1));
    let inputs = corpus::inputs(&store::fs::RealFs, &options, project.folder.path()).unwrap();
    assert_eq!(inputs["s3://raw/a.txt"], "etag:1:22");
    // Shares and inputs need no bytes, reading does.
    std::fs::remove_file(project.path("cache/x")).unwrap();
    assert!(project.prepare(&options).unwrap().reused);
    entry.files = vec![file("a.txt", "other")];
    options.remote = vec![entry.clone()];
    assert!(project.prepare(&options).is_err());
    entry.files = vec![file("b.css", "2")];
    options.remote = vec![entry];
    assert!(project.prepare(&options).unwrap_err().to_string().contains("no file of a supported format"));
}
