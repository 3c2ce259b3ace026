//! Whatever stands in a field, no reporter lets it steer the terminal or begin a line.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, Mutex};

use clap::{CommandFactory, Parser};
use runs::report::Phase;

use runs::report::Event;

use super::*;
use crate::command_line::Cli;
use crate::output::agent::AgentReporter;
use crate::output::human::HumanReporter;

/// Random texts, rich in what must not get through.
struct Texts(u64);

impl Texts {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn text(&mut self) -> String {
        let length = self.below(12);
        (0..length)
            .map(|_| match self.below(9) {
                0 => '\n',
                1 => char::from(self.below(0x20) as u8),
                2 => char::from(0x7f + self.below(0x21) as u8),
                3 => char::from_u32(0x200e + self.below(2) as u32).unwrap(),
                4 => char::from_u32(0x2028 + self.below(7) as u32).unwrap(),
                5 => char::from_u32(0x2066 + self.below(4) as u32).unwrap(),
                6 => '\u{61c}',
                7 => char::from_u32(self.below(0xd800) as u32).unwrap(),
                _ => char::from(b' ' + self.below(95) as u8),
            })
            .collect()
    }

    fn event(&mut self) -> Event {
        let (a, b) = (self.text(), self.text());
        let phase = Phase::Training;
        match self.below(9) {
            0 => Event::PhaseStarted { phase, index: 1, of: 2, title: a },
            1 => Event::PhaseFinished { phase, seconds: 1.0, summary: a },
            2 => Event::PhaseSkipped { phase, reason: a },
            3 => Event::Note { phase, message: a },
            4 => Event::Warning { phase: Some(phase), message: a },
            5 => Event::Warning { phase: None, message: a },
            6 => Event::Sample { step: 1, prompt: a, text: b },
            7 => Event::CheckpointSaved { step: 1, path: a.into(), seconds: 1.0 },
            _ => Event::Artifact { name: a, path: b.into(), bytes: 1 },
        }
    }
}

/// Lines that were written, each without its end.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[track_caller]
fn check(text: &str, lines: usize, event: &dyn std::fmt::Debug) {
    let steering: Vec<char> = text.chars().filter(|&c| c != '\n' && plain::steers(c)).collect();
    assert!(steering.is_empty(), "{steering:?} in {text:?} of {event:?}");
    assert_eq!(text.matches('\n').count(), lines, "{text:?} of {event:?}");
}

#[test]
fn no_field_steers_the_terminal_through_any_reporter() {
    let mut texts = Texts(1);
    let mut agent = AgentReporter::new();
    for _ in 0..20_000 {
        let event = texts.event();
        let json = json::line(&event).unwrap();
        check(&json, 0, &event);
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read, serde_json::to_value(&event).unwrap(), "lossless");

        let complete = usize::from(matches!(event, Event::PhaseFinished { .. }));
        check(&agent.line(&event).unwrap(), complete, &event);

        let written = Written::default();
        HumanReporter::to(Box::new(written.clone()), false).event(&event);
        let lines = match &event {
            Event::PhaseStarted { .. } => 2,
            Event::CheckpointSaved { .. } | Event::Artifact { .. } => 0,
            _ => 1,
        };
        check(&String::from_utf8(written.0.lock().unwrap().clone()).unwrap(), lines, &event);

        let field = texts.text();
        let value = json!({ "a": field, field.as_str(): [field.as_str()] });
        check(&agent::tagged("X", &value), 0, &value);
        check(&agent::one_line(&field), 0, &field);
        check(&plain::json(&value.to_string()), 0, &value);
        assert_eq!(serde_json::from_str::<Value>(&plain::json(&value.to_string())).unwrap(), value);
    }
}

#[test]
fn arguments_that_clap_repeats_do_not_steer_the_terminal() {
    let mut texts = Texts(2);
    let mut echoed = 0;
    for _ in 0..2_000 {
        let text = texts.text().replace('\0', "");
        for arguments in [
            vec!["text2llm".to_owned(), text.clone()],
            vec!["text2llm".to_owned(), "run".to_owned(), format!("--{text}")],
            vec!["text2llm".to_owned(), "list".to_owned(), format!("--output={text}")],
            vec!["text2llm".to_owned(), "list".to_owned(), format!("--threads={text}")],
            vec!["text2llm".to_owned(), "run".to_owned(), "a".to_owned(), text.clone()],
        ] {
            let Err(error) = Cli::try_parse_from(&arguments) else { continue };
            if !error.use_stderr() {
                continue;
            }
            let shown = usage_text(error);
            let steering: Vec<char> =
                shown.chars().filter(|&c| !matches!(c, '\n' | '\t') && plain::steers(c)).collect();
            assert!(steering.is_empty(), "{steering:?} in {shown:?} of {arguments:?}");
            echoed += usize::from(shown.contains('·') || shown.contains('⏎'));
        }
    }
    assert!(echoed > 1_000, "{echoed}");
    let forged = "nonsense\u{1b}[1m\nwarning: forged";
    for arguments in [
        vec!["text2llm", forged],
        vec!["text2llm", "list", "--output", forged],
        vec!["text2llm", "list", "--threads", forged],
        vec!["text2llm", "run", "--x\nwarning: forged"],
    ] {
        let shown = usage_text(Cli::try_parse_from(&arguments).unwrap_err());
        assert!(shown.contains("⏎warning: forged") && !shown.contains("\nwarning"), "{shown}");
    }
    let secret = "notify.webhook=https://hooks.example/canary";
    let shown = usage_text(Cli::try_parse_from(["text2llm", "run", "a", secret]).unwrap_err());
    assert!(shown.contains("https://hooks.example") && !shown.contains("canary"), "{shown}");
    Cli::command().debug_assert();
}
