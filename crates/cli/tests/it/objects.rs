//! Text from object storage, and stages of machines that share nothing but a bucket: the bytes of one
//! process.

use std::path::Path;

use serde_json::json;
use store::fs::RealFs;
use store::lock::RunLock;
use store::manifest::list_files;
use testkit::objects::{Fault, ObjectServer};
use testkit::{Finished, Sandbox, text};

use crate::sandbox;

const RECIPE: &str = r#"
[data]
paths = ["s3://lab/raw/texts/", "s3://lab/raw/*.jsonl"]
[data.near_duplicates]
[data.mix]
temperature = 2.0
[tokenizer]
vocab_size = 280
[[train.phase]]
name = "first"
share = 0.5
[train.phase.mix]
weights = { "s3://lab/raw/texts/" = 1.0, "s3://lab/raw/*.jsonl" = 3.0 }
[[train.phase]]
name = "second"
share = 0.5
"#;

/// Folders that must not differ.
const MADE: [&str; 4] = ["data/documents", "tokenizer", "data/tokens", "data/tokens-first"];

/// A bucket with texts, and machines that have nothing of each other.
struct Lab {
    server: ObjectServer,
    sandbox: Sandbox,
}

impl Lab {
    /// `None` where there is no curl, and the test is skipped.
    fn new() -> Option<Lab> {
        if !testkit::has_program("curl") {
            return None;
        }
        let server = ObjectServer::start("lab");
        for seed in 0..8 {
            server.set(&format!("raw/texts/{seed} +.txt"), text(2000, seed / 2));
        }
        server.set("raw/texts/style.css", "p {}");
        let line = |seed| format!("{}\n", json!({ "text": text(900, seed) }));
        server.set("raw/more.jsonl", (5..40).map(line).collect::<String>() + "no JSON\n");
        Some(Lab { server, sandbox: sandbox() })
    }

    /// Runs a command on a machine, whose project folder and cache are its own.
    fn on(&self, machine: &str, arguments: &str) -> Finished {
        self.on_with(machine, arguments, &[])
    }

    fn on_with(&self, machine: &str, arguments: &str, variables: &[(&str, &str)]) -> Finished {
        self.sandbox.write(&format!("{machine}/text2llm.toml"), RECIPE);
        let folder = self.sandbox.path().join(machine);
        self.sandbox.run_with(arguments.split_whitespace(), |command| {
            command
                .current_dir(&folder)
                .env("TEXT2LLM_CACHE", folder.join("cache"))
                .env("AWS_ENDPOINT_URL", &self.server.endpoint)
                .env("AWS_ACCESS_KEY_ID", "AKID")
                .env("AWS_SECRET_ACCESS_KEY", "very-secret")
                .env("AWS_REGION", "lab")
                .env_remove("AWS_PROFILE")
                .envs(variables.iter().copied());
        })
    }

    fn stage(&self, machine: &str, stage: &str) -> Finished {
        self.on(machine, &format!("data stage {stage} --of 2 --share s3://lab/run/1 --json"))
    }

    #[track_caller]
    fn done(&self, machine: &str, stage: &str, reused: bool) {
        let done = self.stage(machine, stage).expect(0);
        assert!(done.last_line().contains(&format!("\"reused\":{reused}")), "{stage}: {}", done.stdout);
    }

    /// The share holds what is in this project.
    #[track_caller]
    fn same(&self, plain: &Path) {
        for folder in MADE {
            let names = list_files(&RealFs, &plain.join(folder)).expect("a folder");
            assert!(names.iter().any(|name| name == "manifest.json"), "{names:?}");
            for name in names {
                let shared = self.server.object(&format!("run/1/{folder}/{name}"));
                let here = std::fs::read(plain.join(folder).join(&name)).expect("a file");
                assert!(shared.as_ref() == Some(&here), "{folder}/{name} differs");
            }
        }
    }

    /// Keys of this beginning that were asked for by this method, since the last look.
    fn asked(&self, method: &str, beginning: &str) -> Vec<String> {
        let log = self.server.take_log();
        let meant =
            |asked: &&testkit::objects::Asked| asked.method == method && asked.key.starts_with(beginning);
        let mut keys: Vec<String> = log.iter().filter(meant).map(|asked| asked.key.clone()).collect();
        keys.sort();
        keys
    }
}

#[test]
fn machines_that_share_a_bucket_make_the_bytes_of_one() {
    let Some(lab) = Lab::new() else { return };
    lab.on("plain", "data prepare").expect(0);
    let plain = lab.sandbox.path().join("plain");
    lab.server.take_log();

    let early = lab.stage("early", "documents").expect(3);
    assert!(early.stderr.contains("rank 0 is missing; rank 1 is missing"), "{}", early.stderr);
    lab.server.take_log();
    // Each rank fetches its share of the texts, and both together all of them once.
    let mut fetched = Vec::new();
    for rank in 0..2 {
        lab.done(&format!("filter-{rank}"), &format!("filter --rank {rank}"), false);
        let texts = lab.asked("GET", "raw/");
        assert!(!texts.is_empty() && texts.len() < 9, "{texts:?}");
        fetched.extend(texts);
    }
    fetched.sort();
    fetched.dedup();
    assert_eq!(fetched.len(), 9, "{fetched:?}");
    lab.done("documents", "documents", false);
    assert_eq!(lab.asked("GET", "raw/"), [""; 0], "what the ranks have read is known by its ETag");
    lab.done("tokenizer", "tokenizer", false);
    lab.done("encode-0", "encode", false);
    lab.done("encode-1", "encode --rank 1", false);
    lab.done("tokens", "tokens", false);
    lab.same(&plain);

    // Whoever comes later, and knows nothing, has nothing to do.
    lab.server.take_log();
    for stage in
        ["filter", "filter --rank 1", "documents", "tokenizer", "encode", "encode --rank 1", "tokens"]
    {
        lab.done("late", stage, true);
    }
    assert_eq!(lab.asked("PUT", ""), [""; 0]);
    // Another recipe is another matter. The old mark goes before the first file does.
    let of_rank = "run/1/data/ranks/filter-00000-of-00002";
    lab.server.fail("PUT", &format!("{of_rank}/decisions"), Fault::Refuse(403, "AccessDenied"));
    lab.stage("late", "filter --rank 0 --set data.minimum_characters=2000").expect(3);
    assert_eq!(lab.server.object(&format!("{of_rank}/manifest.json")), None);
    assert!(lab.server.object(&format!("{of_rank}/decisions.jsonl.zst")).is_some());
    lab.done("back", "filter", false);
    let other = lab.stage("late", "filter --rank 0 --set data.minimum_characters=2000").expect(0);
    assert!(other.last_line().contains("\"reused\":true"), "only pushed: {}", other.stdout);
    lab.done("back", "filter", true);
    lab.same(&plain);

    let flag =
        lab.on("flag", "data stage filter quickstart --corpus-path s3://lab/raw/more.jsonl --json").expect(0);
    assert!(flag.last_line().contains("35 documents from 1 files"), "{}", flag.stdout);

    // A launcher passes the share on.
    let other = "data prepare --executor local --ranks 3 --share s3://lab/run/1 --json";
    let local = lab.on("local", other).expect(0);
    assert!(local.last_line().contains("local/data/documents/report.html"), "{}", local.stdout);
    lab.same(&plain);
    // The machine that trains brings what is there, and none of the text.
    lab.server.take_log();
    let here = lab.on("trainer", "data prepare --share s3://lab/run/1 --json").expect(0);
    assert!(here.stdout.contains("unchanged"), "{}", here.stdout);
    let log = lab.server.take_log();
    assert!(!log.iter().any(|asked| asked.method == "PUT" || asked.key.starts_with("raw/")), "{log:?}");
    let trainer = lab.sandbox.path().join("trainer");
    for folder in MADE {
        assert_eq!(
            std::fs::read(trainer.join(folder).join("manifest.json")).expect("brought"),
            std::fs::read(plain.join(folder).join("manifest.json")).expect("made"),
        );
    }
    // What it has left is with the launcher, too.
    let local = lab.sandbox.path().join("local");
    for folder in MADE {
        for name in list_files(&RealFs, &plain.join(folder)).expect("a folder") {
            let read = |root: &Path| std::fs::read(root.join(folder).join(&name)).expect("a file");
            assert!(read(&local) == read(&plain), "{folder}/{name} differs");
        }
    }
    let secret = lab.server.keys().into_iter().find(|key| {
        lab.server.object(key).is_some_and(|bytes| String::from_utf8_lossy(&bytes).contains("very-secret"))
    });
    assert_eq!(secret, None);
}

#[test]
fn a_push_that_breaks_leaves_no_mark_and_damage_is_told_by_name() {
    let Some(lab) = Lab::new() else { return };
    let decisions = "run/1/data/ranks/filter-00001-of-00002/decisions.jsonl.zst";
    let mark = "run/1/data/ranks/filter-00001-of-00002/manifest.json";
    lab.server.fail("PUT", decisions, Fault::Refuse(403, "AccessDenied"));
    let refused = lab.stage("one", "filter --rank 1").expect(3);
    assert!(
        refused.stderr.contains(decisions) && refused.stderr.contains("check the keys"),
        "{}",
        refused.stderr
    );
    assert_eq!(lab.server.object(mark), None);
    // It is made already, and only pushed.
    lab.done("one", "filter --rank 1", true);
    assert!(lab.server.object(mark).is_some());
    lab.done("zero", "filter", false);

    // One bad read is no damage.
    lab.server.fail("GET", decisions, Fault::Damage);
    lab.done("unlucky", "documents", false);
    assert!(lab.server.object(mark).is_some());
    lab.server.set("run/1/data/documents/manifest.json", "no manifest");

    // A rank that is at work in this project.
    let busy = lab.sandbox.path().join("busy/data/ranks/locks/filter-00001-of-00002");
    std::fs::create_dir_all(&busy).expect("writable");
    let held = RunLock::acquire(&busy).expect("nobody has it");
    let refused = lab.stage("busy", "documents").expect(3);
    assert!(refused.stderr.contains("rank 1 of 2 is running"), "{}", refused.stderr);
    drop(held);

    // One byte of the same size.
    let mut bytes = lab.server.object(decisions).expect("pushed");
    bytes[40] ^= 1;
    lab.server.set(decisions, bytes);
    let damaged = lab.stage("two", "documents").expect(3);
    for words in
        [decisions, "has a different BLAKE3 hash", "data stage filter --rank 1 --of 2 --share s3://lab/run/1"]
    {
        assert!(damaged.stderr.contains(words), "{}", damaged.stderr);
    }
    assert_eq!(lab.server.object(mark), None);
    lab.done("anywhere", "filter --rank 1", false);
    // What came before a break is not asked for again.
    let report = "run/1/data/ranks/filter-00001-of-00002/report.json";
    lab.server.fail("GET", report, Fault::Refuse(403, "AccessDenied"));
    assert!(lab.stage("late", "documents").expect(3).stderr.contains(report));
    lab.server.take_log();
    lab.done("late", "documents", false);
    let brought = lab.asked("GET", "run/1/data/ranks/filter-00001-of-00002/");
    let names: Vec<&str> = brought.iter().filter_map(|key| key.rsplit('/').next()).collect();
    assert_eq!(names, ["manifest.json", "report.json"]);
    lab.done("two", "documents", true);

    // A text that is another one by now.
    lab.server.set("raw/more.jsonl", "{\"text\": \"other\"}\n");
    let stale = lab.stage("three", "documents").expect(3);
    assert!(stale.stderr.contains("is out of date"), "{}", stale.stderr);
    let none = lab.on("four", "data stage filter --share nowhere").expect(1);
    assert!(none.stderr.contains("s3://BUCKET/PREFIX"), "{}", none.stderr);
}
