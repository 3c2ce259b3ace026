//! The routes. Handlers and tests use the same constant table.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{StatusCode, Uri};
use serde_json::Value;

use super::app::App;
use super::{feed, files};
use crate::http::body::{Answer, answer as whole, events, sentence};
use crate::http::guard::Guard;
use crate::http::target;

/// The target of a route.
#[derive(Clone, Copy)]
pub enum Resource {
    /// A part of the page: its content type and text.
    Part(&'static str, &'static str),
    /// The event stream (Server-Sent Events).
    Events,
    /// The recipe of a run.
    Meta,
}

/// A path, with `{run}` for a run's id.
pub struct Route {
    pub pattern: &'static str,
    pub place: Resource,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! part {
    ($pattern:literal, $kind:expr, $file:literal) => {
        Route { pattern: $pattern, place: Resource::Part($kind, include_str!(concat!("page/", $file))) }
    };
}

pub const ROUTES: &[Route] = &[
    part!("/", "text/html; charset=utf-8", "index.html"),
    part!("/style.css", "text/css; charset=utf-8", "style.css"),
    part!("/app.js", SCRIPT, "app.js"),
    part!("/chart.js", SCRIPT, "chart.js"),
    part!("/curves.js", SCRIPT, "curves.js"),
    part!("/format.js", SCRIPT, "format.js"),
    part!("/recipe.js", SCRIPT, "recipe.js"),
    part!("/samples.js", SCRIPT, "samples.js"),
    part!("/icon.svg", "image/svg+xml", "icon.svg"),
    Route { pattern: "/api/events", place: Resource::Events },
    Route { pattern: "/api/runs/{run}/meta", place: Resource::Meta },
];

/// Answers an authorized request.
pub(crate) async fn answer(app: &App, uri: &Uri) -> Answer {
    let found = ROUTES.iter().find_map(|route| Some((route.place, matched(route.pattern, uri.path())?)));
    match found {
        Some((Resource::Part(kind, text), _)) => whole(StatusCode::OK, kind, text),
        Some((Resource::Events, _)) => {
            let runs = target::query(uri).into_iter().filter(|(name, _)| name == "run").map(|(_, id)| id);
            events(feed::follow(&app.hub, runs))
        }
        Some((Resource::Meta, run)) => meta(app, run).await,
        None => sentence(StatusCode::NOT_FOUND, "not found"),
    }
}

/// The value of `{run}` in `path` (empty if the pattern has none), if `path` matches.
fn matched(pattern: &str, path: &str) -> Option<String> {
    let mut run = String::new();
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(run),
            (Some("{run}"), Some(segment)) => run = target::decoded(segment)?,
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

async fn meta(app: &App, name: String) -> Answer {
    let folder = app.runs.clone();
    let read = tokio::task::spawn_blocking(move || files::meta(&files::find(&folder, &name)?));
    match read.await {
        Ok(Some(meta)) => json_answer(&shown(&meta)),
        _ => sentence(StatusCode::NOT_FOUND, "no such run, or its meta.json cannot be read"),
    }
}

/// The part of `meta.json` that the page shows.
fn shown(meta: &Value) -> Value {
    let keys = [
        "program_version",
        "created_at",
        "recipe_source",
        "recipe",
        "model",
        "parameters",
        "inputs",
        "environment",
    ];
    let part = |key: &str| (key.to_owned(), meta.get(key).cloned().unwrap_or_default());
    Value::Object(keys.into_iter().map(part).collect())
}

fn json_answer(value: &Value) -> Answer {
    whole(StatusCode::OK, "application/json", value.to_string())
}

/// Sets the cookie and continues to the address without the token, with a page instead of a redirect: after a
/// click in a web-based terminal, a browser would follow a redirect without the cookie.
pub fn welcome(guard: &Guard) -> Answer {
    let page = "<!doctype html><meta charset=utf-8><meta http-equiv=refresh \
                content=\"0;url=/\"><title>text2llm</title>";
    let mut answer = whole(StatusCode::OK, "text/html; charset=utf-8", page);
    answer.headers_mut().insert(header::SET_COOKIE, guard.set_cookie());
    answer
}

/// Security headers of every response: no external content, no embedding, no caching, no referrer.
pub fn harden(headers: &mut HeaderMap) {
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_paths() {
        let pattern = "/api/runs/{run}/meta";
        assert_eq!(matched(pattern, "/api/runs/a%20b/meta").as_deref(), Some("a b"));
        assert_eq!(matched(pattern, "/api/runs/..%2f..%2fx/meta").as_deref(), Some("../../x"));
        for path in ["/api/runs/a", "/api/runs/a/meta/", "/api/runs/a/b/meta", "/api/runs/%/meta", "", "/"] {
            assert_eq!(matched(pattern, path), None, "{path}");
        }
        assert_eq!(matched("/", "/").as_deref(), Some(""));
    }

    #[test]
    fn the_page_takes_nothing_from_elsewhere() {
        for route in ROUTES {
            if let Resource::Part(_, text) = route.place {
                for (at, _) in text.match_indices("http") {
                    assert!(
                        text[at..].starts_with("http://www.w3.org/"),
                        "{}: {}",
                        route.pattern,
                        &text[at..at + 30]
                    );
                }
                for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                    assert!(
                        !text.contains(word),
                        "{}: {word} would make markup of text from runs",
                        route.pattern
                    );
                }
            }
        }
    }
}
