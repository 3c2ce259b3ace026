//! `data stage` and `data prepare --executor`: the same bytes as one process, and what happens to ranks that
//! are killed.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use store::fs::RealFs;
use store::lock::RunLock;
use store::manifest::list_files;
use testkit::{Sandbox, text};

use crate::sandbox;

const RECIPE: &str = r#"
[data]
paths = ["corpus", "more.jsonl"]
[data.near_duplicates]
[data.duplicate_spans]
[data.mix]
temperature = 2.0
[tokenizer]
vocab_size = 280
[[train.phase]]
name = "first"
share = 0.5
[train.phase.mix]
weights = { "corpus" = 1.0, "more.jsonl" = 3.0 }
[[train.phase]]
name = "second"
share = 0.5
"#;

/// Folders that must not differ.
const MADE: [&str; 4] = ["data/documents", "tokenizer", "data/tokens", "data/tokens-first"];

fn project() -> Sandbox {
    let sandbox = sandbox();
    sandbox.write("text2llm.toml", RECIPE);
    for seed in 0..20 {
        sandbox.write(&format!("corpus/{seed:02}.txt"), text(2000, seed / 2));
    }
    let line = |seed| format!("{}\n", serde_json::json!({ "text": text(900, seed) }));
    sandbox.write("more.jsonl", (5..60).map(line).collect::<String>() + "no JSON\n");
    sandbox
}

#[track_caller]
fn same(a: &Sandbox, b: &Path) {
    for folder in MADE {
        let (left, right) = (a.path().join(folder), b.join(folder));
        let names = list_files(&RealFs, &left).expect("a folder");
        assert_eq!(names, list_files(&RealFs, &right).expect("a folder"), "{folder}");
        assert!(!names.is_empty());
        for name in names {
            let read = |folder: &Path| std::fs::read(folder.join(&name)).expect("a file");
            assert!(read(&left) == read(&right), "{folder}/{name} differs");
        }
    }
}

fn plain(sandbox: &Sandbox) -> std::path::PathBuf {
    let done = sandbox.run("data prepare --output-dir plain --output agent").expect(0);
    assert!(done.stdout.contains("repeated spans removed"), "{}", done.stdout);
    sandbox.path().join("plain")
}

#[test]
fn stages_by_hand_and_by_local_processes_give_the_bytes_of_one_process() {
    let sandbox = project();
    let plain = plain(&sandbox);
    let early = sandbox.run("data stage documents --of 2").expect(3);
    assert!(early.stderr.contains("rank 0 is missing; rank 1 is missing"), "{}", early.stderr);
    assert!(sandbox.run("data stage encode --of 2").expect(3).stderr.contains("an earlier stage"));
    assert!(sandbox.run("data stage filter --rank 2 --of 2").expect(3).stderr.contains("no rank 2 of 2"));
    assert!(sandbox.run("data stage cook").expect(1).stderr.contains("no stage `cook`"));
    for stage in
        ["filter --rank 1", "filter", "documents", "tokenizer", "encode", "encode --rank 1", "tokens"]
    {
        for reused in [false, true] {
            let done = sandbox.run(&format!("data stage {stage} --of 2 --json")).expect(0);
            assert!(done.last_line().contains(&format!("\"reused\":{reused}")), "{stage}: {}", done.stdout);
        }
    }
    same(&sandbox, &plain);
    // One process goes on from there.
    let next = sandbox.run("data prepare --json").expect(0);
    assert!(next.stdout.contains("unchanged"), "{}", next.stdout);

    for ranks in [1, 3] {
        let local = sandbox
            .run(&format!("data prepare --executor local --ranks {ranks} --output-dir by-{ranks} --json"))
            .expect(0);
        assert!(local.last_line().contains("\"documents_read\""), "{}", local.stdout);
        same(&sandbox, &sandbox.path().join(format!("by-{ranks}")));
    }
}

/// The processes of a rank that a launcher has started.
fn ranks_of(launcher: &Child) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("Linux").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent =
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if parent == Some(launcher.id()) {
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&words).replace('\0', " ")));
        }
    }
    found
}

/// Waits for a rank to be at work.
fn rank_at_work(launcher: &Child, words: &str) -> u32 {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some((pid, _)) = ranks_of(launcher).into_iter().find(|(_, command)| command.contains(words)) {
            return pid;
        }
        assert!(Instant::now() < end, "no process with `{words}`");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status().expect("kill is everywhere");
    assert!(status.success());
}

/// Somebody else seems to work on a rank's share, so that it waits.
fn hold(sandbox: &Sandbox, rank: &str) -> RunLock {
    let folder = sandbox.path().join("data/ranks/locks").join(rank);
    std::fs::create_dir_all(&folder).expect("writable");
    RunLock::acquire(&folder).expect("nobody has it")
}

#[test]
fn a_rank_that_is_killed_is_tried_again() {
    let sandbox = project();
    let plain = plain(&sandbox);
    let held = hold(&sandbox, "filter-00001-of-00003");
    let arguments = "data prepare --executor local --ranks 3 --parallel 2";
    let launcher = sandbox.command(arguments.split(' ')).spawn().expect("the program starts");
    let pid = rank_at_work(&launcher, "data stage filter");
    assert!(pid > 0);
    signal("-KILL", rank_at_work(&launcher, "--rank 1 "));
    drop(held);
    let output = launcher.wait_with_output().expect("a child of ours");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("rank 1 of 3 failed (signal: 9") && told.contains("retrying"), "{told}");
    same(&sandbox, &plain);
}

#[test]
fn a_launcher_that_is_stopped_ends_its_ranks_and_goes_on_later() {
    let sandbox = project();
    let held = hold(&sandbox, "filter-00001-of-00002");
    let arguments = "data prepare --executor local --ranks 2 --parallel 2";
    let launcher = sandbox.command(arguments.split(' ')).spawn().expect("the program starts");
    let rank = rank_at_work(&launcher, "--rank 1 ");
    let second = sandbox.run(arguments).expect(1);
    assert!(second.stderr.contains("ranks"), "{}", second.stderr);
    signal("-TERM", launcher.id());
    let output = launcher.wait_with_output().expect("a child of ours");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(143) && told.contains("stopped on request"), "{told}");
    assert!(!Path::new(&format!("/proc/{rank}")).exists(), "the rank lives on");
    drop(held);
    sandbox.run(arguments).expect(0);
    let plain = plain(&sandbox);
    same(&sandbox, &plain);
}

#[test]
fn a_rank_that_fails_again_and_again_is_told_with_its_words() {
    let sandbox = project();
    let held = hold(&sandbox, "filter-00000-of-00001");
    let arguments = "data prepare --executor local --ranks 1 --retries 1";
    let launcher = sandbox.command(arguments.split(' ')).spawn().expect("the program starts");
    let first = rank_at_work(&launcher, "--rank 0 ");
    signal("-KILL", first);
    let end = Instant::now() + Duration::from_secs(60);
    let mut next = first;
    while next == first {
        assert!(Instant::now() < end, "no second try");
        next = rank_at_work(&launcher, "--rank 0 ");
    }
    signal("-KILL", next);
    let output = launcher.wait_with_output().expect("a child of ours");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("It was attempted 2 times") && told.contains("filter-0.log"), "{told}");
    drop(held);
}

/// Runs the script with a `kubectl` that notes what it is asked, and says first that nothing has ended.
fn applied_in_order(sandbox: &Sandbox, judge: &str) {
    let kubectl = "#!/bin/sh\necho \"$*\" >> log\ncase \"$*\" in\n  get*documents*) echo Failed ;;\n  \
                   get*)\n    [ -e asked ] && echo Complete\n    : > asked ;;\nesac\n";
    let folder = sandbox.path().join("data/ranks/kubernetes");
    std::fs::write(folder.join("kubectl"), kubectl).expect("written");
    Command::new("chmod").arg("+x").arg(folder.join("kubectl")).status().expect("chmod");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let script = Command::new("sh")
        .arg(folder.join("apply.sh"))
        .env("PATH", path)
        .env("PAUSE", "0")
        .output()
        .expect("sh");
    let words = String::from_utf8_lossy(&script.stderr);
    assert!(
        !script.status.success() && words.contains("text2llm-documents-") && words.contains("kubectl logs"),
        "{words}"
    );
    let log = std::fs::read_to_string(folder.join("log")).expect("asked");
    let asked: Vec<&str> = log.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(asked, ["delete", "apply", "get", "get", "delete", "apply", "get"], "{log}");
    let first = log.lines().next().unwrap_or_default();
    assert_eq!(first, format!("delete --namespace lab --ignore-not-found job/{judge}"));
}

#[test]
fn manifests_for_kubernetes_are_written_and_not_applied() {
    let sandbox = project();
    let arguments = "data prepare --executor kubernetes --ranks 8 --cpus 4 --image \
                     registry.example/text2llm:1 --volume-claim texts --namespace lab";
    let told = sandbox.run(arguments).expect(0);
    assert!(
        told.stdout.starts_with("sh '") && told.stdout.trim_end().ends_with("/apply.sh'"),
        "{}",
        told.stdout
    );
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&sandbox.read(&format!("data/ranks/kubernetes/{name}.json"))).expect("JSON")
    };
    let judge = read("1-filter");
    assert_eq!(judge["spec"]["completionMode"], "Indexed");
    assert_eq!((&judge["spec"]["completions"], &judge["spec"]["backoffLimit"]), (&8.into(), &16.into()));
    let container = &judge["spec"]["template"]["spec"]["containers"][0];
    let words: Vec<&str> =
        container["args"].as_array().expect("words").iter().filter_map(|word| word.as_str()).collect();
    assert_eq!(words[..3], ["data", "stage", "filter"]);
    assert_eq!(words[words.len() - 4..], ["--rank", "$(JOB_COMPLETION_INDEX)", "--of", "8"]);
    assert_eq!(container["resources"]["requests"]["cpu"], "4");
    assert_eq!(read("2-documents")["spec"]["completions"], 1);
    assert!(!sandbox.path().join("data/documents").exists());
    applied_in_order(&sandbox, judge["metadata"]["name"].as_str().expect("a name"));
    let outside = sandbox.run(&format!("{arguments} --mount-path /elsewhere")).expect(1);
    assert!(outside.stderr.contains("--mount-path"), "{}", outside.stderr);
    assert!(sandbox.run("data prepare --executor kubernetes").expect(1).stderr.contains("--image"));
    let nowhere = sandbox.run("data prepare --executor kubernetes --image i").expect(1);
    assert!(nowhere.stderr.contains("--volume-claim"), "{}", nowhere.stderr);
}

#[test]
fn pods_with_a_share_need_no_volume() {
    let sandbox = project();
    let arguments = "data prepare --executor kubernetes --image i --share s3://lab/run --secret keys --json";
    let told = sandbox.run_with(arguments.split(' '), |command| {
        command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1").env("AWS_ACCESS_KEY_ID", "AKID");
        command.env("AWS_SECRET_ACCESS_KEY", "very-secret").env_remove("AWS_PROFILE");
    });
    assert!(told.clone().expect(0).last_line().contains("0-recipe.json"), "{}", told.stdout);
    let read = |name: &str| -> serde_json::Value {
        let bytes = sandbox.read(&format!("data/ranks/kubernetes/{name}.json"));
        assert!(!String::from_utf8_lossy(&bytes).contains("very-secret"));
        serde_json::from_slice(&bytes).expect("JSON")
    };
    assert_eq!(read("0-recipe")["data"]["text2llm.toml"], RECIPE);
    let name = read("0-recipe")["metadata"]["name"].clone();
    assert!(name.as_str().is_some_and(|name| name.starts_with("text2llm-recipe-")), "{name}");
    let pod = &read("4-encode")["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][1]["configMap"]["name"], name);
    assert_eq!(pod["volumes"][0]["emptyDir"], serde_json::json!({}));
    let container = &pod["containers"][0];
    let words: Vec<&str> =
        container["args"].as_array().expect("words").iter().filter_map(|word| word.as_str()).collect();
    assert_eq!(
        words.join(" "),
        "data stage encode /recipe/text2llm.toml --project /scratch --rank $(JOB_COMPLETION_INDEX) --of 2 \
         --share s3://lab/run"
    );
    assert_eq!(container["envFrom"][0]["secretRef"]["name"], "keys");
    let variable = |name: &str| {
        let all = container["env"].as_array().expect("variables");
        all.iter().find(|variable| variable["name"] == name).map(|variable| variable["value"].clone())
    };
    assert_eq!(variable("AWS_ENDPOINT_URL"), Some("http://127.0.0.1:1".into()));
    assert_eq!((variable("AWS_ACCESS_KEY_ID"), variable("HF_HUB_OFFLINE")), (None, None));
}
