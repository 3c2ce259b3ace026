//! Notifications: runs a command with the event on its standard input, or posts it to a URL with the system's
//! curl.
//!
//! TLS in this program would add a C library or a dozen crates to every build for three requests per run;
//! curl is part of all three systems. The URL is passed on standard input, so that it does not appear in
//! process lists.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use recipe::NotifyOptions;

/// Time limit per notification.
const PATIENCE: Duration = Duration::from_secs(20);

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// "resumed", "stopped", "completed", "failed".
    pub event: &'static str,
    /// A sentence, as chat services expect.
    pub text: String,
    /// Id of the run.
    pub run_id: String,
    /// Steps done.
    pub step: u64,
    /// Total steps.
    pub total_steps: u64,
    /// Time (UTC, RFC 3339).
    pub time: String,
}

/// Sends a notification everywhere; returns failures as messages.
pub fn tell(options: &NotifyOptions, message: &Message) -> Vec<String> {
    let mut failed = Vec::new();
    let json = serde_json::to_string(message).unwrap_or_default();
    if let [program, arguments @ ..] = options.command.as_slice() {
        let mut command = Command::new(program);
        command.args(arguments).env("TEXT2LLM_EVENT", message.event);
        if let Err(why) = feed(command, &format!("{json}\n")) {
            failed.push(format!("notify.command `{program}`: {why}"));
        }
    }
    if let Some(url) = &options.webhook {
        match url.strip_prefix("env:").map_or(Ok(url.clone()), std::env::var) {
            Err(_) => failed.push(format!("notify.webhook: the environment variable of `{url}` is not set")),
            Ok(url) => {
                store::secret::keep(&url);
                if let Err(why) = post(&url, &json) {
                    failed.push(format!("notify.webhook: {why}"));
                }
            }
        }
    }
    failed
}

fn post(url: &str, json: &str) -> Result<(), String> {
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err("not an http or https URL".to_owned());
    }
    let quoted =
        |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    let configuration = format!(
        "url = {}\nheader = \"Content-Type: application/json\"\ndata-binary = {}\n",
        quoted(url),
        quoted(json)
    );
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "15",
        "--output",
        "-",
        "--config",
        "-",
    ]);
    feed(command, &configuration)
}

/// Runs a command with `input`, with a time limit.
fn feed(mut command: Command, input: &str) -> Result<(), String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("cannot start it: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command may ignore its input.
        let _ = stdin.write_all(input.as_bytes());
    }
    let started = Instant::now();
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("it failed: {status}")),
            None if started.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it took more than {} s", PATIENCE.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read};
    use std::net::TcpListener;

    fn message() -> Message {
        Message {
            event: "completed",
            text: "run \"x\" \\ done".into(),
            run_id: "x".into(),
            step: 7,
            total_steps: 7,
            time: "t".into(),
        }
    }

    #[test]
    fn a_webhook_gets_the_event_as_json() {
        if !testkit::has_program("curl") {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook?key=1", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let mut reader = BufReader::new(listener.accept().unwrap().0);
            let mut length = 0;
            let mut head = String::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
            (head, serde_json::from_slice::<serde_json::Value>(&body).unwrap())
        });
        let options = NotifyOptions { command: Vec::new(), webhook: Some(url) };
        assert_eq!(tell(&options, &message()), Vec::<String>::new());
        let (head, body) = server.join().unwrap();
        assert!(head.starts_with("POST /hook?key=1"), "{head}");
        assert_eq!(body, serde_json::to_value(message()).unwrap());
    }

    #[test]
    fn a_command_gets_the_event_and_what_fails_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let heard = folder.path().join("heard");
        let options = NotifyOptions {
            command: vec!["tee".into(), heard.display().to_string()],
            webhook: Some("env:TEXT2LLM_NO_SUCH_VARIABLE".into()),
        };
        let failed = tell(&options, &message());
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(failed[0].contains("TEXT2LLM_NO_SUCH_VARIABLE"), "{failed:?}");
        assert!(std::fs::read_to_string(heard).unwrap().contains("\"event\":\"completed\""));
        let options = NotifyOptions { command: vec!["false".into()], webhook: Some("ftp://x".into()) };
        assert_eq!(tell(&options, &message()).len(), 2);
    }
}
