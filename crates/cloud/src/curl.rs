//! Bytes over HTTP by the system's `curl`: TLS, proxies and certificates are the system's, and no build gets
//! longer.
//!
//! Redirects are followed by our own code, so that a token is only sent to the server it is for. Addresses
//! and tokens are passed on standard input, so that they do not appear in process lists.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use store::limit::Limit;

use crate::error::{broken, shown};
use crate::receive::{Received, receive, size, too_much};
use crate::{Error, Result};

/// Options of every curl call; addresses and secrets are passed on standard input. Brackets and braces in
/// names are literal.
const ALWAYS: [&str; 9] =
    ["-q", "--silent", "--globoff", "--proto", "=http,https", "--connect-timeout", "20", "--config", "-"];
/// A transfer that is slower than this for a minute has broken off.
pub(crate) const UNLESS_STUCK: [&str; 4] = ["--speed-limit", "1000", "--speed-time", "60"];
/// Redirects before it is a loop.
const MOST_REDIRECTS: usize = 5;
/// Longer answers are none of those that are held in memory: lists of files, manifests.
pub(crate) const LARGEST_ANSWER_BYTES: u64 = 64 << 20;
/// How often a transfer is tried that breaks off.
const TRIES: u32 = 5;
/// curl's exit codes: ranges not supported; what HTTP refuses.
const EXIT_RANGE: i32 = 33;
const EXIT_REFUSED: i32 = 22;

/// Interval at which a transfer polls for a stop request.
const PULSE: Duration = Duration::from_millis(100);
/// Why a transfer ends that nothing is wrong with.
const ENDING: &str = "stopped on request";

/// A server's address with the token that goes with it.
#[derive(Clone, Debug)]
pub struct Server {
    origin: String,
    token: Option<String>,
}

/// The head of a response.
struct Head {
    status: u16,
    location: Option<String>,
}

impl Server {
    /// The server of `endpoint`.
    pub fn new(endpoint: &str, token: Option<String>) -> Server {
        Server { origin: origin(endpoint).to_owned(), token }
    }

    /// A short answer.
    pub fn get(&self, url: &str) -> Result<Vec<u8>> {
        let mut last = None;
        for attempt in 0..TRIES {
            pause(attempt);
            match self.get_once(url) {
                Err(Error::Transport { url, message }) => last = Some(Error::Transport { url, message }),
                answer => return answer,
            }
        }
        Err(last.unwrap_or_else(|| broken(url, "no answer")))
    }

    fn get_once(&self, url: &str) -> Result<Vec<u8>> {
        // Curl leaves the token out where a redirect leads to another server.
        let arguments =
            ["--max-time", "120", "--location", "--max-redirs", "5", "--write-out", "\n%{http_code}"];
        let mut child = self.start(url, &arguments)?;
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout
                .take(LARGEST_ANSWER_BYTES + 1)
                .read_to_end(&mut answer)
                .map_err(|error| broken(url, &error.to_string()))?;
        }
        if answer.len() as u64 > LARGEST_ANSWER_BYTES {
            let _ = child.kill();
            let _ = child.wait();
            return Err(too_long(url));
        }
        let at = answer.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
        let status = String::from_utf8_lossy(&answer[at..]).trim().parse().unwrap_or(0);
        answer.truncate(at);
        match finish(child, url) {
            Err(_) if status >= 400 => Err(Error::Status { url: shown(url), status }),
            done => done.map(|()| answer),
        }
    }

    /// Downloads a file of `announced` bytes, continuing an earlier attempt; `progress` gets the file's size
    /// as it grows.
    pub fn download(
        &self,
        url: &str,
        part: &Path,
        announced: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut last = None;
        for attempt in 0..TRIES {
            pause(attempt);
            match self.download_once(url, part, announced, progress) {
                Err(Error::Transport { url, message }) => last = Some(Error::Transport { url, message }),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| broken(url, "no answer")))
    }

    fn download_once(
        &self,
        url: &str,
        part: &Path,
        announced: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let url = self.settle(url)?;
        let at = size(part).to_string();
        let mut arguments = UNLESS_STUCK.to_vec();
        if at != "0" {
            arguments.extend(["--continue-at", &at]);
        }
        let child = self.start(&url, &arguments)?;
        match take(child, &url, part, announced, progress)? {
            Received::Ended => Ok(()),
            Received::TooMuch { delivered, .. } => Err(too_much(&url, announced, delivered)),
        }
    }

    /// Follows redirects. On other servers only the first address is used: theirs are often signed for one
    /// method, so they are not probed.
    fn settle(&self, url: &str) -> Result<String> {
        let mut url = url.to_owned();
        for _ in 0..MOST_REDIRECTS {
            if origin(&url) != self.origin {
                return Ok(url);
            }
            let head = self.head(&url)?;
            match (head.status, head.location) {
                (300..=399, Some(location)) => url = joined(&url, &location)?,
                (200..=299, _) => return Ok(url),
                (status, _) => return Err(Error::Status { url: shown(&url), status }),
            }
        }
        Err(broken(&url, "too many redirects"))
    }

    fn head(&self, url: &str) -> Result<Head> {
        let mut child = self.start(url, &["--head", "--max-time", "60"])?;
        let mut said = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(1 << 20).read_to_end(&mut said).map_err(|error| broken(url, &error.to_string()))?;
        }
        let code = child.wait().map_err(|error| broken(url, &error.to_string()))?.code();
        let said = String::from_utf8_lossy(&said);
        // Proxies send a head of their own before the server's.
        let head = said.rsplit("\r\n\r\n").find(|head| head.starts_with("HTTP/")).unwrap_or_default();
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        let location = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        match status {
            Some(status) => Ok(Head { status, location }),
            None => Err(broken(url, &meaning(code))),
        }
    }

    /// Starts curl without its user's configuration, following no redirects but those of other servers to
    /// others.
    fn start(&self, url: &str, arguments: &[&str]) -> Result<Child> {
        let is_ours = origin(url) == self.origin;
        let mut arguments = arguments.to_vec();
        // A refusal's head is an answer too.
        if !arguments.contains(&"--head") {
            arguments.push("--fail");
            if !is_ours {
                arguments.extend(["--location", "--max-redirs", "5"]);
            }
        }
        let token = self.token.as_deref().filter(|_| is_ours);
        let headers = token.map(|token| format!("Authorization: Bearer {token}"));
        start(url, headers, &arguments)
    }
}

/// Starts curl without its user's configuration. The address and the headers are handed over on standard
/// input.
pub(crate) fn start(
    url: &str,
    headers: impl IntoIterator<Item = String>,
    arguments: &[&str],
) -> Result<Child> {
    if store::ending::is_ending() {
        return Err(broken(url, ENDING));
    }
    let mut child = Command::new("curl")
        .args(ALWAYS)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Error::NoCurl { message: error.to_string() })?;
    let mut configuration = format!("url = {}\n", quoted(url));
    for header in headers {
        configuration.push_str(&format!("header = {}\n", quoted(&header)));
    }
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(configuration.as_bytes()).map_err(|error| broken(url, &error.to_string()))?;
    }
    Ok(child)
}

/// Kills curl once a stop of this process is requested.
fn kill_at_end(child: &mut Child, ended: &AtomicBool) {
    while !ended.load(Ordering::SeqCst) {
        if store::ending::is_ending() {
            let _ = child.kill();
            return;
        }
        std::thread::park_timeout(PULSE);
    }
}

/// Writes curl's output to a file, and stops curl if it is too much. If the server does not support resuming,
/// the file is removed.
pub(crate) fn take(
    mut child: Child,
    url: &str,
    part: &Path,
    announced: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Received> {
    let stdout = child.stdout.take();
    let ended = AtomicBool::new(false);
    let received = std::thread::scope(|scope| {
        // Or curl would go on alone after this process was asked to stop, and reading from it would not end.
        let watch = std::thread::Builder::new().spawn_scoped(scope, || kill_at_end(&mut child, &ended));
        let received = match stdout {
            Some(mut stdout) => receive(&mut stdout, url, part, announced, progress),
            None => Ok(Received::Ended),
        };
        ended.store(true, Ordering::SeqCst);
        if let Ok(watch) = &watch {
            watch.thread().unpark();
        }
        received
    });
    if store::ending::is_ending() {
        let _ = child.kill();
        let _ = child.wait();
        return Err(broken(url, ENDING));
    }
    if !matches!(received, Ok(Received::Ended)) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| broken(url, &error.to_string()))?;
    match received? {
        Received::Ended if status.code() == Some(EXIT_RANGE) => {
            std::fs::remove_file(part).map_err(store::Error::io("remove", part))?;
            Err(broken(url, "the server does not support resuming a download"))
        }
        Received::Ended if !status.success() => Err(broken(url, &meaning(status.code()))),
        received => Ok(received),
    }
}

pub(crate) fn finish(mut child: Child, url: &str) -> Result<()> {
    let status = child.wait().map_err(|error| broken(url, &error.to_string()))?;
    #[cfg(unix)]
    if std::os::unix::process::ExitStatusExt::signal(&status) == Some(25) {
        // SIGXFSZ, which curl does not survive.
        return Err(Error::Limit { url: shown(url), limit: Limit::FileSize });
    }
    if status.success() { Ok(()) } else { Err(broken(url, &meaning(status.code()))) }
}

/// A message for a curl exit code.
pub(crate) fn meaning(code: Option<i32>) -> String {
    match code {
        Some(6) => "the host name cannot be resolved: check the network".to_owned(),
        Some(7) => "cannot connect to the server: check the network".to_owned(),
        Some(18 | 56) => "the transfer was interrupted".to_owned(),
        Some(EXIT_REFUSED) => "the server refused the request".to_owned(),
        Some(23) => "cannot write the file: check the disk space".to_owned(),
        Some(26) => "cannot read the file to upload".to_owned(),
        Some(28) => "the request timed out".to_owned(),
        Some(35 | 51 | 60) => {
            "no secure connection: check the system's clock and its CA certificates".to_owned()
        }
        Some(code) => format!("curl exited with code {code}"),
        None => "curl was killed".to_owned(),
    }
}

pub(crate) fn pause(attempt: u32) {
    if attempt > 0 {
        std::thread::sleep(Duration::from_millis(250 << attempt));
    }
}

/// The error of an answer that is held in memory, and too long for that.
pub(crate) fn too_long(url: &str) -> Error {
    let message = format!(
        "the response is longer than {} MB, too long for a file list: the download was stopped",
        LARGEST_ANSWER_BYTES >> 20
    );
    Error::Reference { entry: shown(url), message }
}

/// Scheme, name and port.
pub(crate) fn origin(url: &str) -> &str {
    let after = url.find("://").map_or(0, |at| at + 3);
    let end = url[after..].find(['/', '?', '#']).map_or(url.len(), |at| after + at);
    &url[..end]
}

fn joined(url: &str, location: &str) -> Result<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return Ok(location.to_owned());
    }
    if location.starts_with('/') && !location.starts_with("//") {
        return Ok(format!("{}{location}", origin(url)));
    }
    Err(broken(url, "redirects to an invalid address"))
}

/// Percent-encodes invalid characters of an address; `/` is kept as the separator.
pub(crate) fn encoded(text: &str, keeps_slashes: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'/' if keeps_slashes => out.push('/'),
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], "");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded() {
        assert_eq!(encoded("a b/c%é.txt", true), "a%20b/c%25%C3%A9.txt");
        assert_eq!(encoded("refs/pr/1", false), "refs%2Fpr%2F1");
    }

    #[test]
    fn origins_and_redirects() {
        assert_eq!(origin("https://hub.example:8443/a?b"), "https://hub.example:8443");
        assert_eq!(origin("http://h"), "http://h");
        assert_eq!(joined("https://h/a/b", "/c").unwrap(), "https://h/c");
        assert_eq!(joined("https://h/a", "https://cdn/x?s=1").unwrap(), "https://cdn/x?s=1");
        assert!(joined("https://h/a", "file:///etc/passwd").is_err());
        assert!(joined("https://h/a", "//other/x").is_err());
        assert_eq!(quoted("a\"b\n"), "\"a\\\"b\"");
        assert_eq!(shown("https://h/x?signature=1"), "https://h/x");
        assert_eq!(shown("https://me:word@h/x"), "https://[hidden]@h/x");
    }
}
