//! Files of a user's in a project folder: whatever command runs, none is changed or lost.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::{sandbox, write_tiny, write_tiny_to};

/// Small numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Something that was put into a project.
enum Planted {
    /// A new file: it must stay where it is, as it is.
    File(PathBuf, Vec<u8>),
    /// A link: likewise.
    Link(PathBuf, PathBuf),
    /// A file of ours that was edited: it stays, or is kept under another name.
    Edited(PathBuf, Vec<u8>),
}

const COMMANDS: [&str; 16] = [
    "run",
    "run --fresh --set train.steps=9",
    "run --resume",
    "run --fresh --set data.seed=7 --set train.steps=9",
    "train --fresh --set tokenizer.vocab_size=270 --set train.steps=9",
    "data prepare --set data.minimum_document_bytes=9",
    "data prepare --executor local --ranks 2",
    "data stage filter --rank 0 --of 2",
    "resume --more-steps 3",
    "average --last 2 --out averaged",
    "average --last 2 --out model",
    "generate --prompt the --max-new-tokens 2",
    "plan",
    "status",
    "rm latest",
    "new .",
];

/// All folders of a project, links not followed.
fn folders(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_owned()];
    let mut next = 0;
    while let Some(folder) = all.get(next).cloned() {
        next += 1;
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        all.extend(entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
    }
    all
}

fn files(root: &Path) -> Vec<PathBuf> {
    let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let below = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    folders(root).into_iter().flat_map(below).filter(is_file).collect()
}

fn name(random: &mut Random, number: usize) -> OsString {
    #[cfg(unix)]
    if random.below(5) == 0 {
        use std::os::unix::ffi::OsStringExt;
        return OsString::from_vec(format!("mine-{number}-").bytes().chain([0xff, 0xfe]).collect());
    }
    let kinds = [
        "notes.txt",
        "a b.md",
        "weights.safetensors",
        "ünïcode.json",
        ".hidden",
        "train-00009.bin",
        "step-1",
    ];
    format!("{number}-{}", kinds[random.below(kinds.len())]).into()
}

/// Puts a few things into the project that a person might.
fn plant(root: &Path, elsewhere: &Path, random: &mut Random) -> Vec<Planted> {
    let mut planted = Vec::new();
    let all = folders(root);
    for number in 0..=random.below(4) {
        let path = all[random.below(all.len())].join(name(random, number));
        match random.below(3) {
            0 => {
                // Half of the links lead nowhere.
                let to = elsewhere.join(["victim", "nothing"][random.below(2)]);
                #[cfg(unix)]
                std::os::unix::fs::symlink(&to, &path).expect("a link");
                #[cfg(unix)]
                planted.push(Planted::Link(path, to));
            }
            1 => {
                std::fs::create_dir(&path).expect("a folder");
                let path = path.join("inner.txt");
                let bytes = format!("in a folder {number}").into_bytes();
                std::fs::write(&path, &bytes).expect("a file");
                planted.push(Planted::File(path, bytes));
            }
            _ => {
                let bytes = format!("planted {number} {}", random.below(1 << 30)).into_bytes();
                std::fs::write(&path, &bytes).expect("a file");
                planted.push(Planted::File(path, bytes));
            }
        }
    }
    if random.below(2) == 0 {
        let ours = [
            "model/README.md",
            "evals/report.md",
            "model/generation_config.json",
            "data/documents/report.html",
        ];
        let path = root.join(ours[random.below(ours.len())]);
        if let Ok(mut bytes) = std::fs::read(&path) {
            bytes.extend_from_slice(format!("\nedited {}\n", random.below(1 << 30)).as_bytes());
            std::fs::write(&path, &bytes).expect("writable");
            planted.push(Planted::Edited(path, bytes));
        }
    }
    planted
}

fn check(root: &Path, planted: &[Planted], told: &dyn Fn() -> String) {
    for planted in planted {
        match planted {
            Planted::File(path, bytes) => {
                assert!(
                    std::fs::read(path).is_ok_and(|now| now == *bytes),
                    "{} is gone: {}",
                    path.display(),
                    told()
                );
            }
            Planted::Link(path, to) => {
                assert!(
                    std::fs::read_link(path).is_ok_and(|now| now == *to),
                    "{} is gone: {}",
                    path.display(),
                    told()
                );
            }
            Planted::Edited(path, bytes) => {
                let kept = files(root).iter().any(|file| std::fs::read(file).is_ok_and(|now| now == *bytes));
                assert!(kept, "the edited {} is gone: {}", path.display(), told());
            }
        }
    }
}

#[test]
fn nothing_that_a_user_put_into_a_project_is_changed_or_lost() {
    for seed in 0..8 {
        let mut random = Random(seed * 7919 + 1);
        let sandbox = sandbox();
        write_tiny_to(&sandbox, "project/");
        let root = sandbox.path().join("project");
        // Every other project is empty but for what is planted where the program will write.
        match seed % 2 {
            0 => drop(sandbox.run("run --set train.steps=9 --project project").expect(0)),
            _ => {
                for folder in ["data/documents", "data/tokens", "tokenizer", "evals", "model", "runs/mine"] {
                    if random.below(2) == 0 {
                        std::fs::create_dir_all(root.join(folder)).expect("a folder");
                    }
                }
            }
        }
        let elsewhere = sandbox.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).expect("a folder");
        std::fs::write(elsewhere.join("victim"), "victim").expect("a file");
        let mut planted = plant(&root, &elsewhere, &mut random);
        planted.push(Planted::File(elsewhere.join("victim"), b"victim".to_vec()));
        let mut told = String::new();
        for _ in 0..6 {
            let command = COMMANDS[random.below(COMMANDS.len())];
            let arguments = command.split(' ').chain(["--project", "project", "--yes"]);
            let finished = sandbox.run_with(arguments, |_| {});
            assert!(finished.code != 101 && finished.code >= 0, "seed {seed}, `{command}`: {finished:?}");
            told = format!("seed {seed}, after `{command}`: {}{}", finished.stdout, finished.stderr);
            check(&root, &planted, &|| told.clone());
        }
        assert!(!told.is_empty());
    }
}

#[test]
fn files_in_the_place_of_results_are_named_before_any_work() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.write("model/mine.txt", "mine");
    let refused = sandbox.run("run").expect(1);
    assert!(refused.stderr.contains("`mine.txt`") && refused.stderr.contains("model"), "{}", refused.stderr);
    assert!(!sandbox.path().join("data/documents").exists() && !sandbox.path().join("runs").exists());
    std::fs::remove_file(sandbox.path().join("model/mine.txt")).expect("there");

    // Text of the user's own in the folder for prepared text.
    sandbox.write("data/documents/mine.txt", testkit::text(20_000, 1));
    let refused = sandbox.run("run --corpus-path data/documents").expect(1);
    assert!(refused.stderr.contains("data/documents"), "{}", refused.stderr);
    std::fs::remove_dir_all(sandbox.path().join("data/documents")).expect("there");

    sandbox.run("run --set train.steps=9").expect(0);
    sandbox.write("runs/mine/notes.txt", "mine");
    assert!(sandbox.run("rm mine --yes").expect(1).stderr.contains("no run `mine`"));
    let run: serde_json::Value =
        serde_json::from_str(sandbox.run("status --json").expect(0).last_line()).expect("JSON");
    let notes = PathBuf::from(run["path"].as_str().expect("a path")).join("checkpoints/notes.txt");
    std::fs::write(&notes, "mine").expect("writable");
    let id = run["run_id"].as_str().expect("an id");
    assert!(sandbox.run(&format!("rm {id} --yes")).expect(1).stderr.contains("notes.txt"));
    std::fs::remove_file(&notes).expect("there");
    sandbox.run(&format!("rm {id} --yes")).expect(0);
    assert_eq!(sandbox.read("runs/mine/notes.txt"), b"mine");
}

#[test]
fn a_folder_of_another_name_or_version_stops_no_run() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.write("runs/exp/meta.json", "{}");
    let old = "runs/20200101-000000-old";
    let meta = r#"{ "format": 1, "program_version": "0.0.1", "recipe": {} }"#;
    sandbox.write(&format!("{old}/meta.json"), meta);
    sandbox.write(&format!("{old}/state.json"), r#"{ "status": "stopped", "step": 7 }"#);
    let told = sandbox.run("run --resume --set train.steps=9").expect(1).stderr;
    assert!(told.contains("another version of text2llm"), "{told}");
    for command in ["run --set train.steps=9", "run --resume", "run --fresh --set train.steps=9"] {
        let told = sandbox.run(command).expect(0).stderr;
        assert!(
            told.contains("20200101-000000-old is ignored") && told.contains("another version"),
            "{told}"
        );
        assert!(!told.contains("exp is"), "{told}");
    }
    sandbox.run("status").expect(0);
    for folder in ["runs/exp", old] {
        assert!(!sandbox.path().join(folder).join("run.lock").exists(), "{folder}");
    }
}

#[test]
fn single_files_of_a_user_are_told_from_ours() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("run --set train.steps=9").expect(0);
    let metrics = sandbox.read("training_metrics.json");
    for (name, text, commands) in [
        ("training_metrics.json", r#"{ "run_id": "mine" }"#, &["resume --more-steps 2", "resume", "run"][..]),
        ("data/heartbeat", "my notes", &["run", "data prepare"]),
        ("data/stop.request", "my notes", &["run", "resume"]),
        ("job/job.json", r#"{ "mine": true }"#, &["run --detach --fresh"]),
        ("job/stop.request", "my notes", &["resume --detach"]),
    ] {
        sandbox.write(name, text);
        for command in commands {
            let told = sandbox.run(command).expect(1).stderr;
            assert!(told.contains(name) && told.contains("Nothing was changed"), "`{command}`: {told}");
            assert_eq!(sandbox.read(name), text.as_bytes(), "`{command}`");
        }
        std::fs::remove_file(sandbox.path().join(name)).expect("there");
    }
    // Ours with a damaged byte are ours.
    let damaged =
        String::from_utf8(metrics).expect("text").replace("\"trained_tokens\"", "\"trained_tokenz\"");
    sandbox.write("training_metrics.json", damaged);
    sandbox.write("data/heartbeat", "17");
    sandbox.run("run --set train.steps=9").expect(0);
}

#[test]
fn what_came_into_a_run_s_folder_stays_when_the_run_fails_before_its_training() {
    for name in ["notes.txt", "panic-20260101-000000-1.log"] {
        let sandbox = sandbox();
        write_tiny(&sandbox);
        for seed in 0..4 {
            sandbox.write(&format!("corpus/large-{seed}.txt"), testkit::text(2_000_000, seed));
        }
        let mut child = sandbox.command(["run"]).stderr(std::process::Stdio::null()).spawn().expect("starts");
        let began = std::time::Instant::now();
        let run = loop {
            assert!(began.elapsed() < std::time::Duration::from_secs(60), "no run");
            let runs = std::fs::read_dir(sandbox.path().join("runs")).into_iter().flatten().flatten();
            match runs.map(|run| run.path()).find(|run| run.join("meta.copy.json").exists()) {
                Some(run) => break run,
                None => std::thread::sleep(std::time::Duration::from_millis(2)),
            }
        };
        std::fs::write(run.join(name), "mine").expect("writable");
        sandbox.write("tokenizer/mine.txt", "mine");
        assert_eq!(child.wait().expect("ours").code(), Some(3));
        assert_eq!(std::fs::read(run.join(name)).expect("kept"), b"mine");
        assert!(sandbox.run("status --json").expect(0).stdout.contains("\"status\":\"failed\""));
    }
}

#[test]
fn a_stage_refuses_its_folder_before_it_works() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    for stage in ["filter", "documents"] {
        sandbox.run(&format!("data stage {stage}")).expect(0);
    }
    sandbox.write("tokenizer/mine.txt", "mine");
    let refused = sandbox.run("data stage tokenizer --json").expect(1);
    assert!(refused.stderr.contains("mine.txt") && !refused.stdout.contains("phase_started"), "{refused:?}");
}

/// On a terminal that `script` makes.
#[cfg(target_os = "linux")]
#[test]
fn what_comes_while_rm_asks_is_not_deleted() {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    if !testkit::has_program("script") {
        return;
    }
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("train --set train.steps=3").expect(0);
    let run = std::fs::read_dir(sandbox.path().join("runs")).expect("runs").next().expect("one");
    let notes = run.expect("listed").path().join("notes.txt");
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &format!("{} rm latest", env!("CARGO_BIN_EXE_text2llm")), "/dev/null"]);
    terminal.current_dir(sandbox.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut asked = terminal.spawn().expect("starts");
    let (mut stdout, mut told) = (asked.stdout.take().expect("piped"), Vec::new());
    while !told.ends_with(b"[y/N] ") {
        let mut byte = [0];
        assert_eq!(stdout.read(&mut byte).expect("a terminal"), 1, "{}", String::from_utf8_lossy(&told));
        told.push(byte[0]);
    }
    std::fs::write(&notes, "mine").expect("writable");
    asked.stdin.take().expect("piped").write_all(b"y\n").expect("heard");
    stdout.read_to_end(&mut told).expect("its words");
    assert_eq!(asked.wait().expect("ours").code(), Some(1));
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("notes.txt") && notes.exists(), "{told}");
}
