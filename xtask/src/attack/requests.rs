//! Malformed, huge, slow and unauthenticated requests to the dashboard: it stays up, keeps answering requests
//! with the cookie, reveals nothing without the token, and its memory stays flat.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use compute::rng::Rng;

use super::campaign::Campaign;
use super::mutations::mutate::{self, pick};
use super::project;
use super::watched::Watched;

/// Idle connections without a token.
const HELD: u64 = 300;
/// Growth of resident memory that is allowed after the first hundred requests.
const GROWTH_BYTES: u64 = 24 << 20;
/// Hostile requests between two with the cookie.
const OWNER_EVERY: u64 = 100;

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "get", "\u{1}"];

struct Server {
    watched: Watched,
    address: SocketAddr,
    token: String,
    run: String,
}

/// Runs the attack.
pub fn run(campaign: &mut Campaign) -> Result<()> {
    let (project, ..) = project::undisturbed(campaign)?;
    let run = project.newest_run().context("no run")?;
    let run = run.file_name().context("no name")?.to_string_lossy().into_owned();
    let mut watched = Watched::start(&mut project.command(&["dashboard", "--port", "0", "--json"]))?;
    ensure!(
        watched.wait_until(Duration::from_secs(20), |said| said.contains("token="))?,
        "the dashboard does not start"
    );
    let said: serde_json::Value = serde_json::from_str(watched.said().lines().next().unwrap_or_default())?;
    let url = said["url"].as_str().context("no address")?;
    let (address, token) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once("/?token=")).context("no token")?;
    let mut server = Server { watched, address: address.parse()?, token: token.to_owned(), run };
    let mut settled = None;
    while let Some((case, mut rng)) = campaign.next() {
        let request = server.request(&mut rng);
        let slow = rng.below(50) == 0;
        let reply = server.ask(&request, slow);
        campaign.did(1);
        if let Some(problem) = server.problem(&request, &reply) {
            let file = campaign.scratch.path().join("request.txt");
            std::fs::write(&file, [&request, b"\n---- reply ----\n".as_slice(), &reply].concat())?;
            campaign.fail(case, problem, Some(&file))?;
        }
        if !server.watched.wait_until(Duration::ZERO, |_| true)? {
            campaign.fail(case, "the dashboard exited", None)?;
            return Ok(());
        }
        if case % OWNER_EVERY == OWNER_EVERY - 1 {
            server.ask_as_owner(campaign, case, "among other requests")?;
            let resident = server.resident_bytes();
            let first = *settled.get_or_insert(resident);
            if resident > first + GROWTH_BYTES {
                campaign.fail(case, format!("memory grew from {first} to {resident} bytes"), None)?;
                settled = Some(resident);
            }
        }
    }
    let held: Vec<TcpStream> = (0..HELD).filter_map(|_| TcpStream::connect(server.address).ok()).collect();
    std::thread::sleep(Duration::from_millis(500));
    campaign.did(held.len() as u64);
    server.ask_as_owner(campaign, campaign.next_case, "beside 300 held connections")?;
    drop(held);
    server.watched.kill();
    Ok(())
}

impl Server {
    fn cookie(&self) -> String {
        format!("Cookie: text2llm_{}={}\r\n", self.address.port(), self.token)
    }

    /// A request of any kind.
    fn request(&self, rng: &mut Rng) -> Vec<u8> {
        let path = self.path(rng);
        let methods = if rng.below(3) == 0 { METHODS.len() } else { 2 };
        let mut head = format!("{} {path} ", pick(rng, &METHODS[..methods]));
        head += *pick(rng, &["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2", "HTTP/9.9", ""]);
        head += "\r\n";
        match rng.below(8) {
            0 => {}
            1 => head += "Host: evil.example\r\n",
            2 => head += &format!("Host: {0}\r\nHost: evil.example\r\n", self.address),
            _ => head += &format!("Host: {}\r\n", self.address),
        }
        match rng.below(5) {
            0 => head += &self.cookie(),
            1 => {
                head +=
                    &format!("Cookie: text2llm_{}={}\r\n", self.address.port(), "0".repeat(self.token.len()))
            }
            2 => head += &format!("Cookie: {}\r\n", "a=b; ".repeat(rng.below(2000) as usize)),
            _ => {}
        }
        for _ in 0..rng.below(4) {
            head += &match rng.below(10) {
                0 => "Origin: http://evil.example\r\n".to_owned(),
                1 => "Sec-Fetch-Site: cross-site\r\n".to_owned(),
                2 => format!(
                    "Content-Length: {}\r\n",
                    pick(rng, &["-1", "0", "5", "18446744073709551616", "x"])
                ),
                3 => "Transfer-Encoding: chunked\r\n".to_owned(),
                4 => "Expect: 100-continue\r\n".to_owned(),
                5 => "Upgrade: websocket\r\nConnection: Upgrade\r\n".to_owned(),
                6 => format!("X: {}\r\n", "y".repeat(1 << rng.below(20))),
                7 => (0..rng.below(3000)).map(|number| format!("X{number}: y\r\n")).collect(),
                8 => "Range: bytes=0-,1-,2-\r\n".to_owned(),
                _ => "\u{0}bad\u{7f}: \r\r\n folded\r\n".to_owned(),
            };
        }
        if rng.below(10) > 0 {
            head += "\r\n";
        }
        if rng.below(6) == 0 {
            head += *pick(rng, &["ffffffffffffffff\r\n", "5\r\nhello\r\n0\r\n\r\n", "{}", "-1\r\n"]);
        }
        let mut bytes = head.into_bytes();
        match rng.below(20) {
            0 => bytes = mutate::mutated(b"", &[], rng),
            1 => bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            2 => bytes = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
            3..=7 => bytes = mutate::mutated(&bytes, b"GET / HTTP/1.1\r\n\r\n", rng),
            _ => {}
        }
        bytes
    }

    fn path(&self, rng: &mut Rng) -> String {
        const PAGES: [&str; 9] = [
            "/",
            "/style.css",
            "/app.js",
            "/chart.js",
            "/curves.js",
            "/format.js",
            "/recipe.js",
            "/samples.js",
            "/icon.svg",
        ];
        let run = &self.run;
        match rng.below(12) {
            0 => format!("/?token={}", pick(rng, &["", "x", "%00", "00000000000000000000000000000000"])),
            1 => format!("/?token={}", self.token),
            2 => format!("/api/events?run={run}"),
            3 => format!("/api/events?{}", format!("run={run}&").repeat(rng.below(300) as usize)),
            4 => format!("/api/runs/{run}/meta"),
            5 => {
                let name = pick(
                    rng,
                    &[
                        "..",
                        "%2e%2e",
                        "..%2f..%2fetc%2fpasswd",
                        "%00",
                        "%",
                        "%ff",
                        "",
                        ".",
                        "con",
                        "a%0d%0ab",
                    ],
                );
                format!("/api/runs/{name}/meta")
            }
            6 => format!("/{}", "a".repeat(1 << rng.below(18))),
            7 => format!("/{}", "../".repeat(rng.below(500) as usize)),
            8 => format!("http://evil.example/api/runs/{run}/meta"),
            9 => (*pick(rng, &["*", "//", "/none", "/api", "", "\\", "/#?", "/%"])).to_owned(),
            _ => (*pick(rng, &PAGES)).to_owned(),
        }
    }

    /// Sends a request and returns what comes back within 0.4 s.
    fn ask(&self, request: &[u8], slow: bool) -> Vec<u8> {
        let mut reply = Vec::new();
        // How a connection ends does not matter, only what was sent back.
        let mut talk = || -> std::io::Result<()> {
            let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(Duration::from_millis(150)))?;
            stream.set_write_timeout(Some(Duration::from_secs(2)))?;
            if slow {
                for byte in request.iter().take(60) {
                    stream.write_all(&[*byte])?;
                    std::thread::sleep(Duration::from_millis(3));
                }
                return Ok(());
            }
            // A request that is refused while it is being sent still gets a reply.
            let _ = stream.write_all(request);
            let begun = Instant::now();
            let mut piece = [0; 16 << 10];
            while begun.elapsed() < Duration::from_millis(400) && reply.len() < 1 << 20 {
                match stream.read(&mut piece)? {
                    0 => break,
                    count => reply.extend(&piece[..count]),
                }
            }
            Ok(())
        };
        let _ = talk();
        reply
    }

    /// What is wrong with a reply.
    fn problem(&self, request: &[u8], reply: &[u8]) -> Option<String> {
        let request = String::from_utf8_lossy(request);
        let reply = String::from_utf8_lossy(reply);
        let status = reply.split(' ').nth(1).and_then(|word| word.parse::<u16>().ok());
        if status.is_some_and(|status| status >= 500) {
            return Some(format!("status {status:?}"));
        }
        if request.contains(&self.token) {
            return None;
        }
        let secrets = [&self.token, &self.run];
        if let Some(secret) = secrets.iter().find(|secret| reply.contains(secret.as_str())) {
            return Some(format!("without the token it reveals `{secret}`"));
        }
        (status == Some(200)).then(|| "without the token it answers 200".to_owned())
    }

    /// A request with the cookie, which must be answered within 5 s.
    fn ask_as_owner(&self, campaign: &mut Campaign, case: u64, when: &str) -> Result<()> {
        let request =
            format!("GET / HTTP/1.1\r\nHost: {}\r\n{}Connection: close\r\n\r\n", self.address, self.cookie());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            if self.ask(request.as_bytes(), false).starts_with(b"HTTP/1.1 200") {
                return Ok(());
            }
        }
        campaign.fail(case, format!("{when}, a request with the cookie is not answered within 5 s"), None)
    }

    fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.watched.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    }
}
