//! One request: its address, its signature, curl, and trying again what may go better the next time.

use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout};

use store::time::Timestamp;

use super::bucket::Storage;
use super::passing::passing;
use super::signature::{EMPTY_SHA256, Signed};
use super::xml;
use crate::curl::{self, LARGEST_ANSWER_BYTES, UNLESS_STUCK};
use crate::error::broken;
use crate::receive::{Received, size, too_much};
use crate::{Error, Result};

/// How often a request is tried: one that gets no answer, and one whose answer is to wait.
const TRIES: u32 = 6;
const TRIES_OF_BUSY: u32 = 9;
/// Error codes of a busy or overloaded server.
const TRY_AGAIN: [u16; 6] = [408, 429, 500, 502, 503, 504];
const TRY_AGAIN_CODES: [&str; 3] = ["InternalError", "RequestTimeout", "SlowDown"];
const REPLACED: &str = "it was replaced in the meantime: run the same command again";
/// Longer messages of a server are truncated.
const LONGEST_MESSAGE: usize = 200;
/// Longer heads of an answer are none; curl takes 300 KB of one.
const LONGEST_HEADS_BYTES: u64 = 4 << 20;
/// The most that a request may take that moves little. A storage may put a file of thousands of parts
/// together for minutes.
const LONGEST_S: &str = "900";

/// A request to a bucket.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub method: &'static str,
    /// Of the object; empty for the bucket.
    pub key: &'a str,
    /// Key, not encoded.
    pub query: &'a [(&'static str, &'a str)],
    /// Names in lower case.
    pub headers: &'a [(&'static str, &'a str)],
    /// A file to send, with the SHA-256 of its bytes.
    pub body: Option<(&'a Path, &'a str)>,
}

impl<'a> Call<'a> {
    pub fn get(key: &'a str) -> Call<'a> {
        Call { method: "GET", key, query: &[], headers: &[], body: None }
    }
}

/// Whether it succeeded.
#[derive(Debug)]
pub struct Answer {
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The response, whatever its status.
struct Said {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Storage {
    /// Asks until there is an answer that counts.
    pub(super) fn ask(&self, call: &Call<'_>) -> Result<Answer> {
        self.insist(|| {
            let place = self.place(call.key);
            let mut arguments = vec!["--max-time", LONGEST_S];
            let mut child = self.start(call, "-", &mut arguments)?;
            let said = collect(child.stdout.take(), LARGEST_ANSWER_BYTES);
            self.accept(call, heard(child, said, &place)?)
        })
    }

    /// Downloads the rest of an object of `announced` bytes to a file that contains its beginning, or
    /// nothing. A response with another ETag belongs to another object.
    pub(super) fn bring(
        &self,
        call: &Call<'_>,
        etag: &str,
        part: &Path,
        announced: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Answer> {
        let remove = || match std::fs::remove_file(part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(store::Error::io("remove", part)(error))
            }
            _ => Ok(()),
        };
        self.insist(|| {
            let place = self.place(call.key);
            // Heads go to a file of their own: what follows a body (trailers) would be taken for its end.
            let temporary = std::env::temp_dir();
            let heads = passing(&temporary)
                .map_err(store::Error::io("write the server's response to", &temporary))?;
            let heads_path = heads.path().to_string_lossy().into_owned();
            let at = size(part).to_string();
            // Without --fail, what a refusal says would become the file's.
            let mut arguments = vec!["--fail"];
            arguments.extend(UNLESS_STUCK);
            if at != "0" {
                arguments.extend(["--continue-at", &at]);
            }
            let child = self.start(call, &heads_path, &mut arguments)?;
            let taken = curl::take(child, &place, part, announced, progress);
            let mut said = Vec::new();
            heads
                .as_file()
                .take(LONGEST_HEADS_BYTES)
                .read_to_end(&mut said)
                .map_err(store::Error::io("read", heads.path()))?;
            let said = match (parse(&said), taken) {
                // With --fail, a refusal is an exit code of curl's too.
                (Some(said), _) if said.status >= 300 => said,
                (_, Ok(Received::TooMuch { delivered, .. })) => {
                    return Err(too_much(&place, announced, delivered));
                }
                (_, Err(error)) => return Err(error),
                (Some(said), _) => said,
                (None, _) => return Err(broken(&place, "the response is not valid HTTP")),
            };
            if (300..400).contains(&said.status) {
                // Curl takes these words for the object's.
                remove()?;
            }
            let answer = self.accept(call, said)?;
            match answer.header("etag").map(bare) {
                Some(other) if !etag.is_empty() && other != etag => {
                    // A server that does not know If-Match.
                    remove()?;
                    Err(Error::Storage {
                        place,
                        status: 412,
                        code: String::new(),
                        message: String::new(),
                        remedy: REPLACED.to_owned(),
                    })
                }
                _ => Ok(answer),
            }
        })
    }

    /// Retries after network errors and busy responses.
    fn insist<T>(&self, mut once: impl FnMut() -> Result<T>) -> Result<T> {
        let mut tried = 0;
        loop {
            tried += 1;
            match once() {
                Err(error) if tried < tries(&error) => {
                    // Not all at the same moment, where many processes were told to wait.
                    let own = 1.0 + f64::from(std::process::id() % 50) / 100.0;
                    std::thread::sleep(self.first_pause.mul_f64(own * f64::from(1 << (tried - 1))));
                }
                done => return done,
            }
        }
    }

    /// Starts curl; the heads of answers go to the file `heads`.
    fn start<'a>(&self, call: &Call<'a>, heads: &'a str, arguments: &mut Vec<&'a str>) -> Result<Child> {
        let host = &self.host;
        let path = curl::encoded(&format!("{}/{}", self.base_path, call.key), true);
        let mut query: Vec<(String, String)> = call
            .query
            .iter()
            .map(|(name, value)| (curl::encoded(name, false), curl::encoded(value, false)))
            .collect();
        query.sort();
        let mut url = format!("{}://{host}{path}", self.scheme);
        for (number, (name, value)) in query.iter().enumerate() {
            url += &format!("{}{name}={value}", if number == 0 { '?' } else { '&' });
        }
        let body_sha256 = call.body.map_or(EMPTY_SHA256, |(_, sha256)| sha256);
        let mut headers: Vec<(String, String)> =
            call.headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        if let Some(keys) = &self.keys {
            let time = format!("{}Z", Timestamp::now().compact().replace('-', "T"));
            headers.extend([
                ("host".to_owned(), host.clone()),
                ("x-amz-content-sha256".to_owned(), body_sha256.to_owned()),
                ("x-amz-date".to_owned(), time.clone()),
            ]);
            if let Some(token) = &keys.session_token {
                headers.push(("x-amz-security-token".to_owned(), token.clone()));
            }
            headers.sort();
            let signed = Signed {
                method: call.method,
                path: &path,
                query: &query,
                headers: &headers,
                body_sha256,
                time: &time,
                region: &self.region,
            };
            let authorization = signed.authorization(keys);
            headers.push(("authorization".to_owned(), authorization));
        }
        // Without a value, curl leaves out what it would add by itself: a wait for leave to send, the type of
        // a form.
        let headers = headers.into_iter().map(|(name, value)| format!("{name}: {value}"));
        let headers = headers.chain(["Expect:".to_owned(), "Content-Type:".to_owned()]);
        arguments.extend(["--path-as-is", "--suppress-connect-headers", "--dump-header", heads]);
        arguments.extend(["--request", call.method]);
        match call.body {
            Some((path, _)) => {
                // The address ends in no slash, so curl adds no name to it.
                let path = path.to_str().ok_or_else(|| Error::Transport {
                    url: self.place(call.key),
                    message: "the name of the file to upload is not UTF-8".to_owned(),
                })?;
                arguments.extend(["--upload-file", path]);
            }
            None if call.method == "POST" => arguments.extend(["--data", ""]),
            None => {}
        }
        curl::start(&url, headers, arguments)
    }

    fn accept(&self, call: &Call<'_>, said: Said) -> Result<Answer> {
        // Where a long answer fails after it began, S3 says so in the body of a success.
        let words = String::from_utf8_lossy(&said.body);
        let is_error = || call.method == "POST" && xml::text_of(&words, "Error/Code").is_some();
        if (200..300).contains(&said.status) && !is_error() {
            return Ok(Answer { headers: said.headers, body: said.body });
        }
        let tell = |name| xml::text_of(&words, name).unwrap_or_default();
        let (code, mut message) = (tell("Error/Code"), tell("Error/Message"));
        if message.len() > LONGEST_MESSAGE {
            message = message.chars().take(LONGEST_MESSAGE).collect();
        }
        message.retain(|c| !c.is_control());
        let region = said.headers.iter().find(|(name, _)| name == "x-amz-bucket-region");
        let is_elsewhere = matches!(said.status, 301 | 307) || code == "AuthorizationHeaderMalformed";
        let remedy = match (said.status, code.as_str()) {
            _ if is_elsewhere => match region {
                Some((_, region)) => format!("the bucket is in another region: set AWS_REGION={region}"),
                None => "the bucket is in another region: set AWS_REGION".to_owned(),
            },
            (_, "RequestTimeTooSkewed") => "set this machine's clock".to_owned(),
            (_, "ExpiredToken") => "the keys have expired: get new ones".to_owned(),
            (401 | 403, _) if self.keys.is_none() => {
                "no keys are set: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE".to_owned()
            }
            (401 | 403, _) => "check the keys and their permissions".to_owned(),
            (404, "NoSuchBucket") => {
                "check the bucket's name, and AWS_ENDPOINT_URL if the storage is not Amazon's".to_owned()
            }
            (404, _) => "there is no such object".to_owned(),
            (412, _) => REPLACED.to_owned(),
            _ => "try again later".to_owned(),
        };
        Err(Error::Storage { place: self.place(call.key), status: said.status, code, message, remedy })
    }
}

/// How often a request is tried that ends so.
fn tries(error: &Error) -> u32 {
    match error {
        Error::Transport { .. } => TRIES,
        Error::Storage { status, .. } if TRY_AGAIN.contains(status) => TRIES_OF_BUSY,
        Error::Storage { code, .. } if TRY_AGAIN_CODES.contains(&code.as_str()) => TRIES_OF_BUSY,
        _ => 1,
    }
}

/// An ETag without its quotes, and without the mark of one that a proxy made weak.
pub(super) fn bare(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}

/// Curl's output to its end, limited to `most` bytes.
fn collect(stdout: Option<ChildStdout>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stdout) = stdout {
        stdout.take(most + 1).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > most {
        return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

/// Curl's output: heads, then the body unless it goes to a file.
fn heard(mut child: Child, said: std::io::Result<Vec<u8>>, place: &str) -> Result<Said> {
    let bytes = match said {
        Ok(bytes) => bytes,
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(match error.kind() {
                std::io::ErrorKind::FileTooLarge => curl::too_long(place),
                _ => broken(place, &error.to_string()),
            });
        }
    };
    let ended = curl::finish(child, place);
    match parse(&bytes) {
        // With --fail, a refusal is an exit code of curl's too.
        Some(said) if said.status >= 300 => Ok(said),
        Some(said) => ended.map(|()| said),
        None => Err(ended.err().unwrap_or_else(|| broken(place, "the response is not valid HTTP"))),
    }
}

/// Heads of 1xx come before the one that counts.
fn parse(mut bytes: &[u8]) -> Option<Said> {
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, body) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 4..]);
        let mut lines = head.lines();
        let status = lines.next()?.strip_prefix("HTTP/")?.split_whitespace().nth(1)?.parse().ok()?;
        if (100..200).contains(&status) {
            bytes = body;
            continue;
        }
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        return Some(Said { status, headers: lines.filter_map(header).collect(), body: body.to_vec() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_told_from_bodies() {
        let said =
            parse(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nETag: \"x\"\r\n\r\na\r\n\r\nb").unwrap();
        assert_eq!((said.status, said.body.as_slice()), (200, &b"a\r\n\r\nb"[..]));
        assert_eq!(said.headers, [("etag".to_owned(), "\"x\"".to_owned())]);
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_none());
        assert!(parse(b"").is_none());
        // As many as curl takes, on a thread with little room.
        let many = "HTTP/1.1 100 C\r\n\r\n".repeat(20_000) + "HTTP/1.1 204 N\r\n\r\n";
        let thread = std::thread::Builder::new().stack_size(256 << 10);
        let said = thread.spawn(move || parse(many.as_bytes())).unwrap().join().unwrap().unwrap();
        assert_eq!(said.status, 204);
    }
}
