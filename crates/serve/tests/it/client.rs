//! A client of the tests: plain HTTP over a socket, so that it can say what a browser never would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve::dashboard::{Dashboard, Shown};

/// What counts this process's memory and threads must be the only one that uses them.
static TURN: RwLock<()> = RwLock::new(());

/// Held while a test has its server.
#[allow(dead_code)]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// A dashboard over a temporary folder.
pub struct Server {
    pub folder: tempfile::TempDir,
    pub address: SocketAddr,
    pub token: String,
    _turn: Turn,
}

/// What came back.
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Server {
    pub fn start() -> Server {
        Server::with(Turn::Shared(TURN.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// While no other test has one.
    pub fn alone() -> Server {
        Server::with(Turn::Alone(TURN.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn with(turn: Turn) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let standing = |run: &runs::run::RunDir| {
            let state = run.state(&store::fs::RealFs).ok()?;
            Some(json!({ "status": state.status, "step": state.step }))
        };
        let shown = Shown { project: "a <b>project".to_owned(), runs, standing: Box::new(standing) };
        let dashboard = Dashboard::bind("127.0.0.1:0".parse().unwrap(), shown).unwrap();
        let (address, url) = (dashboard.address(), dashboard.url());
        std::thread::spawn(move || dashboard.serve());
        let token = url.split_once("token=").unwrap().1.to_owned();
        Server { folder, address, token, _turn: turn }
    }

    pub fn run_folder(&self, id: &str) -> PathBuf {
        self.folder.path().join("runs").join(id)
    }

    pub fn cookie(&self) -> String {
        format!("Cookie: text2llm_{}={}\r\n", self.address.port(), self.token)
    }

    /// As written, and to the end of the connection.
    pub fn raw(&self, request: &str) -> Reply {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    pub fn get(&self, path: &str) -> Reply {
        let cookie = self.cookie();
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{cookie}Connection: close\r\n\r\n",
            self.address
        ))
    }

    /// Opens the stream of events.
    pub fn events(&self, query: &str) -> Events {
        let mut stream = self.connect();
        let cookie = self.cookie();
        write!(stream, "GET /api/events?{query} HTTP/1.1\r\nHost: {}\r\n{cookie}\r\n", self.address).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "closed: {head}");
        }
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        Events { reader, waiting: Vec::new() }
    }
}

/// Events as they come.
pub struct Events {
    reader: BufReader<TcpStream>,
    waiting: Vec<Value>,
}

impl Events {
    pub fn next(&mut self) -> Value {
        let started = Instant::now();
        while self.waiting.is_empty() {
            // Heartbeats come all the time, so the socket's own patience is of no use.
            assert!(started.elapsed() < Duration::from_secs(12), "nothing is told");
            let mut size = String::new();
            self.reader.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.reader.read_exact(&mut chunk).unwrap();
            let text = String::from_utf8(chunk[..size].to_vec()).unwrap();
            self.waiting = text
                .split("\n\n")
                .filter_map(|event| event.strip_prefix("data: "))
                .map(|json| serde_json::from_str(json).unwrap())
                .collect();
        }
        self.waiting.remove(0)
    }

    /// The next event of that kind that satisfies.
    #[track_caller]
    pub fn until(&mut self, kind: &str, holds: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..200 {
            let event = self.next();
            if event["kind"] == kind && holds(&event) {
                return event;
            }
        }
        panic!("no such {kind}");
    }
}

pub fn step_line(step: u64) -> String {
    let line = json!({
        "event": "step", "step": step, "total_steps": 1000, "epoch": 0.5, "loss": 1.0 / step as f64, "learning_rate": 1e-3,
        "gradient_norm": 0.5, "tokens_per_s": 10.0, "tokens_seen": step, "elapsed_s": step, "eta_s": 1.0, "rss_bytes": 75_000_000,
    });
    format!("{line}\n")
}

pub fn write_run(folder: &Path, steps: u64) {
    std::fs::create_dir_all(folder).unwrap();
    let state = json!({ "status": "completed", "step": steps, "total_steps": 1000 });
    store::sealed::write(&store::fs::RealFs, &folder.join("state.json"), &state).unwrap();
    std::fs::write(folder.join("metrics.jsonl"), (1..=steps).map(step_line).collect::<String>()).unwrap();
    let meta = json!({ "recipe": { "name": "x" }, "base_dir": "/somewhere" });
    std::fs::write(folder.join("meta.json"), meta.to_string()).unwrap();
}
