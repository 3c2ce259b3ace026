//! Object storage, against a server on this machine that fails on demand.

use std::path::Path;
use std::time::Duration;

use cloud::Error;
use cloud::storage::{Address, Keys, Object, ObjectCache, Settings, Storage};
use sha2::{Digest, Sha256};
use testkit::objects::{Asked, Fault, ObjectServer};

const PART_BYTES: u64 = 1000;
const PAUSE: Duration = Duration::from_millis(5);

fn storage(server: &ObjectServer) -> Storage {
    let keys = Keys {
        access_key_id: "AKID".into(),
        secret_access_key: "very-secret".into(),
        session_token: Some("token".into()),
    };
    let settings =
        Settings { endpoint: Some(server.endpoint.clone()), region: "lab".into(), keys: Some(keys) };
    Storage::new(settings, "raw").with_limits(PART_BYTES, PAUSE)
}

/// The only object whose key is this.
fn find(storage: &Storage, key: &str) -> Object {
    storage.list(key).unwrap().into_iter().find(|object| object.key == key).unwrap()
}

fn requests(log: &[Asked]) -> Vec<String> {
    let line = |asked: &Asked| {
        let query: String = asked.query.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        format!("{} {}{query}", asked.method, asked.key)
    };
    log.iter().map(line).collect()
}

/// What every request must be.
fn check_signed(log: &[Asked]) {
    for asked in log {
        let header = |name: &str| asked.headers.get(name).cloned().unwrap_or_default();
        let sha256: String = Sha256::digest(&asked.body).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(header("x-amz-content-sha256"), sha256, "{asked:?}");
        let authorization = header("authorization");
        let day = &header("x-amz-date")[..8];
        let scope = format!("AWS4-HMAC-SHA256 Credential=AKID/{day}/lab/s3/aws4_request,SignedHeaders=");
        assert!(authorization.starts_with(&scope), "{authorization}");
        assert!(
            authorization.contains("host;") && authorization.contains(";x-amz-security-token,"),
            "{asked:?}"
        );
        assert_eq!((header("x-amz-security-token").as_str(), header("expect").as_str()), ("token", ""));
        assert!(!asked.headers.values().any(|value| value.contains("very-secret")), "{asked:?}");
    }
}

#[test]
fn lists_have_pages_and_keys_of_any_characters() {
    if !testkit::has_program("curl") {
        return;
    }
    let server = ObjectServer::start("raw");
    let keys = ["a/1 +%&=.txt", "a/2?[x].txt", "a/3/../é.txt", "a/4", "a/5", "a/6\u{1}", "a/7", "b"];
    for key in keys {
        server.set(key, key.repeat(2));
    }
    server.set("empty", "");
    let storage = storage(&server);
    let found = storage.list("a/").unwrap();
    assert_eq!(found.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), &keys[..7]);
    let log = server.take_log();
    assert_eq!(log.len(), 3, "{:?}", requests(&log));
    check_signed(&log);
    let folder = tempfile::tempdir().unwrap();
    for object in found.iter().chain([&find(&storage, "empty")]) {
        assert_eq!(object.bytes, server.object(&object.key).unwrap().len() as u64);
        let path = folder.path().join("file");
        storage.get_file(object, &path, &mut |_| {}).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), server.object(&object.key).unwrap());
        assert_eq!(storage.get(&object.key).unwrap(), server.object(&object.key));
        storage.put(&format!("copies/{}", object.key), &std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(server.object(&format!("copies/{}", object.key)), server.object(&object.key));
    }
    check_signed(&server.take_log());
    assert_eq!(storage.get("nothing").unwrap(), None);
    storage.delete("b").unwrap();
    storage.delete("b").unwrap();
    assert_eq!(server.object("b"), None);
    assert!(storage.list("no").unwrap().is_empty());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_transfer_that_breaks_goes_on_and_a_busy_server_is_asked_again() {
    if !testkit::has_program("curl") {
        return;
    }
    let server = ObjectServer::start("raw");
    let bytes: Vec<u8> = (0..40_000u32).flat_map(u32::to_le_bytes).collect();
    server.set("large", bytes.clone());
    let storage = storage(&server);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    server.fail("GET", "prefix", Fault::Refuse(503, "SlowDown"));
    server.fail("GET", "prefix", Fault::Refuse(500, "InternalError"));
    let object = find(&storage, "large");
    server.fail("GET", "large", Fault::Break);
    // The list's key is in its query; the object's own request is the one without one.
    server.take_log();
    let mut heard = Vec::new();
    storage.get_file(&object, &path, &mut |bytes| heard.push(bytes)).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let log = server.take_log();
    let ranges: Vec<_> = log.iter().map(|asked| asked.headers.get("range").cloned()).collect();
    assert_eq!(ranges, [None, Some(format!("bytes={}-", bytes.len() / 2))]);
    assert!(log.iter().all(|asked| asked.headers["if-match"] == format!("\"{}\"", object.etag)));
    check_signed(&log);

    // What an earlier process left is gone on with; what is of another content is not.
    std::fs::remove_file(&path).unwrap();
    server.fail("GET", "large", Fault::Refuse(403, "AccessDenied"));
    let part = folder.path().join(format!("large.{}.part", object.etag));
    std::fs::write(&part, &bytes[..1000]).unwrap();
    let refused = storage.get_file(&object, &path, &mut |_| {}).unwrap_err();
    assert!(
        refused.to_string().contains("s3://raw/large") && refused.to_string().contains("403"),
        "{refused}"
    );
    assert_eq!(std::fs::read(&part).unwrap().len(), 1000, "a refusal's words are no part of the object");
    storage.get_file(&object, &path, &mut |_| {}).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(server.take_log().last().unwrap().headers["range"], "bytes=1000-");
    server.set("large", bytes[1..].to_vec());
    let replaced = storage.get_file(&object, &path, &mut |_| {}).unwrap_err();
    assert!(matches!(replaced, Error::Storage { status: 412, .. }), "{replaced}");
}

#[test]
fn large_files_go_up_in_parts_and_appear_whole_or_not_at_all() {
    if !testkit::has_program("curl") {
        return;
    }
    let server = ObjectServer::start("raw");
    let storage = storage(&server);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let send = |bytes: usize| {
        let bytes: Vec<u8> = (0..bytes).map(|i| ((i * 7919) >> 3) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mut heard = Vec::new();
        let sent = storage.put_file("to/file", &path, &mut |bytes| heard.push(bytes));
        (sent, bytes, heard)
    };
    for (bytes, parts) in [(0, 0), (1, 0), (1000, 0), (1001, 2), (3500, 4)] {
        let (sent, bytes, heard) = send(bytes);
        sent.unwrap();
        assert_eq!(server.object("to/file").as_ref(), Some(&bytes), "{} bytes", bytes.len());
        assert_eq!(heard.last(), Some(&(bytes.len() as u64)));
        let log = server.take_log();
        assert_eq!(log.iter().filter(|asked| asked.query.contains_key("partNumber")).count(), parts);
        check_signed(&log);
    }
    assert_eq!(
        requests(&{
            send(1001).0.unwrap();
            server.take_log()
        })
        .len(),
        4
    );

    // In the middle: a part that is refused for now, an answer that is lost, a late error.
    server.fail("PUT", "partNumber=2", Fault::Refuse(503, "SlowDown"));
    server.fail("PUT", "partNumber=3", Fault::LoseAnswer);
    server.fail("POST", "uploadId", Fault::LateError);
    server.fail("POST", "uploadId", Fault::LoseAnswer);
    let (sent, bytes, _) = send(2500);
    sent.unwrap();
    assert_eq!(server.object("to/file"), Some(bytes.clone()));
    assert_eq!(server.open_uploads(), 0);

    // What does not go better leaves what was there, and no parts.
    server.fail("PUT", "partNumber=2", Fault::Refuse(403, "AccessDenied"));
    let (sent, ..) = send(4000);
    let message = sent.unwrap_err().to_string();
    assert!(message.contains("s3://raw/to/file: the storage responded with 403 AccessDenied"), "{message}");
    assert_eq!((server.object("to/file"), server.open_uploads()), (Some(bytes), 0));
    check_signed(&server.take_log());
}

#[test]
fn refusals_say_what_to_do() {
    if !testkit::has_program("curl") {
        return;
    }
    let server = ObjectServer::start("raw");
    let unsigned = Storage::new(
        Settings { endpoint: Some(server.endpoint.clone()), region: "x".into(), keys: None },
        "raw",
    );
    let message = |fault| {
        server.fail("GET", "prefix", fault);
        unsigned.list("a").unwrap_err().to_string()
    };
    assert!(message(Fault::Refuse(403, "AccessDenied")).contains("AWS_ACCESS_KEY_ID"));
    assert!(message(Fault::Refuse(404, "NoSuchBucket")).contains("the bucket's name"));
    assert!(message(Fault::Refuse(301, "PermanentRedirect")).contains("AWS_REGION"));
    assert!(message(Fault::Refuse(403, "RequestTimeTooSkewed")).contains("clock"));
    assert!(server.take_log().iter().all(|asked| !asked.headers.contains_key("authorization")));
    let nobody = Settings { endpoint: Some("http://127.0.0.1:1".into()), region: "x".into(), keys: None };
    let unreachable = Storage::new(nobody, "raw").with_limits(1, PAUSE).get("a").unwrap_err().to_string();
    assert!(unreachable.contains("s3://raw/a: cannot connect to the server"), "{unreachable}");
}

#[test]
fn entries_are_objects_folders_and_patterns() {
    if !testkit::has_program("curl") {
        return;
    }
    let server = ObjectServer::start("raw");
    for key in [
        "a.txt",
        "texts/",
        "texts/a.jsonl",
        "texts/b.jsonl.zst",
        "texts/sub/c.jsonl",
        "texts2/d.txt",
        "w[1].txt",
    ] {
        server.set(key, key);
    }
    let storage = storage(&server);
    let keys = |entry: &str| {
        let address = Address::parse(entry).unwrap().unwrap();
        address.sources(&storage).map(|found| {
            (
                found.objects.into_iter().map(|object| object.key).collect::<Vec<_>>().join(" "),
                found.is_folder,
            )
        })
    };
    let folder = "texts/a.jsonl texts/b.jsonl.zst texts/sub/c.jsonl".to_owned();
    for (entry, wanted) in [
        ("s3://raw/a.txt", ("a.txt".to_owned(), false)),
        ("s3://raw/w[1].txt", ("w[1].txt".to_owned(), false)),
        ("s3://raw/texts", (folder.clone(), true)),
        ("s3://raw/texts/", (folder, true)),
        ("s3://raw/texts/*.jsonl*", ("texts/a.jsonl texts/b.jsonl.zst".to_owned(), false)),
        ("s3://raw/**/*.jsonl", ("texts/a.jsonl texts/sub/c.jsonl".to_owned(), false)),
    ] {
        assert_eq!(keys(entry).unwrap(), wanted, "{entry}");
    }
    assert!(keys("s3://raw/texts/*.csv").unwrap_err().to_string().contains("there is texts/a.jsonl"));
    assert!(keys("s3://raw/none/").unwrap_err().to_string().contains("nothing begins with `none/`"));
}

#[test]
fn objects_are_fetched_once_and_checked_each_time() {
    if !testkit::has_program("curl") {
        return;
    }
    let server = ObjectServer::start("raw");
    server.set("texts/../a.txt", "a text\n");
    let storage = storage(&server);
    let folder = tempfile::tempdir().unwrap();
    let cache = ObjectCache::new(folder.path());
    let object = find(&storage, "texts/../a.txt");
    server.take_log();
    let fetch = || cache.fetch(&storage, &object, &mut |_| {}).map(|fetched| fetched.path);
    let path: &Path = &fetch().unwrap();
    assert!(path.starts_with(folder.path()));
    assert_eq!(server.take_log().len(), 1);
    for (damage, asked) in [(None, 0), (Some("A text\n"), 1), (Some(""), 1), (None, 0)] {
        damage.iter().for_each(|damage| std::fs::write(path, damage).unwrap());
        assert_eq!(fetch().unwrap(), path);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "a text\n");
        assert_eq!(server.take_log().len(), asked, "{damage:?}");
    }
}

/// A server that goes on after an object's end is stopped there, whatever length it tells.
#[test]
fn no_more_of_an_object_is_taken_than_was_listed() {
    if !testkit::has_program("curl") {
        return;
    }
    let server = ObjectServer::start("raw");
    server.set("a", "a text\n");
    let storage = storage(&server);
    let object = find(&storage, "a");
    let folder = tempfile::tempdir().unwrap();
    let cache = ObjectCache::new(folder.path());
    let path = cache.path(&storage, &object);
    server.fail("GET", "a", Fault::Endless);
    let begun = std::time::Instant::now();
    let error = cache.fetch(&storage, &object, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::TooMuch { announced: 7, .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("s3://raw/a: 7 bytes were announced"), "{message}");
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    assert!(server.sent_bytes() < 64 << 20, "{} bytes", server.sent_bytes());
    // What was left by a process before is no way around it.
    std::fs::write(path.with_file_name(format!("object.{}.part", object.etag)), "a t").unwrap();
    server.fail("GET", "a", Fault::Endless);
    assert!(matches!(cache.fetch(&storage, &object, &mut |_| {}), Err(Error::TooMuch { .. })));
    let kept: Vec<String> = store::manifest::list_files(&store::fs::RealFs, folder.path()).unwrap();
    assert!(kept.iter().all(|name| name.ends_with("run.lock")), "{kept:?}");
    // More than a length says is another answer's, which curl leaves.
    server.fail("GET", "a", Fault::EndlessAfterLength);
    let fetched = cache.fetch(&storage, &object, &mut |_| {}).unwrap();
    assert_eq!(std::fs::read_to_string(fetched.path).unwrap(), "a text\n");
    // Small objects are held in memory.
    server.fail("GET", "a", Fault::Endless);
    let message = storage.get("a").unwrap_err().to_string();
    assert!(message.contains("s3://raw/a") && message.contains("longer than 64 MB"), "{message}");
}

#[test]
fn a_list_without_end_is_left() {
    if !testkit::has_program("curl") {
        return;
    }
    let server = ObjectServer::start("raw");
    let storage = storage(&server);
    for _ in 0..400 {
        server.fail("GET", "prefix", Fault::NextPage(3));
    }
    let message = storage.list("a").unwrap_err().to_string();
    assert!(message.contains("unexpected response from the object storage"), "{message}");
    // Some tries of four pages each: three, and the first again.
    assert!(server.take_log().len() <= 24);
    let server = ObjectServer::start("raw");
    let storage = self::storage(&server);
    for _ in 0..400 {
        server.fail("GET", "prefix", Fault::NextPage(usize::MAX));
    }
    let message = storage.list("a").unwrap_err().to_string();
    assert!(message.contains("the list does not end (301 pages of 0 objects"), "{message}");
}

#[test]
fn an_object_is_what_its_etag_says() {
    if !testkit::has_program("curl") {
        return;
    }
    let server = ObjectServer::start("raw");
    let storage = storage(&server);
    let folder = tempfile::tempdir().unwrap();
    let cache = ObjectCache::new(folder.path());
    let fetch = |key: &str| cache.fetch(&storage, &find(&storage, key), &mut |_| {}).unwrap();
    let text = |key: &str| std::fs::read_to_string(fetch(key).path).unwrap();
    server.set("a", "a text\n");
    server.set("encrypted/b", "another\n");

    // One bad read is read again, and so is what a power cut has left.
    let object = find(&storage, "a");
    let path = cache.path(&storage, &object);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path.with_file_name(format!("object.{}.part", object.etag)), [0; 7]).unwrap();
    assert_eq!((text("a").as_str(), fetch("a").doubt), ("a text\n", None));
    std::fs::remove_file(&path).unwrap();
    server.take_log();
    server.fail("GET", "a", Fault::Damage);
    let fetched = cache.fetch(&storage, &object, &mut |_| {}).unwrap();
    assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), fetched.doubt), ("a text\n", None));
    assert_eq!(server.take_log().len(), 2);

    // An ETag that is no MD5.
    let doubt = fetch("encrypted/b").doubt.unwrap();
    assert!(doubt.contains("s3://raw/encrypted/b: its MD5 is"), "{doubt}");
    assert_eq!((text("encrypted/b").as_str(), fetch("encrypted/b").doubt), ("another\n", None));

    // The same where the storage says so: only what is not all of one answer comes again.
    server.set("encrypted/told/c", "a third\n");
    let object_c = find(&storage, "encrypted/told/c");
    let path_c = cache.path(&storage, &object_c);
    let part = path_c.with_file_name(format!("object.{}.part", object_c.etag));
    for (left, asked) in [(None, 1), (Some(&[0; 3][..]), 2), (Some(&[0; 8]), 1)] {
        let _ = std::fs::remove_file(&path_c);
        std::fs::create_dir_all(part.parent().unwrap()).unwrap();
        left.iter().for_each(|left| std::fs::write(&part, left).unwrap());
        server.take_log();
        let fetched = cache.fetch(&storage, &object_c, &mut |_| {}).unwrap();
        assert_eq!((std::fs::read(&path_c).unwrap().as_slice(), fetched.doubt), (&b"a third\n"[..], None));
        assert_eq!(server.take_log().len(), asked, "{left:?}");
    }

    // A server that does not look at If-Match, and has another object by now.
    server.set("a", "a Text\n");
    std::fs::remove_file(&path).unwrap();
    server.fail("GET", "a", Fault::IgnoreMatch);
    let replaced = cache.fetch(&storage, &object, &mut |_| {}).unwrap_err();
    assert!(matches!(replaced, Error::Storage { status: 412, .. }), "{replaced}");
    assert!(!path.exists());
}

#[test]
fn long_heads_and_odd_names_are_taken() {
    if !testkit::has_program("curl") {
        return;
    }
    let server = ObjectServer::start("raw");
    let storage = storage(&server);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd[1]{a}/file");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    for bytes in [500, 2500] {
        std::fs::write(&path, vec![b'x'; bytes]).unwrap();
        storage.put_file("to/file", &path, &mut |_| {}).unwrap();
        assert_eq!(server.object("to/file"), Some(vec![b'x'; bytes]));
    }
    let object = find(&storage, "to/file");
    let back = path.with_file_name("back");
    server.fail("GET", "to/file", Fault::LongHead);
    storage.get_file(&object, &back, &mut |_| {}).unwrap();
    assert_eq!(std::fs::read(&back).unwrap().len(), 2500);
}

/// By hand, on the server that the environment names, in its bucket `lab`: `cargo test --release -p cloud --
/// --ignored --nocapture`.
#[test]
#[ignore = "needs a server"]
fn a_real_server_takes_files_whole_and_in_parts() {
    let storage = Storage::from_environment("lab").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (path, back) = (folder.path().join("file"), folder.path().join("back"));
    for (bytes, part_bytes) in
        [(0, 5 << 20), (20 << 20, 64 << 20), (20 << 20, 5 << 20), (300 << 20, 64 << 20)]
    {
        let sent: Vec<u8> =
            (0..bytes / 4).flat_map(|i: u32| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        std::fs::write(&path, &sent).unwrap();
        let storage = storage.clone().with_limits(part_bytes, PAUSE);
        let key = format!("trial/{bytes} of {part_bytes}, é+%");
        let start = std::time::Instant::now();
        storage.put_file(&key, &path, &mut |_| {}).unwrap();
        let put_s = start.elapsed().as_secs_f64();
        let start = std::time::Instant::now();
        storage.get_file(&find(&storage, &key), &back, &mut |_| {}).unwrap();
        let get_s = start.elapsed().as_secs_f64();
        assert!(std::fs::read(&back).unwrap() == sent, "{key}");
        println!("{key}: put in {put_s:.2} s, fetched in {get_s:.2} s");
        storage.delete(&key).unwrap();
        assert_eq!(storage.get(&key).unwrap(), None);
    }
}
