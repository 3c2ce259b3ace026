//! Cleaning from the command line: a recipe with redaction, and what inspect, stats, diff and the classifier
//! make of its documents.

use crate::{sandbox, write_tiny};

#[test]
fn prepared_text_can_be_looked_at_and_compared() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.write("corpus/mail.txt", "Write to ann.lee@mail.org about the river, the bridge and the boats.");
    sandbox.write("corpus/short.txt", "too short");
    // Names and texts from outside must not steer the terminal.
    sandbox.write("corpus/odd\u{1b}[2J.txt", "A text with \u{1b}]0;a title\u{7} for the terminal.");
    let set = "--set data.keep_dropped=true --set data.minimum_characters=20 --set \
               data.redact.public_ips_only=true";
    let prepared = sandbox.run(&format!("data prepare --json {set}")).expect(0);
    assert!(prepared.last_line().contains("\"redacted\":{\"email\":1}"), "{}", prepared.stdout);

    let stats = sandbox.run("data stats").expect(0);
    assert!(stats.stdout.contains("characters and more"), "{}", stats.stdout);
    let found = sandbox.run("data inspect --search [EMAIL_1] --json").expect(0);
    assert!(
        found.stdout.contains("Write to [EMAIL_1] about") && !found.stdout.contains("ann.lee"),
        "{}",
        found.stdout
    );
    let dropped = sandbox.run("data inspect --dropped too_short").expect(0);
    assert!(
        dropped.stdout.contains("corpus/short.txt") && dropped.stdout.contains("too short"),
        "{}",
        dropped.stdout
    );
    let odd = sandbox.run("data inspect --search terminal").expect(0);
    assert!(
        odd.stdout.contains("corpus/odd·[2J.txt") && odd.stdout.contains("A text with ·]0;a title· for"),
        "{}",
        odd.stdout
    );
    assert!(!odd.stdout.contains('\u{1b}'), "{}", odd.stdout);
    sandbox.run("data inspect --html page.html").expect(0);
    let page = String::from_utf8(sandbox.read("page.html")).expect("text");
    assert!(page.contains("lengths of") && page.contains("xxx.xxx@xxxx.xxx"), "{page}");

    sandbox
        .run(&format!("data prepare --output-dir later {set} --set data.minimum_characters=100"))
        .expect(0);
    let diff = sandbox.run("data diff . later").expect(0);
    assert!(
        diff.stdout.contains("only in old") && diff.stdout.contains("corpus/mail.txt"),
        "{}",
        diff.stdout
    );
    assert!(!diff.stdout.contains('\u{1b}') && diff.stdout.contains("odd·[2J.txt"), "{}", diff.stdout);
    assert!(sandbox.run("data diff . nowhere").expect(1).stderr.contains("`nowhere` has no prepared text"));
}

#[test]
fn a_recipe_cuts_passages_that_came_before() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let passage = testkit::text(2000, 0)[300..1300].to_owned();
    sandbox.write("corpus/copied.txt", format!("See: {passage}"));
    sandbox
        .write("corpus/quoted.txt", format!("Before it, {passage} and after it. {}", testkit::text(400, 99)));
    let recipe = String::from_utf8(sandbox.read("text2llm.toml")).expect("text");
    sandbox.write("text2llm.toml", recipe + "[data.duplicate_spans]\nminimum_bytes = 300\n");
    let done = sandbox.run("data prepare --set data.keep_dropped=true").expect(0);
    assert!(done.stderr.contains("2 repeated spans removed"), "{}", done.stderr);
    let dropped = sandbox.run("data inspect --dropped duplicate_spans").expect(0);
    assert!(
        dropped.stdout.contains("corpus/copied.txt") && dropped.stdout.contains("minimum_fraction_left"),
        "{}",
        dropped.stdout
    );
    let quoted = sandbox.run("data inspect --search after --json").expect(0).stdout;
    assert!(quoted.replace("  ", " ").contains("Before it, and after it."), "{quoted}");
}

#[test]
fn a_classifier_is_trained_from_labeled_lines() {
    let sandbox = sandbox();
    let line = |number: usize| match number % 2 {
        0 => format!("{{\"text\": \"the proof of theorem {number} is careful\", \"score\": 5}}\n"),
        _ => format!("{{\"text\": \"click here to buy number {number}\", \"score\": 0}}\n"),
    };
    sandbox.write("labeled.jsonl", (0..200).map(line).collect::<String>());
    let trained = sandbox.run("data classifier train --labeled labeled.jsonl --json").expect(0);
    assert!(trained.last_line().contains("\"accuracy\":1.0"), "{}", trained.stdout);
    assert!(!sandbox.read("quality.classifier").is_empty());
    sandbox.write("bad.jsonl", "{\"text\": \"x\"}\n");
    assert!(sandbox.run("data classifier train --labeled bad.jsonl").expect(1).stderr.contains("line 1"));
}

#[test]
fn an_example_data_set_is_generated_and_nothing_is_overwritten() {
    let sandbox = sandbox();
    let make = "data make weather-persona --conversations 300";
    let made = sandbox.run(make).expect(0);
    assert!(made.stdout.contains("conversations for training"), "{}", made.stdout);
    let train = sandbox.read("data/synthetic/final_train.jsonl.zst");
    let again = sandbox.run(&format!("{make} --json")).expect(0);
    assert!(again.last_line().contains("\"unchanged\":true"), "{}", again.stdout);
    sandbox.run(&format!("{make} --seed 7")).expect(0);
    assert!(sandbox.read("data/synthetic/final_train.jsonl.zst") != train);
    sandbox.run(&format!("{make} --out elsewhere")).expect(0);
    assert!(sandbox.read("elsewhere/final_train.jsonl.zst") == train);

    sandbox.write("elsewhere/final_train.jsonl.zst", "mine");
    let refused = sandbox.run(&format!("{make} --out elsewhere")).expect(1);
    assert!(refused.stderr.contains("elsewhere/final_train.jsonl.zst") && refused.stderr.contains("--out"));
    assert_eq!(sandbox.read("elsewhere/final_train.jsonl.zst"), b"mine");
    let refused = sandbox.run("data make weather-persona --conversations 5").expect(1);
    assert!(refused.stderr.contains("between 100 and 200000"), "{}", refused.stderr);
}
