//! Its screens, whole, on a terminal that is a buffer; and files as they must not be.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use pipeline::project::Project;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::app::{App, View};
use super::screen;

fn press(app: &mut App, code: KeyCode) -> bool {
    app.key(KeyEvent::from(code))
}

fn shown(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen::draw(frame, app)).unwrap();
    terminal.backend().to_string()
}

/// A project with a folder that snapshots can name.
fn app(folder: &Path) -> App {
    let mut app = App::new(Project::new(folder));
    app.refresh();
    app.project = Project::new("/home/me/my-llm");
    app
}

fn write_run(folder: &Path, id: &str, status: &str, steps: u64) {
    let run = folder.join("runs").join(id);
    std::fs::create_dir_all(&run).unwrap();
    let state = serde_json::json!({
        "status": status, "step": steps, "total_steps": 200, "epoch": steps as f64 / 100.0, "pid": 1234, "train_loss": 2.5,
        "validation_loss": 2.625, "best_validation_loss": 2.625, "learning_rate": 1e-3, "tokens_per_s": 12_345.0, "device": "cpu",
        "eta_s": 0.0, "checkpoint_step": steps, "message": "", "updated_at": "2026-01-01T00:00:00Z",
    });
    store::sealed::write(&store::fs::RealFs, &run.join("state.json"), &state).unwrap();
    let mut metrics = String::new();
    for step in 1..=steps {
        let loss = 2.0 + 6.0 / (1.0 + step as f64 / 10.0) + 0.1 * (step as f64 * 1.7).sin();
        metrics.push_str(&format!(
            "{{\"event\":\"step\",\"step\":{step},\"total_steps\":200,\"epoch\":0.5,\"loss\":{loss},\"learning_rate\":0.001,\
             \"gradient_norm\":0.5,\"tokens_per_s\":1.0,\"tokens_seen\":1,\"elapsed_s\":1.0,\"eta_s\":1.0,\"rss_bytes\":75000000}}\n"
        ));
        if step % 50 == 0 {
            metrics.push_str(&format!(
                "{{\"event\":\"validation\",\"step\":{step},\"epoch\":0.5,\"loss\":{},\"perplexity\":9.0,\"best\":true,\"seconds\":0.1}}\n",
                loss + 0.2
            ));
        }
    }
    std::fs::write(run.join("metrics.jsonl"), metrics).unwrap();
    std::fs::write(
        run.join("train.log"),
        "2026-01-01T00:00:00Z step 50: validation loss 3.2000 (best so far)\n\
         2026-01-01T00:00:01Z step 50: sample \"The \" → \"river \u{1b}[2Jruns\"\n",
    )
    .unwrap();
}

#[test]
fn no_run_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut app = app(folder.path());
    insta::assert_snapshot!(shown(&app, 80, 10));
    for code in [KeyCode::Enter, KeyCode::Down, KeyCode::Char('s'), KeyCode::Char('g'), KeyCode::Char('n')] {
        assert!(press(&mut app, code));
    }
    assert_eq!(app.view, View::List);
    assert!(!press(&mut app, KeyCode::Char('q')));
}

#[test]
fn a_list_and_a_run() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), "20260101-000000-first", "completed", 200);
    write_run(folder.path(), "20260102-000000-second", "failed", 120);
    write_run(folder.path(), "20260103-000000-broken", "failed", 1);
    std::fs::write(folder.path().join("runs/20260103-000000-broken/state.json"), "{\"status\": \"runn")
        .unwrap();
    let mut app = app(folder.path());
    insta::assert_snapshot!(shown(&app, 100, 10));
    press(&mut app, KeyCode::Down);
    app.project = Project::new(folder.path());
    press(&mut app, KeyCode::Enter);
    app.project = Project::new("/home/me/my-llm");
    insta::assert_snapshot!(shown(&app, 100, 32));
    press(&mut app, KeyCode::Char('x'));
    press(&mut app, KeyCode::Char('-'));
    assert!(shown(&app, 100, 32).contains("smoothed 80 %, yellow validation; x log, y log"));
    press(&mut app, KeyCode::Char('g'));
    for c in "The q".chars() {
        assert!(press(&mut app, KeyCode::Char(c)), "a letter of a prompt is no command");
    }
    assert!(shown(&app, 100, 32).contains("prompt: The q"));
    press(&mut app, KeyCode::Esc);
    press(&mut app, KeyCode::Char('q'));
    assert_eq!(app.view, View::List);
}

#[test]
fn no_terminal_is_too_small_and_no_file_too_broken() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), "20260101-000000-a", "running", 90);
    let run = folder.path().join("runs/20260101-000000-a");
    let mut app = App::new(Project::new(folder.path()));
    app.refresh();
    press(&mut app, KeyCode::Enter);
    let check = |app: &mut App, what: &str| {
        for view in [View::Run, View::List] {
            app.view = view;
            app.refresh();
            for (width, height) in
                [(1, 1), (2, 9), (29, 8), (30, 8), (31, 60), (200, 9), (80, 24), (300, 100)]
            {
                assert!(!shown(app, width, height).is_empty(), "{what}");
            }
        }
    };
    check(&mut app, "whole");
    assert!(app.watched.as_ref().is_some_and(|watched| watched.process.is_none()), "nobody holds it");
    let metrics = std::fs::read(run.join("metrics.jsonl")).unwrap();
    for cut in (0..metrics.len()).step_by(997) {
        std::fs::write(run.join("metrics.jsonl"), &metrics[..cut]).unwrap();
        check(&mut app, "metrics cut");
    }
    std::fs::write(run.join("metrics.jsonl"), [0xff, 0xfe, b'\n', b'{', b'}', b'\n']).unwrap();
    std::fs::write(run.join("train.log"), [0xff; 40_000]).unwrap();
    std::fs::write(run.join("state.json"), "").unwrap();
    check(&mut app, "bytes");
    std::fs::remove_dir_all(&run).unwrap();
    check(&mut app, "deleted");
    app.view = View::Run;
    assert!(shown(&app, 80, 24).contains("was deleted"));
}

#[test]
fn nothing_in_a_run_steers_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let nasty = "x\u{1b}[2J\u{202e}y\u{200f}\u{9b}z";
    let id = format!("20260101-000000-{}", nasty.replace('\u{1b}', "\u{2068}"));
    write_run(folder.path(), &id, "failed", 90);
    let run = folder.path().join("runs").join(&id);
    let state = serde_json::json!({ "status": "failed", "step": 1, "total_steps": 2, "message": nasty, "device": nasty });
    store::sealed::write(&store::fs::RealFs, &run.join("state.json"), &state).unwrap();
    std::fs::write(run.join("train.log"), format!("{nasty}\n")).unwrap();
    let sample = serde_json::json!({ "event": "sample", "step": 1, "prompt": nasty, "text": nasty });
    std::fs::write(run.join("metrics.jsonl"), format!("{sample}\n")).unwrap();
    let mut app = app(folder.path());
    app.message = nasty.to_owned();
    let list = shown(&app, 120, 40);
    press(&mut app, KeyCode::Enter);
    for c in nasty.chars() {
        press(&mut app, KeyCode::Char(c));
    }
    app.project = Project::new(format!("/{nasty}"));
    app.prompt = Some(nasty.to_owned());
    for screen in [list, shown(&app, 120, 40)] {
        assert!(screen.contains("20260101-000000-x"), "{screen}");
        let steering: Vec<char> = screen.chars().filter(|&c| c != '\n' && store::plain::steers(c)).collect();
        assert!(steering.is_empty(), "{steering:?} in {screen}");
    }
}
