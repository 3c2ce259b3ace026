//! What a program or a person sees of data from elsewhere: nothing of it steers a terminal, and no secret is
//! told.

use std::path::Path;

use serde_json::Value;
use testkit::{Finished, Sandbox};

use crate::{sandbox, write_tiny};

const NASTY: &str = "x\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}y\u{2066}\u{200f}\u{61c}\u{2028}z\u{7f}";
const CANARY: &str = "canary-7f3a9c";

fn steers(c: char) -> bool {
    c != '\n' && c != '\t' && (c.is_control() || "\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}".contains(c))
}

#[track_caller]
fn check(finished: &Finished, what: &str) {
    for text in [&finished.stdout, &finished.stderr] {
        let found: Vec<char> = text.chars().filter(|&c| steers(c)).collect();
        assert!(found.is_empty(), "{what}: {found:?} in {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("forged")), "{what}: {text}");
    }
}

#[test]
fn names_values_prompts_and_arguments_do_not_steer_the_terminal() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let nasty = format!("{NASTY}\nforged");
    #[cfg(unix)]
    sandbox.write(&format!("corpus/{nasty}.txt"), testkit::text(500, 99));
    #[cfg(unix)]
    sandbox.write(&format!("corpus/{nasty}.jsonl"), "{\"text\": 5\n");
    let prompts = format!("train.sample_prompts=[{}]", toml_string(&nasty));
    let arguments = |style: &[&str], command: &[&str]| -> Vec<String> {
        style.iter().chain(command).map(|word| (*word).to_owned()).collect()
    };
    for (seed, style) in [&[][..], &["--json"], &["--output", "agent"]].into_iter().enumerate() {
        let seed = format!("train.seed={seed}");
        let run = |command: &[&str]| sandbox.run_with(arguments(style, command), |_| {});
        let trained = run(&[
            "run",
            "--set",
            &prompts,
            "--set",
            "train.steps=20",
            "--set",
            "train.sample_every=10",
            "--set",
            &seed,
        ]);
        check(&trained, "run");
        assert_eq!(trained.code, 0, "{}", trained.stderr);
        for command in [
            &["status"][..],
            &["list"],
            &["run", &nasty],
            &[nasty.as_str()],
            &["status", &nasty],
            &["generate", "--model", &nasty, "--prompt", "x"],
            &["run", "--set", &nasty],
            &["run", "--set", &format!("name={nasty}")],
            &["run", "--set", &format!("{nasty}=1")],
            &["plan", "--corpus-path", &nasty, "--no-calibration"],
            &["data", "stats"],
            &["rm", &nasty, "--yes"],
            &["new", &nasty, "--example", &nasty],
        ] {
            check(&run(command), &format!("{style:?} {command:?}"));
        }
        if style == ["--json"] {
            let sample = trained.stdout.lines().find(|line| line.contains("\"sample\"")).expect("a sample");
            let sample: Value = serde_json::from_str(sample).expect("JSON");
            assert_eq!(sample["prompt"], nasty, "lossless");
            let generated = run(&["generate", "--prompt", &nasty, "--max-new-tokens", "4"]);
            check(&generated, "generate --json");
            let last: Value = serde_json::from_str(generated.last_line()).expect("JSON");
            assert_eq!(last["prompt"], nasty, "lossless");
        }
    }
    let piped = sandbox.run_with(["generate", "--prompt", &nasty, "--max-new-tokens", "4"], |_| {});
    assert!(piped.stdout.starts_with(&nasty), "a pipe gets the text as it is: {:?}", piped.stdout);
}

fn toml_string(text: &str) -> String {
    let escaped: String = text.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
    format!("\"{escaped}\"")
}

/// Everything a command wrote, and every file it left in the project.
#[track_caller]
fn without_canary(sandbox: &Sandbox, finished: &Finished, except: &[&str], what: &str) {
    assert!(!finished.stdout.contains(CANARY), "{what}: {}", finished.stdout);
    assert!(!finished.stderr.contains(CANARY), "{what}: {}", finished.stderr);
    let mut folders = vec![sandbox.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("listed") {
            let path = entry.expect("listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if !except.iter().any(|name| path.ends_with(Path::new(name))) {
                let bytes = std::fs::read(&path).expect("read");
                let found = bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes());
                assert!(!found, "{what}: {}", path.display());
            }
        }
    }
}

#[test]
fn no_secret_is_told_or_written() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let url = format!("https://hooks.example/services/{CANARY}");
    let recipe = String::from_utf8(sandbox.read("text2llm.toml")).expect("text");
    for bad in [
        format!("[notify]\nwebhook = \"{url}\"\n"),
        format!("[notify]\nwebhook = \"{CANARY}\"\n"),
        format!("[notify]\nwebhook = [\"{url}\"]\n"),
        format!("[notify]\nwebhooks = \"{url}\"\n"),
        format!("notify = {{ webhook = \"{url}\", nonsense = 1 }}\n"),
        format!("[notify]\nwebhook = \"{url}\n"),
        format!("[hub]\nhf_token = \"{CANARY}\"\n"),
        format!("[notify]\nwebhook = \"env:HOOK\"\nsecret_access_key = \"{CANARY}\"\n"),
    ] {
        sandbox.write(
            "bad.toml",
            if bad.starts_with("notify") { bad.clone() + &recipe } else { recipe.clone() + &bad },
        );
        for style in ["", "--json", "--output agent"] {
            let finished = sandbox.run(&format!("run bad.toml {style}")).expect(1);
            without_canary(&sandbox, &finished, &["bad.toml"], &bad);
            assert!(finished.stderr.contains("bad.toml:"), "the place stays: {}", finished.stderr);
        }
    }
    let with_password = format!("https://me:{CANARY}@data.example/a.jsonl");
    let signed = format!("https://data.example/a.jsonl?X-Amz-Signature={CANARY}");
    for arguments in [
        vec!["run", "--set", &format!("notify.webhook={url}")],
        vec!["run", &format!("notify.webhook={url}"), "--nonsense"],
        vec!["run", "--corpus-path", &with_password],
        vec!["run", "--set", &format!("data.paths=[\"{with_password}\"]")],
        vec!["plan", "--set", &format!("data.paths=[\"{signed}\"]")],
        vec!["run", "--set", &format!("data.paths=[\"hf://a/b?token={CANARY}\"]")],
    ] {
        let finished = sandbox.run_with(&arguments, |_| {});
        assert_ne!(finished.code, 0, "{arguments:?}");
        without_canary(&sandbox, &finished, &["bad.toml"], &format!("{arguments:?}"));
    }
    let environment: [(&str, &str); 6] = [
        ("TEXT2LLM_NOTIFY_WEBHOOK", &url),
        ("HF_ENDPOINT", &format!("http://me:{CANARY}@127.0.0.1:9")),
        ("AWS_ENDPOINT_URL", &format!("http://me:{CANARY}@127.0.0.1:9")),
        ("HF_TOKEN", CANARY),
        ("AWS_SECRET_ACCESS_KEY", CANARY),
        ("AWS_ACCESS_KEY_ID", "someone"),
    ];
    for (arguments, variables) in [
        ("run", &environment[..1]),
        ("data prepare --set data.paths=[\"hf://a/b\"]", &environment[1..2]),
        ("data prepare --set data.paths=[\"s3://bucket/key.txt\"]", &environment[2..]),
    ] {
        let finished = sandbox.run_with(arguments.split(' '), |command| {
            command.envs(variables.iter().copied()).env("TEXT2LLM_CACHE", sandbox.path().join("cache"));
        });
        assert_ne!(finished.code, 0, "{arguments}");
        without_canary(&sandbox, &finished, &["bad.toml"], arguments);
    }
}

/// The variable's address goes to curl and nowhere else, though the post fails.
#[cfg(unix)]
#[test]
fn a_webhook_that_fails_does_not_tell_its_address() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let finished = sandbox.run_with(
        ["run", "--detach", "--set", "train.steps=8", "--set", "notify.webhook=env:HOOK"],
        |command| {
            command.env("HOOK", format!("http://127.0.0.1:9/services/{CANARY}"));
        },
    );
    let started = std::time::Instant::now();
    let told = || String::from_utf8_lossy(&sandbox.read("job/console.log")).contains("notify.webhook");
    while !told() {
        assert!(started.elapsed() < std::time::Duration::from_secs(90), "the post is not tried");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    without_canary(&sandbox, &finished, &[], "a failing webhook");
    for command in ["status --json", "logs", "logs --console", "list --json"] {
        without_canary(&sandbox, &sandbox.run(command), &[], command);
    }
}
