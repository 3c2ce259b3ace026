//! What `--help` shows, whole: a changed flag is a changed promise.

use std::time::Instant;

use crate::sandbox;

#[track_caller]
fn help(arguments: &str) -> String {
    let finished = sandbox().run(arguments).expect(0);
    assert_eq!(finished.stderr, "");
    finished.stdout
}

macro_rules! help_of {
    ($($name:ident: $arguments:literal,)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(help($arguments));
        })*
    };
}

help_of! {
    text2llm: "--help",
    run: "run --help",
    plan: "plan --help",
    new: "new --help",
    finetune: "finetune --help",
    train: "train --help",
    resume: "resume --help",
    data: "data --help",
    data_prepare: "data prepare --help",
    data_stage: "data stage --help",
    data_extract: "data extract --help",
    data_classifier: "data classifier --help",
    data_classifier_train: "data classifier train --help",
    data_make: "data make --help",
    data_make_weather_persona: "data make weather-persona --help",
    data_doctor: "data doctor --help",
    data_show_mask: "data show-mask --help",
    data_inspect: "data inspect --help",
    data_stats: "data stats --help",
    data_diff: "data diff --help",
    status: "status --help",
    logs: "logs --help",
    tui: "tui --help",
    dashboard: "dashboard --help",
    stop: "stop --help",
    list: "list --help",
    fork: "fork --help",
    rm: "rm --help",
    merge: "merge --help",
    export: "export --help",
    average: "average --help",
    generate: "generate --help",
    eval: "eval --help",
    bench: "bench --help",
    bench_kernels: "bench kernels --help",
    bench_decode: "bench decode --help",
    doctor: "doctor --help",
    verify_resume: "verify-resume --help",
    chaos: "chaos --help",
    schema: "schema --help",
}

#[test]
fn every_command_has_its_snapshot() {
    let help = help("--help");
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(
        commands,
        [
            "run",
            "plan",
            "new",
            "finetune",
            "train",
            "resume",
            "data",
            "status",
            "logs",
            "tui",
            "dashboard",
            "stop",
            "list",
            "fork",
            "rm",
            "merge",
            "export",
            "average",
            "generate",
            "eval",
            "bench",
            "doctor",
            "verify-resume",
            "chaos",
            "schema"
        ],
        "add a snapshot of the new command's help"
    );
}

#[test]
fn help_and_status_answer_at_once() {
    let sandbox = sandbox();
    for arguments in ["--help", "status", "run --help"] {
        // The best of five: other processes may hold the processor.
        let best = (0..5)
            .map(|_| {
                let start = Instant::now();
                sandbox.run(arguments);
                start.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min);
        assert!(best < 0.05, "{arguments}: {best} s");
    }
}
