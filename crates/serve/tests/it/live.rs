//! What a page that stays open is told, whatever happens to the files.

use std::fs::OpenOptions;
use std::io::Write;

use serde_json::{Value, json};

use crate::client::{Server, step_line, write_run};

fn steps(event: &Value) -> Vec<u64> {
    event["steps"].as_array().unwrap().iter().map(|point| point[0].as_f64().unwrap() as u64).collect()
}

#[test]
fn a_run_appears_grows_is_cut_back_and_is_deleted() {
    let server = Server::start();
    let mut list = server.events("");
    assert_eq!(list.until("hello", |_| true)["project"], "a <b>project");
    assert_eq!(list.until("list", |_| true)["ids"], json!([]));

    let run = server.run_folder("20260101-000000-a");
    write_run(&run, 3);
    let told = list.until("list", |event| event["ids"] == json!(["20260101-000000-a"]));
    assert_eq!(told["rows"][0]["state"]["step"], 3);

    let mut events = server.events("run=20260101-000000-a&run=none");
    let curves = events.until("curves", |event| event["run"] != "none");
    assert_eq!(steps(&curves), [1, 2, 3]);
    assert_eq!(curves["columns"][1], "loss");
    assert_eq!(curves["steps"][2][1], 0.333_333_3, "short, and as precise as a screen");

    let mut file = OpenOptions::new().append(true).open(run.join("metrics.jsonl")).unwrap();
    let (line, next) = (step_line(4), step_line(5));
    file.write_all(line.as_bytes()).unwrap();
    file.write_all(&next.as_bytes()[..20]).unwrap();
    assert_eq!(steps(&events.until("points", |_| true)), [4], "a torn line waits");
    let sample = json!({ "event": "sample", "step": 5, "prompt": "</script>", "text": "<img src=x>\n" });
    let validation = json!({ "event": "validation", "step": 5, "epoch": 0.1, "loss": 2.5, "perplexity": 12.2, "best": true, "seconds": 0.1 });
    file.write_all(&next.as_bytes()[20..]).unwrap();
    write!(file, "{{broken\n\u{0}\n{validation}\n{sample}\n").unwrap();
    let points = events.until("points", |_| true);
    assert_eq!((steps(&points), &points["validations"]), (vec![5], &json!([[5.0, 2.5]])));
    assert_eq!(points["samples"][0]["text"], "<img src=x>\n", "text stays text");

    std::fs::write(run.join("metrics.jsonl"), step_line(1)).unwrap();
    assert_eq!(steps(&events.until("curves", |event| event["run"] != "none")), [1], "cut back by a resume");
    std::fs::write(run.join("state.json"), "{\"status\": \"runn").unwrap();
    events.until("standing", |event| event["standing"].is_null());
    list.until("list", |event| event["rows"][0]["state"].is_null());

    std::fs::remove_dir_all(&run).unwrap();
    assert!(steps(&events.until("curves", |event| event["run"] != "none")).is_empty());
    list.until("list", |event| event["ids"] == json!([]));
    write_run(&run, 2);
    assert_eq!(steps(&events.until("points", |_| true)), [1, 2], "it is back");
}

#[test]
fn a_long_run_is_told_in_few_points_and_one_client_sees_some_runs() {
    let server = Server::start();
    write_run(&server.run_folder("long"), 30_000);
    let asked: Vec<String> = (0..40).map(|i| format!("run=r{i}")).collect();
    let mut events = server.events(&format!("run=long&{}", asked.join("&")));
    let curves = events
        .until("curves", |event| event["run"] == "long" && event["steps"].as_array().unwrap().len() > 1000);
    let last = to_its_end(&mut events, curves);
    assert!(last["steps"].as_array().unwrap().len() <= 4096 + 1);
    let mut others = server.events(&asked.join("&"));
    let mut named = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let event = others.next();
        if let Some(run) = event["run"].as_str() {
            named.insert(run.to_owned());
        }
        if named.len() == 8 && event["run"] == "r7" && event["kind"] == "curves" {
            break;
        }
    }
    assert_eq!(named.len(), 8);
}

/// A long file is told in portions; the curve that reaches its end, of which the last point is a mean of some
/// steps.
fn to_its_end(events: &mut crate::client::Events, first: Value) -> Value {
    let reaches = |event: &Value| steps(event).last().is_some_and(|&step| step > 29_980);
    if reaches(&first) { first } else { events.until("curves", reaches) }
}
