//! The dashboard in a real browser, over runs that were really trained.

use std::io::{BufRead, BufReader};
use std::process::Child;

use serde_json::{Value, json};
use testkit::Sandbox;
use testkit::browser::Browser;

use crate::{sandbox, write_tiny};

/// A process of a test; ends with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the dashboard; its address with the token.
fn dashboard(sandbox: &Sandbox) -> (Running, String) {
    let mut child = sandbox.command(["dashboard", "--port", "0", "--json"]).spawn().expect("starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let started: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(started["event"], "dashboard", "{line}");
    (Running(child), started["url"].as_str().expect("an address").to_owned())
}

/// Where `T2L_SCREENSHOTS` asks for them.
fn screenshots(browser: &mut Browser, name: &str) {
    let Some(folder) = std::env::var_os("T2L_SCREENSHOTS") else { return };
    for (size, width) in [("wide", 1360), ("narrow", 420)] {
        for (scheme, dark) in [("light", false), ("dark", true)] {
            browser.look(width, 900, dark);
            std::thread::sleep(std::time::Duration::from_millis(400));
            browser.screenshot(&std::path::Path::new(&folder).join(format!("{name}-{size}-{scheme}.png")));
        }
    }
    browser.look(1360, 900, false);
}

/// Pixels of the first chart that have a run's color, or nearly.
const DRAWN: &str = "(() => { const c = document.querySelector('.plot canvas'); \
                     const rgb = [0x3b, 0x5b, 0xdb]; \
                     const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0; \
                     for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200 && rgb.every((v, k) => \
                     Math.abs(v - d[i + k]) < 12)) n++; return n; })()";

#[test]
fn the_page_draws_runs_and_what_they_do_next() {
    let Some(mut browser) = Browser::start() else { return };
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let (_server, url) = dashboard(&sandbox);
    browser.look(1360, 900, false);
    browser.open(&url);
    browser.until(
        "document.querySelector('#empty').hidden === false && location.pathname + location.search === '/'",
    );
    browser.until("document.querySelector('#connection').textContent === 'live'");
    browser.value("window.same = true");
    screenshots(&mut browser, "none");

    // A run that begins later appears by itself, and is drawn.
    sandbox.run("train").expect(0);
    browser.until("document.querySelector('.card .pill')?.textContent === 'completed'");
    browser.until(&format!("{DRAWN} > 100"));
    let told = browser.value(
        "[...document.querySelectorAll('.plot canvas[role=img]')].map(c => c.getAttribute('aria-label'))",
    );
    let told: Vec<&str> = told.as_array().expect("charts").iter().filter_map(Value::as_str).collect();
    assert_eq!(told.len(), 6);
    assert!(told.iter().all(|label| label.contains(": tiny ")), "every chart has its curve: {told:?}");
    browser.until(
        "document.querySelectorAll('.sample').length > 0 && \
         document.body.innerText.includes('train.sequence_length')",
    );
    screenshots(&mut browser, "one");

    // A live one, beside it.
    let endless = [
        "train",
        "--set",
        "train.steps=5000000",
        "--set",
        "train.sample_every=200",
        "--set",
        "train.learning_rate=0.002",
    ];
    let mut live = sandbox.command(endless);
    live.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let live = Running(live.spawn().expect("starts"));
    browser.until("document.querySelector('.card .pill')?.textContent === 'running'");
    browser.value("document.querySelectorAll('#runs input')[1].click()");
    browser.until("document.querySelectorAll('.card').length === 2");
    browser.until("document.body.innerText.includes('train.learning_rate')");
    let label = "document.querySelector('.plot canvas').getAttribute('aria-label')";
    for _ in 0..3 {
        let before = browser.value(label);
        browser.until(&format!("{label} !== {before}"));
    }
    screenshots(&mut browser, "several");

    // It dies, and the page says so.
    drop(live);
    browser.until(
        "[...document.querySelectorAll('.card .pill')].some(pill => pill.textContent === 'interrupted')",
    );
    screenshots(&mut browser, "dead");

    // A drag zooms all charts; Escape takes it back.
    let range = "document.querySelector('#whole').disabled";
    browser.value("document.querySelector('.plot').scrollIntoView({ block: 'center' })");
    let place = browser.value("(() => \
                               { const b = document.querySelector('.plot').getBoundingClientRect(); return [b.left, b.top, b.width]; })()");
    let at = |i: usize| place[i].as_f64().expect("a number");
    for (kind, x) in [("mousePressed", 0.4), ("mouseMoved", 0.5), ("mouseMoved", 0.6), ("mouseReleased", 0.6)]
    {
        let (x, y) = (at(0) + x * at(2), at(1) + 60.0);
        let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1 });
        browser.call("Input.dispatchMouseEvent", event);
    }
    browser.until(&format!("{range} === false"));
    browser.until(
        "!document.querySelector('.tip').hidden && \
         document.querySelector('.tip').textContent.includes('step')",
    );
    screenshots(&mut browser, "zoomed");
    browser.value("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))");
    browser.until(&format!("{range} === true"));
    assert_eq!(browser.value("window.same"), true, "nothing was loaded again");
}

#[test]
fn text_of_runs_is_text() {
    let Some(mut browser) = Browser::start() else { return };
    let sandbox = sandbox();
    let evil = "</script><img src=x onerror=\"window.evil=1\"><svg onload=window.evil=1>";
    let run = "runs/20260101-000000-x\"><img src=x onerror=window.evil=1>";
    // A slash would be another folder.
    let message = json!({
        "status": "failed", "message": evil, "device": evil, "total_steps": 2, "step": 1, "epoch": 0.5, "tokens_per_s": 1.0, "eta_s": 0.0,
    });
    std::fs::create_dir_all(sandbox.path().join(run)).expect("a folder");
    let path = sandbox.path().join(run).join("state.json");
    store::sealed::write(&store::fs::RealFs, &path, &message).expect("written");
    let sample = json!({ "event": "sample", "step": 1, "prompt": evil, "text": evil });
    sandbox.write(&format!("{run}/metrics.jsonl"), format!("{sample}\n"));
    let meta = json!({ "recipe": { "name": evil, evil: evil }, "environment": { "cpu": evil } });
    sandbox.write(&format!("{run}/meta.json"), meta.to_string());
    let (_server, url) = dashboard(&sandbox);
    browser.open(&url);
    browser.until("document.querySelector('.sample')?.textContent.includes('onerror')");
    browser.until("document.querySelector('#recipe td')?.textContent.includes('onerror')");
    assert_eq!(browser.value("document.querySelectorAll('main img, main svg, aside img').length"), 0);
    assert_eq!(browser.value("typeof window.evil"), "undefined");
    let inline = "(() => \
                  { const s = document.createElement('script'); s.textContent = 'window.evil = 2'; document.head.append(s); return typeof window.evil; })()";
    assert_eq!(browser.value(inline), "undefined", "the policy stops what would get through");
    let out = "fetch('https://example.com').then(() => 'out', () => 'refused')";
    assert_eq!(browser.value(out), "refused");
}
