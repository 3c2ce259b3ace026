//! A hub, and the store behind it, on 127.0.0.1.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const LARGE: &str =
    "{\"text\": \"A FILE THAT LIES IN THE STORE\"}\n{\"text\": \"AND ITS SECOND LINE\"}\n";
pub const SMALL: &str = "a small file\n";
/// What is sent of an answer without end before the test gives up.
const MOST_SENT: usize = 1 << 30;

/// Two servers, and what they were asked.
pub struct Fake {
    pub endpoint: String,
    log: Arc<Mutex<Vec<String>>>,
    sent: Arc<AtomicUsize>,
}

impl Fake {
    pub fn start() -> Fake {
        let log = Arc::new(Mutex::new(Vec::new()));
        let (has_broken, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let store = serve("store", &log, &sent, move |method, path, range| {
            assert_eq!(path, "/blob?signature=1");
            // The first transfer breaks off in its middle.
            let breaks = method == "GET" && !has_broken.swap(true, Ordering::SeqCst);
            file(LARGE, range, breaks)
        });
        let hub = serve("hub", &log, &sent, move |_, path, range| match path {
            "/api/datasets/owner/set/revision/main?blobs=true" => answer(200, &[], &listing()),
            "/api/models/owner/model/revision/main?blobs=true" => answer(200, &[], &model_listing()),
            "/owner/model/resolve/0123456789abcdef0123456789abcdef01234567/config.json" => {
                file(SMALL, range, false)
            }
            "/owner/model/resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors" => {
                answer(302, &[&format!("Location: {store}/blob?signature=1")], "")
            }
            "/api/datasets/owner/gated/revision/main?blobs=true" => answer(401, &[], "no"),
            "/datasets/owner/set/resolve/0123456789abcdef0123456789abcdef01234567/data/train-0.jsonl" => {
                let to = format!("Location: {store}/blob?signature=1");
                let linked = format!("X-Linked-Etag: \"{}\"", hex(Sha256::digest(LARGE)));
                answer(302, &[&to, &linked, &format!("X-Repo-Commit: {COMMIT}")], "")
            }
            "/datasets/owner/set/resolve/0123456789abcdef0123456789abcdef01234567/small%20file.txt" => {
                answer(307, &["Location: /moved/small.txt"], "")
            }
            "/moved/small.txt" => file(SMALL, range, false),
            "/datasets/owner/set/resolve/0123456789abcdef0123456789abcdef01234567/lies.txt" => {
                file("other bytes!\n", range, false)
            }
            "/api/datasets/owner/endless/revision/main?blobs=true" => endless("{\"sha\": \"", None),
            "/datasets/owner/set/resolve/0123456789abcdef0123456789abcdef01234567/longer.txt" => {
                endless(SMALL, None)
            }
            "/datasets/owner/set/resolve/0123456789abcdef0123456789abcdef01234567/told.txt" => {
                endless(SMALL, Some(MOST_SENT))
            }
            _ => answer(404, &[], "no"),
        });
        Fake { endpoint: hub, log, sent }
    }

    /// Bytes of answers without end that were taken.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn listing() -> String {
    let mut git = Sha1::new();
    git.update(format!("blob {}\0{SMALL}", SMALL.len()));
    let git = hex(git.finalize());
    let small = |name: &str| {
        format!("{{\"rfilename\": \"{name}\", \"size\": {}, \"blobId\": \"{git}\"}}", SMALL.len())
    };
    format!(
        "{{\"id\": \"owner/set\", \"sha\": \"{COMMIT}\", \"siblings\": [{}, {}, {}, {}, {}, {{\"rfilename\": \"data/train-0.jsonl\", \
         \"size\": {}, \"blobId\": \"{git}\", \"lfs\": \
         {{\"sha256\": \"{}\", \"size\": {}, \"pointerSize\": 130}}}}]}}",
        small("small file.txt"),
        small("lies.txt"),
        small("longer.txt"),
        small("told.txt"),
        small("../../escape.txt"),
        LARGE.len(),
        hex(Sha256::digest(LARGE)),
        LARGE.len()
    )
}

/// A model with weights, files that belong to it, and some that do not.
fn model_listing() -> String {
    let mut git = Sha1::new();
    git.update(format!("blob {}\0{SMALL}", SMALL.len()));
    let git = hex(git.finalize());
    let mut files: Vec<String> = ["config.json", "README.md", "onnx/model.safetensors", "pytorch_model.bin"]
        .map(|name| {
            format!("{{\"rfilename\": \"{name}\", \"size\": {}, \"blobId\": \"{git}\"}}", SMALL.len())
        })
        .into();
    for name in ["model.safetensors", "model-Q4_0.gguf"] {
        let (sha, size) = (hex(Sha256::digest(LARGE)), LARGE.len());
        let lfs = format!("{{\"sha256\": \"{sha}\", \"size\": {size}, \"pointerSize\": 130}}");
        files.push(format!(
            "{{\"rfilename\": \"{name}\", \"size\": {size}, \"blobId\": \"{git}\", \"lfs\": {lfs}}}"
        ));
    }
    format!("{{\"id\": \"owner/model\", \"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", files.join(", "))
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Answer {
    head: String,
    body: Vec<u8>,
    /// How much of the body is sent.
    sent: usize,
    is_endless: bool,
}

fn answer(status: u16, headers: &[&str], body: &str) -> Answer {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    Answer { head, sent: body.len(), body: body.into(), is_endless: false }
}

/// A body that is followed by more, without end, whatever length is told.
fn endless(body: &str, length: Option<usize>) -> Answer {
    let length = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
    let head = format!("HTTP/1.1 200 X\r\n{length}Connection: close\r\n\r\n");
    Answer { head, sent: body.len(), body: body.into(), is_endless: true }
}

/// A file, or what of it a range asks for.
fn file(body: &str, range: Option<usize>, breaks: bool) -> Answer {
    let from = range.unwrap_or(0).min(body.len());
    let content_range = format!("Content-Range: bytes {from}-{}/{}", body.len() - 1, body.len());
    let mut answer = match range {
        Some(_) => answer(206, &[&content_range], &body[from..]),
        None => answer(200, &["Accept-Ranges: bytes"], body),
    };
    if breaks {
        answer.sent /= 2;
    }
    answer
}

fn serve(
    name: &'static str,
    log: &Arc<Mutex<Vec<String>>>,
    sent: &Arc<AtomicUsize>,
    route: impl Fn(&str, &str, Option<usize>) -> Answer + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (log, sent) = (Arc::clone(log), Arc::clone(sent));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = handle(name, stream.unwrap(), &log, &sent, &route);
        }
    });
    address
}

fn handle(
    name: &str,
    stream: TcpStream,
    log: &Mutex<Vec<String>>,
    sent: &AtomicUsize,
    route: &impl Fn(&str, &str, Option<usize>) -> Answer,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        head.push(line.trim().to_owned());
    }
    log.lock().unwrap().push(format!("{name} {}", head.join(" | ").replace("Range", "range")));
    let mut words = head.first().map(String::as_str).unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let range = head.iter().find_map(|line| {
        let (name, value) = line.split_once(": bytes=")?;
        name.eq_ignore_ascii_case("range").then(|| value.trim_end_matches('-').parse().ok())?
    });
    let answer = route(method, path, range);
    reader.get_mut().write_all(answer.head.as_bytes())?;
    if method != "HEAD" {
        reader.get_mut().write_all(&answer.body[..answer.sent])?;
        let piece = [b'x'; 64 << 10];
        while answer.is_endless && sent.load(Ordering::SeqCst) < MOST_SENT {
            reader.get_mut().write_all(&piece)?;
            sent.fetch_add(piece.len(), Ordering::SeqCst);
        }
    }
    Ok(())
}
