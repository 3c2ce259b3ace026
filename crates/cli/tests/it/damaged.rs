//! One damaged byte in a record of a run, or in its data: never another result, never a run that begins again
//! beside its checkpoints.

use std::path::PathBuf;

use testkit::Sandbox;

use crate::{sandbox, write_tiny};

/// A run that was killed at step 20, with checkpoints up to that of step 16 at least.
fn cut_off() -> (Sandbox, PathBuf) {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let cut = |line: &str| line.contains("\"event\":\"step\"") && line.contains("\"step\":20,");
    assert!(sandbox.run_and_kill("run --json", cut));
    let run = std::fs::read_dir(sandbox.path().join("runs")).expect("runs").next().expect("a run");
    let run = run.expect("readable").path();
    (sandbox, run)
}

fn whole() -> Vec<u8> {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("run --json").expect(0);
    sandbox.read("model/model.safetensors")
}

/// Changes the first digit after `key` in a file.
fn flip(path: &PathBuf, key: &str) {
    let mut bytes = std::fs::read(path).expect("there");
    let text = String::from_utf8_lossy(&bytes);
    let at = text.find(key).map(|at| at + key.len()).unwrap_or_default();
    let digit = bytes[at..].iter().position(u8::is_ascii_digit).map(|found| at + found).expect("a digit");
    bytes[digit] ^= 1;
    std::fs::write(path, bytes).expect("writable");
}

#[test]
fn a_damaged_record_is_restored_and_the_run_ends_with_the_same_bits() {
    let expected = whole();
    type Damage = fn(&PathBuf);
    let damages: [(&str, Damage); 6] = [
        ("meta.json was damaged", |run| flip(&run.join("meta.json"), "\"learning_rate\"")),
        ("meta.json was damaged", |run| std::fs::write(run.join("meta.json"), "").expect("writable")),
        ("state.json was damaged", |run| flip(&run.join("state.json"), "\"step\"")),
        ("state.json was damaged", |run| std::fs::write(run.join("state.json"), "{").expect("writable")),
        ("state.json was damaged", |run| std::fs::remove_file(run.join("state.json")).expect("there")),
        ("its tokenizer was damaged", |run| flip(&run.join("tokenizer/tokenizer.json"), "\"vocab\"")),
    ];
    for (told, damage) in damages {
        let (sandbox, run) = cut_off();
        damage(&run);
        sandbox.run("status").expect(0);
        sandbox.run("list").expect(0);
        let finished = sandbox.run("run --json --resume").expect(0);
        assert!(finished.stdout.contains(told), "{told}: {}", finished.stdout);
        assert!(
            finished.stdout.contains("resuming from the latest intact checkpoint"),
            "{}",
            finished.stdout
        );
        assert!(sandbox.read("model/model.safetensors") == expected, "{told}");
        assert_eq!(std::fs::read_dir(sandbox.path().join("runs")).expect("runs").count(), 1, "{told}");
    }
}

#[test]
fn what_is_shown_of_a_damaged_record_reads_no_weights() {
    let (sandbox, run) = cut_off();
    let mut steps: Vec<PathBuf> = std::fs::read_dir(run.join("checkpoints"))
        .expect("there")
        .map(|step| step.expect("listed").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")))
        .collect();
    steps.sort();
    let newest = steps.pop().expect("a checkpoint");
    std::fs::write(newest.join("weights.safetensors"), "").expect("writable");
    std::fs::write(run.join("state.json"), "{").expect("writable");
    let step: u64 =
        newest.to_string_lossy().rsplit('-').next().and_then(|step| step.parse().ok()).expect("one");
    for command in ["status --json", "list --json"] {
        let told = sandbox.run(command).expect(0).stdout;
        assert!(told.contains(&format!("\"step\":{step},")), "{command}: {told}");
    }
    // What goes on with it reads them.
    let finished = sandbox.run("run --json --resume").expect(0);
    assert!(finished.stdout.contains("state.json was damaged"), "{}", finished.stdout);
}

#[test]
fn resume_by_name_restores_records_too() {
    let expected = whole();
    let (sandbox, run) = cut_off();
    flip(&run.join("meta.json"), "\"seed\"");
    flip(&run.join("state.json"), "\"total_steps\"");
    std::fs::remove_dir_all(run.join("tokenizer")).expect("there");
    sandbox.run("generate --run latest --prompt the --max-new-tokens 2").expect(0);
    sandbox.run("resume").expect(0);
    assert!(sandbox.read("model/model.safetensors") == expected);
}

#[test]
fn what_cannot_be_restored_is_refused_with_a_remedy_that_works() {
    let (sandbox, run) = cut_off();
    for name in ["meta.json", "meta.copy.json"] {
        flip(&run.join(name), "\"learning_rate\"");
    }
    for command in ["run --resume", "resume"] {
        let refused = sandbox.run(command);
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains("run --fresh"), "{command}: {}", refused.stderr);
    }
    assert!(run.join("checkpoints").read_dir().expect("there").count() > 0);
    sandbox.run("run --fresh").expect(0);

    let (sandbox, run) = cut_off();
    std::fs::remove_dir_all(run.join("tokenizer")).expect("there");
    std::fs::remove_dir_all(sandbox.path().join("tokenizer")).expect("there");
    let refused = sandbox.run("generate --run latest --prompt the");
    assert!(refused.stderr.contains("text2llm run"), "{}", refused.stderr);
    sandbox.run("run").expect(0);
}

#[test]
fn a_shard_that_changes_under_a_run_ends_it_before_the_step_and_it_goes_on_once_made_again() {
    let expected = whole();
    for cut_short in [false, true] {
        let sandbox = sandbox();
        write_tiny(&sandbox);
        let shard = sandbox.path().join("data/tokens/train-00000.bin");
        let mut ended = None;
        let mut command = sandbox.command(["run", "--json"]);
        let mut child = command.stderr(std::process::Stdio::null()).spawn().expect("the program starts");
        let stdout = std::io::BufReader::new(child.stdout.take().expect("piped"));
        for line in std::io::BufRead::lines(stdout).map_while(Result::ok) {
            if line.contains("\"event\":\"step\"") && line.contains("\"step\":9,") {
                // In place: the file that the run holds open.
                let file = std::fs::OpenOptions::new().write(true).open(&shard).expect("there");
                let bytes = file.metadata().expect("readable").len();
                if !cut_short {
                    let zeros = vec![0; bytes as usize];
                    std::io::Write::write_all(&mut &file, &zeros).expect("writable");
                }
                file.set_len(if cut_short { 100 } else { bytes }).expect("writable");
            }
            if line.contains("\"event\":\"error\"") {
                ended = Some(line);
            }
        }
        let code = child.wait().expect("a child").code();
        let ended = ended.unwrap_or_else(|| panic!("cut short {cut_short}: it ended with {code:?}"));
        assert!(ended.contains("train-00000.bin") && ended.contains("data prepare"), "{ended}");
        assert!(ended.contains("`text2llm run --resume` does both"), "{ended}");
        assert_eq!(code, Some(3), "{ended}");
        if cut_short {
            sandbox.run("data prepare").expect(0);
        }
        sandbox.run("run --resume").expect(0);
        assert!(sandbox.read("model/model.safetensors") == expected, "cut short {cut_short}");
    }
}
