//! A headless Chromium, driven through the pipe of its debugging protocol: nothing listens on a port, and no
//! driver has to be installed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Names it goes by.
const NAMES: [&str; 5] =
    ["chromium", "chromium-headless-shell", "chromium-browser", "google-chrome", "chrome"];

/// A browser with one page; both end with this value.
pub struct Browser {
    process: Child,
    commands: File,
    answers: BufReader<File>,
    session: String,
    count: u64,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Starts one with an empty page; `None` where this machine has none, and the test is skipped.
    ///
    /// # Panics
    /// When one is there and does not start; as [`crate::skip`].
    pub fn start() -> Option<Browser> {
        let there = |name: &&str| {
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status()
        };
        let Some(name) = NAMES.into_iter().find(|name| there(name).is_ok_and(|status| status.success()))
        else {
            crate::skip("there is no Chromium on this machine");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pipe = |name: &str| {
            let path = folder.path().join(name);
            assert!(
                Command::new("mkfifo").arg(&path).status().is_ok_and(|status| status.success()),
                "a pipe"
            );
            path
        };
        let (commands, answers) = (pipe("commands"), pipe("answers"));
        // The protocol is spoken over the files numbered 3 and 4.
        let script = "exec \"$0\" --headless=new --remote-debugging-pipe --user-data-dir=\"$1/profile\" \
                      --no-sandbox --disable-gpu --no-first-run --disable-extensions \
                      --disable-background-networking --disable-component-update about:blank \
                      3<\"$1/commands\" 4>\"$1/answers\"";
        let process = Command::new("sh")
            .args(["-c", script, name])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let commands = OpenOptions::new().write(true).open(commands).expect("its commands");
        let answers = BufReader::new(File::open(answers).expect("its answers"));
        let mut browser =
            Browser { process, commands, answers, session: String::new(), count: 0, _folder: folder };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        attached["sessionId"].as_str().expect("attached").clone_into(&mut browser.session);
        browser.call("Page.enable", json!({}));
        Some(browser)
    }

    /// A command of the protocol, and its answer.
    ///
    /// # Panics
    /// When the browser is gone, or refuses.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.count += 1;
        let mut command = json!({ "id": self.count, "method": method, "params": parameters });
        if !self.session.is_empty() {
            command["sessionId"] = json!(self.session);
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).expect("the browser lives");
        loop {
            let mut bytes = Vec::new();
            self.answers.read_until(0, &mut bytes).expect("the browser lives");
            bytes.pop();
            let mut answer: Value = serde_json::from_slice(&bytes).expect("JSON");
            if answer["id"] == self.count {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
        }
    }

    /// Goes to an address.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// What an expression of JavaScript is worth on the page.
    ///
    /// # Panics
    /// When it throws.
    pub fn value(&mut self, expression: &str) -> Value {
        let mut answer = self.evaluate(expression);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        self.call("Runtime.evaluate", parameters)
    }

    /// Waits until an expression is true; while a page is coming it may throw.
    ///
    /// # Panics
    /// When that takes longer than 30 seconds.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let started = Instant::now();
        while self.evaluate(expression)["result"]["value"] != json!(true) {
            if started.elapsed() > Duration::from_secs(30) {
                panic!("never: {expression}\n{}", self.value("document.body.innerText"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How large the window is, and whether the system is dark.
    pub fn look(&mut self, width: u32, height: u32, dark: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// The whole page as a PNG.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn screenshot(&mut self, path: &Path) {
        let size = self.call("Page.getLayoutMetrics", json!({}))["cssContentSize"].take();
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let parameters = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let answer = self.call("Page.captureScreenshot", parameters);
        let bytes = base64(answer["data"].as_str().expect("text"));
        std::fs::write(path, bytes).expect("writable");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its children end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> = text.bytes().filter(|&byte| byte != b'=').map(digit).collect();
    digits
        .chunks(4)
        .flat_map(|group| {
            let bits = group.iter().enumerate().fold(0, |bits, (i, digit)| bits | digit << (18 - 6 * i));
            bits.to_be_bytes()[1..group.len()].to_vec()
        })
        .collect()
}
