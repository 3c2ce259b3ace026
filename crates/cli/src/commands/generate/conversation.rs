//! A conversation on a terminal: a line is a message, answers are streamed, the history grows.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use pipeline::generate::{Chat, Generated, Generator, Options, Stopped};
use serde_json::Value;
use tokenizer::chat::{Conversation, Message};
use train::StopFlag;

use crate::failure::{Failure, Outcome};
use crate::output::Console;

/// Time between two checks for a stop while a line is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const PROMPT: &str = "> ";

/// A record of messages and tools whose last message is to be answered.
pub fn to_answer(record: &Value) -> Outcome<Conversation> {
    Conversation::to_answer(record)
        .map_err(|error| Failure::message(format!("generate: the conversation cannot be answered: {error}")))
}

/// Holds a conversation that begins with the messages of `record`, until its end is asked for.
pub fn converse(
    generator: &mut Generator,
    record: &Value,
    options: &Options,
    console: &mut Console,
) -> Outcome {
    let stop = StopFlag::of_process().map_err(pipeline::Error::from)?;
    console.prose(&format!("Chatting with {}", generator.source()));
    console.prose("/reset starts over, /exit or Ctrl-D ends the conversation, Ctrl-C stops an answer");
    let mut chat = Chat::new(generator)?;
    let lines = lines();
    let opening = opening(record)?;
    let mut conversation = opening.clone();
    loop {
        console.ask(PROMPT);
        let Some(line) = next(&lines, &stop)? else {
            // Ctrl-D leaves the cursor behind the prompt.
            console.prose("");
            return Ok(());
        };
        let line = match line {
            Ok(line) => line,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                console.warning("the line is not UTF-8 text");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match line.trim() {
            "" => continue,
            "/exit" => return Ok(()),
            "/reset" => {
                conversation = opening.clone();
                continue;
            }
            _ => {}
        }
        conversation.messages.push(message("user", &line));
        match answer(&mut chat, &conversation, options, console, &stop)? {
            Some(generated) => {
                conversation.messages.push(message("assistant", &generated.text));
                tell(&generated, chat.capacity(), console);
            }
            None => {
                console.prose(&format!("{}; this message was left out", full(chat.capacity())));
                conversation.messages.pop();
            }
        }
        if stop.was_raised() {
            if stop.exit_code() != train::EXIT_AFTER_SIGINT {
                return Err(stopped());
            }
            stop.lower();
        }
    }
}

/// The answer to the last message; `None`: the context has no token left for one.
fn answer(
    chat: &mut Chat<'_>,
    conversation: &Conversation,
    options: &Options,
    console: &mut Console,
    stop: &StopFlag,
) -> Outcome<Option<Generated>> {
    let mut failed = None;
    let generated = chat.answer(conversation, options, &mut |text| {
        let written = console.stream_text(text);
        written.map_err(|failure| failed = Some(failure)).is_ok() && !stop.was_raised()
    })?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    if generated.is_some() {
        console.stream("\n")?;
    }
    Ok(generated)
}

/// Tells why an answer ended, unless the model ended it.
fn tell(generated: &Generated, capacity: usize, console: &mut Console) {
    match generated.stopped {
        Stopped::End | Stopped::Stop => {}
        Stopped::Cancelled => console.prose("(stopped; the answer so far stays in the conversation)"),
        Stopped::Length if generated.prompt_tokens + generated.tokens >= capacity => {
            console.prose(&full(capacity));
        }
        Stopped::Length => console
            .prose(&format!("(cut off after {} tokens: --max-new-tokens sets the limit)", generated.tokens)),
    }
}

fn full(capacity: usize) -> String {
    format!("The context of {capacity} tokens is full: /reset starts a new conversation")
}

/// The conversation before its first message: system message and tools.
fn opening(record: &Value) -> Outcome<Conversation> {
    let mut record = record.clone();
    if let Some(messages) = record["messages"].as_array_mut() {
        messages.push(Value::Object(message("user", "…")));
    }
    let mut conversation = to_answer(&record)?;
    conversation.messages.pop();
    Ok(conversation)
}

/// A message of a role; its text may be empty, as an answer may be.
fn message(role: &str, text: &str) -> Message {
    [("role", role), ("content", text)]
        .map(|(key, value)| (key.to_owned(), value.into()))
        .into_iter()
        .collect()
}

/// Lines of standard input, from a thread of their own: while one is awaited, a stop is heard.
fn lines() -> Receiver<io::Result<String>> {
    let (send, receive) = channel();
    let read = move || {
        for line in io::stdin().lines() {
            if send.send(line).is_err() {
                return;
            }
        }
    };
    // Without a thread the channel is closed, as at the end of the input.
    let _ = std::thread::Builder::new().name("input".to_owned()).spawn(read);
    receive
}

/// The next line; `None` at the end of the input.
fn next(lines: &Receiver<io::Result<String>>, stop: &StopFlag) -> Outcome<Option<io::Result<String>>> {
    loop {
        match lines.recv_timeout(LOOK_EVERY) {
            Ok(line) => return Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if stop.was_raised() => return Err(stopped()),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn stopped() -> Failure {
    let stopped = pipeline::Stopped { phase: None, steps: None, command: None };
    pipeline::Error::from(stopped).into()
}
