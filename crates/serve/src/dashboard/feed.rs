//! The event stream of one client: first everything, then changes. A client's state is a few numbers.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use runs::metrics::Metric;
use runs::watch::{STEP_COLUMNS, step_point};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::hub::{Hub, RECENT, Seen, SeenRun, Subscription};
use crate::http::body::Body;

/// Maximum number of runs per client: as many as there are distinguishable colors.
const MOST_RUNS: usize = 8;
/// Interval of keep-alive comments, so that both sides detect a lost connection.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The state of a client.
struct Feed {
    hub: Arc<Hub>,
    looks: watch::Receiver<u64>,
    _subscription: Subscription,
    /// The last read of the list and the machine that it was sent.
    told: u64,
    runs: Vec<(String, MetricsCursor)>,
}

/// What it was sent of a run.
#[derive(Default)]
struct MetricsCursor {
    standing: u64,
    metrics: Option<Reached>,
}

/// Position in a run's metrics.
struct Reached {
    generation: u64,
    next: u64,
    /// Points since the last whole curve; too many are replaced by a new one.
    since: usize,
}

/// An event stream that lasts until the client disconnects.
pub fn follow(hub: &Arc<Hub>, runs: impl Iterator<Item = String>) -> Body {
    let mut chosen: Vec<String> = Vec::new();
    for run in runs {
        if chosen.len() < MOST_RUNS && !chosen.contains(&run) {
            chosen.push(run);
        }
    }
    let feed = Feed {
        looks: hub.looks(),
        _subscription: Subscription::new(hub, &chosen),
        hub: Arc::clone(hub),
        told: 0,
        runs: chosen.into_iter().map(|run| (run, MetricsCursor::default())).collect(),
    };
    Body::stream(feed, |mut feed: Feed| async move {
        let words = feed.next().await;
        Some((feed, Bytes::from(words)))
    })
}

impl Feed {
    async fn next(&mut self) -> String {
        loop {
            let words = self.news();
            if !words.is_empty() {
                return words;
            }
            // The hub lives as long as the server; pages ignore comments.
            if !matches!(tokio::time::timeout(HEARTBEAT, self.looks.changed()).await, Ok(Ok(()))) {
                return ":\n\n".to_owned();
            }
        }
    }

    /// The next events, of at most one run: the rest is made when they have been sent.
    fn news(&mut self) -> String {
        let mut words = String::new();
        // `None`: a read is in progress, and its end will be notified.
        let Some(seen) = self.hub.seen().filter(|seen| seen.look > 0) else { return words };
        if self.told < seen.look {
            self.tell_project(&seen, &mut words);
        }
        for (id, place) in &mut self.runs {
            let Some(run) = seen.runs.get(id).filter(|run| run.standing.0 > 0) else { continue };
            if run.standing.0 != place.standing {
                words.push_str(&event("standing", json!({ "run": id, "standing": run.standing.1 })));
                place.standing = run.standing.0;
            }
            tell_metrics(id, run, &mut place.metrics, &mut words);
            if !words.is_empty() {
                break;
            }
        }
        let told = seen.look;
        drop(seen);
        self.told = told;
        words
    }

    fn tell_project(&self, seen: &Seen, words: &mut String) {
        if self.told == 0 {
            let hello = json!({ "project": self.hub.shown.project, "version": env!("CARGO_PKG_VERSION") });
            words.push_str(&event("hello", hello));
        }
        let rows: Vec<&Value> =
            seen.rows.values().filter(|row| row.0 > self.told).map(|row| &row.1).collect();
        let ids = (seen.ids.0 > self.told).then_some(&seen.ids.1);
        if ids.is_some() || !rows.is_empty() {
            words.push_str(&event("list", json!({ "ids": ids, "rows": rows })));
        }
        if seen.machine.0 > self.told {
            words.push_str(&event("machine", json!({ "machine": seen.machine.1 })));
        }
    }
}

fn tell_metrics(id: &str, run: &SeenRun, reached: &mut Option<Reached>, words: &mut String) {
    let known = reached.as_mut().filter(|known| {
        known.generation == run.generation && known.next >= run.first && known.since <= RECENT
    });
    let Some(known) = known else {
        words.push_str(&event("curves", curves(id, run)));
        *reached = Some(Reached { generation: run.generation, next: run.next(), since: 0 });
        return;
    };
    let new: Vec<&Metric> = run.recent.iter().skip((known.next - run.first) as usize).collect();
    if new.is_empty() {
        return;
    }
    known.since += new.len();
    known.next = run.next();
    let (mut steps, mut validations, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    for metric in new {
        match metric {
            Metric::Step(record) => steps.push(point(step_point(record))),
            Metric::Validation(record) => validations.push(point([record.step as f64, record.loss])),
            Metric::Sample(record) => samples.push(record),
            _ => {}
        }
    }
    let points = json!({ "run": id, "steps": steps, "validations": validations, "samples": samples });
    words.push_str(&event("points", points));
}

/// All of a run's metrics.
fn curves(id: &str, run: &SeenRun) -> Value {
    let metrics = &run.metrics;
    json!({
        "run": id,
        "columns": STEP_COLUMNS,
        "steps": metrics.steps.points().map(point).collect::<Vec<_>>(),
        "validations": metrics.validations.points().map(point).collect::<Vec<_>>(),
        "samples": metrics.samples,
    })
}

/// Rounded to the precision of a screen, which halves the size.
fn point<const N: usize>(point: [f64; N]) -> Value {
    point.into_iter().map(|value| format!("{value:.6e}").parse::<f64>().unwrap_or(value)).collect()
}

/// An event in wire format; JSON has no line breaks.
fn event(kind: &str, mut value: Value) -> String {
    value["kind"] = json!(kind);
    format!("data: {value}\n\n")
}
