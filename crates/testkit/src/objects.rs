//! Object storage on 127.0.0.1: as much of S3 as is asked for, what it was asked, and failures on demand.
//!
//! Signatures are recorded, not checked: their tests are Amazon's published examples, and
//! `tools/executors/objects.sh`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use md5::{Digest, Md5};

/// Objects of such keys have ETags that look like an MD5 and are none, as those of AWS's key management do.
const ENCRYPTED: &str = "encrypted/";
/// Of these, answers say so.
const TOLD_ENCRYPTED: &str = "encrypted/told/";
/// Keys of a page of a list: few, so that tests see several pages.
const PAGE: usize = 3;

/// How a request goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A refusal by this status and code; nothing is done.
    Refuse(u16, &'static str),
    /// Half of the body comes, then the connection breaks.
    Break,
    /// It is done, and the connection breaks without an answer.
    LoseAnswer,
    /// A success by its status, whose body is an error; nothing is done.
    LateError,
    /// One byte of the body is another one.
    Damage,
    /// What must match is not looked at.
    IgnoreMatch,
    /// The head is longer than a pipe holds.
    LongHead,
    /// The body is followed by more, without end; its length is not told.
    Endless,
    /// The same, after a head that tells the object's own length.
    EndlessAfterLength,
    /// A page of a list that holds nothing and says that there is another one, of this many before the first
    /// comes again.
    NextPage(usize),
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// GET, PUT, POST or DELETE.
    pub method: String,
    /// The key, decoded; empty for the bucket.
    pub key: String,
    /// Decoded.
    pub query: BTreeMap<String, String>,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    /// What was sent.
    pub body: Vec<u8>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    started: u32,
    log: Vec<Asked>,
    faults: Vec<(String, String, Fault)>,
    sent_bytes: u64,
}

/// A server with one bucket.
#[derive(Clone)]
pub struct ObjectServer {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    bucket: String,
    state: Arc<Mutex<State>>,
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl ObjectServer {
    /// Begins to listen.
    ///
    /// # Panics
    /// When the system has no port.
    pub fn start(bucket: &str) -> ObjectServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let server = ObjectServer { endpoint, bucket: bucket.to_owned(), state: Arc::default() };
        let this = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let this = this.clone();
                std::thread::spawn(move || this.serve(stream));
            }
        });
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What was asked so far, and forgets it.
    pub fn take_log(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().log)
    }

    /// An object's bytes.
    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.state().objects.get(key).cloned()
    }

    /// All keys.
    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Bytes of bodies without end that were taken.
    pub fn sent_bytes(&self) -> u64 {
        self.state().sent_bytes
    }

    /// Uploads in parts that were neither put together nor given up.
    pub fn open_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// Puts an object there.
    pub fn set(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.state().objects.insert(key.to_owned(), bytes.into());
    }

    /// The next request of this method whose key or query holds these words goes wrong.
    pub fn fail(&self, method: &str, words: &str, fault: Fault) {
        self.state().faults.push((method.to_owned(), words.to_owned(), fault));
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let (asked, words) = read(&mut reader, &self.bucket)?;
        let fault = {
            let mut state = self.state();
            state.log.push(asked.clone());
            let is_meant = |(method, part, _): &(String, String, Fault)| {
                *method == asked.method && words.contains(part.as_str())
            };
            state.faults.iter().position(is_meant).map(|at| state.faults.remove(at).2)
        };
        let mut answer = match fault {
            Some(Fault::Refuse(status, code)) => refusal(status, code),
            Some(Fault::NextPage(pages)) => {
                let at = asked.query.get("continuation-token").and_then(|token| token.parse().ok());
                next_page(at.unwrap_or(0), pages)
            }
            Some(Fault::LateError) => Answer { status: 200, ..refusal(500, "InternalError") },
            Some(Fault::IgnoreMatch) => {
                let mut asked = asked.clone();
                asked.headers.remove("if-match");
                self.answer(&asked)
            }
            _ => self.answer(&asked),
        };
        if fault == Some(Fault::LoseAnswer) {
            return None;
        }
        match fault {
            Some(Fault::Damage) => answer.body.iter_mut().take(1).for_each(|byte| *byte ^= 1),
            Some(Fault::LongHead) => {
                answer.headers += &format!("X-Filler: {}\r\n", "x".repeat(1000)).repeat(150)
            }
            _ => {}
        }
        let sent = if fault == Some(Fault::Break) { answer.body.len() / 2 } else { answer.body.len() };
        let length = match fault {
            Some(Fault::Endless) => String::new(),
            _ => format!("Content-Length: {}\r\n", answer.body.len()),
        };
        let head =
            format!("HTTP/1.1 {} X\r\n{}{length}Connection: close\r\n\r\n", answer.status, answer.headers);
        let stream = reader.get_mut();
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer.body[..sent])).ok()?;
        if matches!(fault, Some(Fault::Endless | Fault::EndlessAfterLength)) {
            self.send_without_end(stream);
        }
        Some(())
    }

    /// Until nobody takes it any more, or a test's disk would be full.
    fn send_without_end(&self, stream: &mut TcpStream) {
        let piece = [b'x'; 64 << 10];
        while self.state().sent_bytes < 1 << 30 && stream.write_all(&piece).is_ok() {
            self.state().sent_bytes += piece.len() as u64;
        }
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let mut state = self.state();
        let query = |name: &str| asked.query.get(name).cloned();
        let (key, xml) = (asked.key.clone(), |body: String| Answer {
            status: 200,
            headers: String::new(),
            body: body.into_bytes(),
        });
        match (asked.method.as_str(), query("uploadId"), query("partNumber")) {
            ("GET", ..) if key.is_empty() => xml(list(&state.objects, asked)),
            ("GET", ..) => match state.objects.get(&key) {
                None => refusal(404, "NoSuchKey"),
                Some(bytes) => {
                    let etag = etag(&key, bytes);
                    if asked.headers.get("if-match").is_some_and(|wanted| *wanted != etag) {
                        return refusal(412, "PreconditionFailed");
                    }
                    let from = asked.headers.get("range").and_then(|range| {
                        range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
                    });
                    let mut headers = format!("ETag: {etag}\r\n");
                    if key.starts_with(TOLD_ENCRYPTED) {
                        headers += "x-amz-server-side-encryption: aws:kms\r\n";
                    }
                    if let Some(from) = from {
                        let _ = write!(
                            headers,
                            "Content-Range: bytes {from}-{}/{}\r\n",
                            bytes.len() - 1,
                            bytes.len()
                        );
                    }
                    let status = if from.is_some() { 206 } else { 200 };
                    Answer { status, headers, body: bytes[from.unwrap_or(0)..].to_vec() }
                }
            },
            ("PUT", Some(id), Some(number)) => match (state.uploads.get_mut(&id), number.parse()) {
                (Some(parts), Ok(number)) => {
                    parts.insert(number, asked.body.clone());
                    let headers = format!("ETag: {}\r\n", etag(&key, &asked.body));
                    Answer { status: 200, headers, body: Vec::new() }
                }
                _ => refusal(404, "NoSuchUpload"),
            },
            ("PUT", ..) => {
                state.objects.insert(key, asked.body.clone());
                xml(String::new())
            }
            ("POST", None, _) => {
                state.started += 1;
                let id = format!("upload {}&", state.started);
                state.uploads.insert(id.clone(), BTreeMap::new());
                let id = id.replace('&', "&amp;");
                xml(format!(
                    "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                ))
            }
            ("POST", Some(id), _) => {
                let Some(parts) = state.uploads.remove(&id) else { return refusal(404, "NoSuchUpload") };
                // Only what is named counts, in the order of its numbers.
                let wanted: String = (parts.iter())
                    .map(|(number, bytes)| {
                        let etag = etag(&key, bytes).replace('"', "&quot;");
                        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
                    })
                    .collect();
                let wanted = format!("<CompleteMultipartUpload>{wanted}</CompleteMultipartUpload>");
                if String::from_utf8_lossy(&asked.body) != wanted {
                    return refusal(400, "InvalidPart");
                }
                state.objects.insert(key, parts.into_values().flatten().collect());
                xml("<?xml version=\"1.0\"?>\n\n<CompleteMultipartUploadResult/>".to_owned())
            }
            ("DELETE", Some(id), _) => {
                state.uploads.remove(&id);
                Answer { status: 204, ..xml(String::new()) }
            }
            ("DELETE", ..) => {
                state.objects.remove(&key);
                Answer { status: 204, ..xml(String::new()) }
            }
            _ => refusal(405, "MethodNotAllowed"),
        }
    }
}

/// The request, and its key and query as they came, decoded.
fn read(reader: &mut BufReader<TcpStream>, bucket: &str) -> Option<(Asked, String)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(Some(0), |length: &String| length.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (named, key) = path.trim_start_matches('/').split_once('/')?;
    let key = if named == bucket { decoded(key) } else { return None };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    let query: BTreeMap<String, String> =
        query.split('&').filter(|words| !words.is_empty()).map(pair).collect();
    let words = query.iter().fold(key.clone(), |words, (name, value)| format!("{words} {name}={value}"));
    Some((Asked { method, key, query, headers, body }, words))
}

fn list(objects: &BTreeMap<String, Vec<u8>>, asked: &Asked) -> String {
    let value = |name: &str| asked.query.get(name).cloned().unwrap_or_default();
    let (prefix, after) = (value("prefix"), value("continuation-token").replace("after ", ""));
    let found: Vec<_> =
        objects.iter().filter(|(key, _)| key.starts_with(&prefix) && key.as_str() > after.as_str()).collect();
    let mut xml =
        "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
            .to_owned();
    let is_cut = found.len() > PAGE;
    let _ = write!(xml, "<IsTruncated>{is_cut}</IsTruncated>");
    for (key, bytes) in found.iter().take(PAGE) {
        let _ = write!(
            xml,
            "<Contents><Key>{}</Key><ETag>{}</ETag><Size>{}</Size></Contents>",
            encoded(key),
            etag(key, bytes).replace('"', "&quot;"),
            bytes.len()
        );
    }
    if is_cut {
        let _ = write!(xml, "<NextContinuationToken>after {}</NextContinuationToken>", found[PAGE - 1].0);
    }
    xml + "</ListBucketResult>"
}

fn next_page(at: usize, pages: usize) -> Answer {
    let next = (at + 1) % pages;
    let body = format!(
        "<ListBucketResult><IsTruncated>true</IsTruncated>\
         <NextContinuationToken>{next}</NextContinuationToken></ListBucketResult>"
    );
    Answer { status: 200, headers: String::new(), body: body.into_bytes() }
}

fn refusal(status: u16, code: &str) -> Answer {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>so it is.</Message></Error>");
    Answer { status, headers: String::new(), body: body.into_bytes() }
}

/// Names the content: its MD5, as S3 does it where nothing is encrypted by other keys.
fn etag(key: &str, bytes: &[u8]) -> String {
    let mut hasher = Md5::new();
    hasher.update(if key.starts_with(ENCRYPTED) { ENCRYPTED } else { "" });
    hasher.update(bytes);
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) if byte == b'%' => {
                bytes.push(value);
                rest = &rest[2..];
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// As S3 does it: a space is a plus.
fn encoded(key: &str) -> String {
    key.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b' ' => out.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-_./*".contains(&byte) => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}
