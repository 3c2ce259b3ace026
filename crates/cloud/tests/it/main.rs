//! The hub and object storage, against servers on this machine that speak their routes.
#![allow(clippy::unwrap_used)] // a test says what broke by panicking

mod fake;
mod objects;

use cloud::Error;
use cloud::hub::{Hub, Reference};
use fake::{Fake, LARGE, SMALL};

fn reference(entry: &str) -> Reference {
    Reference::parse(entry).unwrap().unwrap()
}

#[test]
fn files_come_checked_across_redirects_and_breaks() {
    if !testkit::has_program("curl") {
        return;
    }
    let fake = Fake::start();
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&fake.endpoint, Some("hf_secret".into()), cache.path(), false);
    let listing = hub.list(&reference("hf://owner/set"), &mut |note| panic!("{note}")).unwrap();
    assert_eq!(listing.commit, fake::COMMIT);
    assert_eq!(
        listing.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
        ["data/train-0.jsonl"]
    );
    let mut heard = Vec::new();
    let path = hub.fetch(&listing, &listing.files[0], &mut |bytes| heard.push(bytes)).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), LARGE.as_bytes());
    assert_eq!(heard.last(), Some(&(LARGE.len() as u64)));
    let log = fake.log();
    // The store behind the hub broke the first transfer off, and was asked for the rest alone; it never saw
    // the token.
    assert!(
        log.iter().any(|line| line.starts_with("store GET") && line.contains("range: bytes=")),
        "{log:#?}"
    );
    assert!(log.iter().all(|line| line.starts_with("hub") == line.contains("hf_secret")), "{log:#?}");

    // The second time nothing is fetched, and without a network neither.
    let offline = Hub::new(&fake.endpoint, None, cache.path(), true);
    let mut notes = Vec::new();
    let again = offline.list(&reference("hf://owner/set"), &mut |note| notes.push(note.to_owned())).unwrap();
    assert_eq!((again == listing, notes.len()), (true, 1));
    assert_eq!(offline.fetch(&again, &again.files[0], &mut |_| {}).unwrap(), path);
    // A file that was changed is fetched again.
    std::fs::write(&path, LARGE.to_lowercase()).unwrap();
    assert!(offline.fetch(&again, &again.files[0], &mut |_| {}).is_err());
    hub.fetch(&listing, &listing.files[0], &mut |_| {}).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), LARGE.as_bytes());

    let small = hub.list(&reference("hf://owner/set/small file.txt"), &mut |_| {}).unwrap();
    let path = hub.fetch(&small, &small.files[0], &mut |_| {}).unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), SMALL);
}

#[test]
fn a_model_s_files_are_those_that_it_is_used_with() {
    if !testkit::has_program("curl") {
        return;
    }
    let fake = Fake::start();
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&fake.endpoint, None, cache.path(), false);
    let listing = hub.list_model(&reference("hf://owner/model"), &mut |note| panic!("{note}")).unwrap();
    let names: Vec<&str> = listing.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["config.json", "model.safetensors"]);
    for file in &listing.files {
        hub.fetch(&listing, file, &mut |_| {}).unwrap();
    }
    let folder = hub.model_folder(&listing);
    assert!(folder.ends_with(format!("models--owner--model/{}", fake::COMMIT)), "{}", folder.display());
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), LARGE.as_bytes());
    assert_eq!(std::fs::read_to_string(folder.join("config.json")).unwrap(), SMALL);

    let one = hub.list_model(&reference("hf://owner/model/model-Q4_0.gguf"), &mut |_| {}).unwrap();
    assert_eq!(one.files.len(), 1);
    let refused = hub.list_model(&reference("hf://owner/model/model-Q8_0.gguf"), &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("model-Q4_0.gguf"), "{refused}");
}

/// Downloads that nobody has gone on with are removed; a file of a dataset may have any name.
#[test]
fn old_downloads_are_swept_and_no_file_of_a_data_set() {
    if !testkit::has_program("curl") {
        return;
    }
    let fake = Fake::start();
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&fake.endpoint, None, cache.path(), false);
    let listing = hub.list(&reference("hf://owner/set/small file.txt"), &mut |_| {}).unwrap();
    let folder = hub.path(&listing, &listing.files[0]).parent().unwrap().to_owned();
    std::fs::create_dir_all(&folder).unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(30 * 24 * 3600);
    let (theirs, ours) = (folder.join("engine.part"), folder.join(".text2llm-gone.txt.part"));
    for path in [&theirs, &ours] {
        std::fs::write(path, "x").unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    // What an earlier process left is gone on with.
    std::fs::write(folder.join(".text2llm-small file.txt.part"), &SMALL[..4]).unwrap();
    let path = hub.fetch(&listing, &listing.files[0], &mut |_| {}).unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), SMALL);
    assert_eq!((theirs.exists(), ours.exists()), (true, false));
    assert!(fake.log().iter().any(|line| line.contains("range: bytes=4-")), "{:#?}", fake.log());
}

#[test]
fn refusals_and_lies_are_told() {
    if !testkit::has_program("curl") {
        return;
    }
    let fake = Fake::start();
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&fake.endpoint, None, cache.path(), false);
    let message = |entry: &str| hub.list(&reference(entry), &mut |_| {}).unwrap_err().to_string();
    assert!(message("hf://owner/nowhere").contains("no such dataset, model"));
    assert!(message("hf://owner/gated").contains("HF_TOKEN"));
    let lies = hub.list(&reference("hf://owner/set/lies.txt"), &mut |_| {}).unwrap();
    let error = hub.fetch(&lies, &lies.files[0], &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(!hub.path(&lies, &lies.files[0]).exists());
    // What leads out of the cache is never asked for, and told where it is meant.
    assert!(message("hf://owner/set/**/escape.txt").contains("its name is not a valid file name"));
}

/// A hub that goes on after a file's end is stopped there, and what it sent is not kept.
#[test]
fn no_more_is_taken_than_was_announced() {
    if !testkit::has_program("curl") {
        return;
    }
    for file in ["longer.txt", "told.txt"] {
        let fake = Fake::start();
        let cache = tempfile::tempdir().unwrap();
        let hub = Hub::new(&fake.endpoint, None, cache.path(), false);
        let listing = hub.list(&reference(&format!("hf://owner/set/{file}")), &mut |_| {}).unwrap();
        let begun = std::time::Instant::now();
        let error = hub.fetch(&listing, &listing.files[0], &mut |_| {}).unwrap_err();
        let announced = SMALL.len() as u64;
        assert!(matches!(error, Error::TooMuch { announced: told, .. } if told == announced), "{error}");
        let message = error.to_string();
        assert!(message.contains(file) && message.contains("13 bytes were announced, and"), "{message}");
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
        assert!(fake.sent() < 64 << 20, "{} bytes were taken", fake.sent());
        let kept = store::manifest::list_files(&store::fs::RealFs, cache.path()).unwrap();
        assert!(kept.iter().all(|name| name.ends_with(".lock") || name.ends_with("main.json")), "{kept:?}");
    }
    let fake = Fake::start();
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&fake.endpoint, None, cache.path(), false);
    let message = hub.list(&reference("hf://owner/endless"), &mut |_| {}).unwrap_err().to_string();
    assert!(message.contains("longer than 64 MB"), "{message}");
    assert!(fake.sent() < 128 << 20, "{} bytes were taken", fake.sent());
}
