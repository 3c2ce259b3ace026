//! `generate --chat` on a terminal that `script` makes.

use std::io::{Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use testkit::Sandbox;

use crate::{sandbox, write_tiny};

/// What a person sees of a terminal, and types into it.
struct Terminal {
    program: Child,
    shown: ChildStdout,
}

impl Terminal {
    fn of(sandbox: &Sandbox, arguments: &str) -> Terminal {
        let command = format!("{} {arguments}", env!("CARGO_BIN_EXE_text2llm"));
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).current_dir(sandbox.path());
        script.env("NO_COLOR", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = script.spawn().expect("starts");
        let shown = program.stdout.take().expect("piped");
        Terminal { program, shown }
    }

    /// What is shown up to the next prompt, which is left out.
    fn until_asked(&mut self) -> String {
        let mut shown = Vec::new();
        while !shown.ends_with(b"\n> ") {
            let mut byte = [0];
            let read = self.shown.read(&mut byte).expect("a terminal");
            assert_eq!(read, 1, "ended after {}", String::from_utf8_lossy(&shown));
            shown.push(byte[0]);
        }
        String::from_utf8_lossy(&shown[..shown.len() - 2]).replace('\r', "")
    }

    fn write(&mut self, bytes: &[u8]) {
        self.program.stdin.as_mut().expect("piped").write_all(bytes).expect("heard");
    }

    /// The answer to a line, whose echo is left out.
    fn answer(&mut self, line: &str) -> String {
        self.write(format!("{line}\n").as_bytes());
        let shown = self.until_asked();
        shown.strip_prefix(line).unwrap_or(&shown).trim_start_matches('\n').to_owned()
    }

    /// Its exit code after `bytes`, and what it showed last.
    fn end(mut self, bytes: &[u8]) -> (Option<i32>, String) {
        self.write(bytes);
        let mut shown = String::new();
        self.shown.read_to_string(&mut shown).expect("text");
        (self.program.wait().expect("ours").code(), shown)
    }
}

/// The answer to the last of some messages, by another way.
fn answered(sandbox: &Sandbox, messages: &Value) -> String {
    sandbox.write("messages.json", messages.to_string());
    let finished = sandbox.run(&format!("generate --messages messages.json --json {SAMPLED}")).expect(0);
    let last: Value = serde_json::from_str(finished.last_line()).expect("JSON");
    last["text"].as_str().expect("text").to_owned()
}

const SAMPLED: &str = "--chat --system ever --temperature 1 --seed 7 --max-new-tokens 30 --ignore-end";

#[test]
fn a_conversation_keeps_its_history_until_it_is_reset() {
    if !testkit::has_program("script") {
        return;
    }
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("run --set train.steps=30 --set train.sequence_length=256").expect(0);
    let user = |text: &str| json!({"role": "user", "content": text});
    let first = answered(&sandbox, &json!([user("the river")]));
    let assistant = json!({"role": "assistant", "content": first});
    let second = answered(&sandbox, &json!([user("the river"), assistant, user("and boats?")]));
    assert_ne!(first, second);

    let mut terminal = Terminal::of(&sandbox, &format!("generate {SAMPLED}"));
    let greeting = terminal.until_asked();
    assert!(greeting.contains("Chatting with") && greeting.contains("/reset"), "{greeting}");
    // Control characters of the text are shown as others, and other lines tell why the answer ended.
    let letters = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let shows = |shown: &str, text: &str| {
        assert!(
            letters(shown).starts_with(&letters(text)) && !letters(text).is_empty(),
            "{shown:?} for {text:?}"
        );
    };
    shows(&terminal.answer("the river"), &first);
    shows(&terminal.answer("and boats?"), &second);
    assert_eq!(terminal.answer(""), "");
    assert_eq!(terminal.answer("/reset"), "");
    shows(&terminal.answer("the river"), &first);
    // The context of 256 tokens has no place for this.
    let full = terminal.answer(&"the river runs ".repeat(40));
    assert!(full.contains("is full: /reset starts a new conversation"), "{full}");
    shows(&terminal.answer("and boats?"), &second);
    let (code, _) = terminal.end(b"/exit\n");
    assert_eq!(code, Some(0));

    for (keys, code) in [(b"\x04", 0), (b"\x03", 130)] {
        let mut terminal = Terminal::of(&sandbox, &format!("generate {SAMPLED}"));
        terminal.until_asked();
        let (ended, shown) = terminal.end(keys);
        assert_eq!(ended, Some(code), "{shown}");
    }
}
