//! `text2llm dashboard`: monitors the project's runs in a browser. It only reads, and only the runs' files,
//! so that a finished run is shown like a running one.
//!
//! Reading order: `routes`, `hub` (reads once for all clients), `feed` (events for one client), `files`
//! (access to files), `page/` (code in the browser).

mod app;
mod feed;
mod files;
mod hub;
mod routes;
mod shown;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use hyper::Request;

use crate::http::body;
use crate::http::guard::{Guard, Passed, Refused};
use crate::http::listen::{self, Limits};
use crate::{Error, Result};
use app::App;
use hub::Hub;
pub use shown::{Shown, Standing};

/// Maximum number of event streams. Browsers use one per visible tab, and half a dozen connections while a
/// page loads.
const LIMITS: Limits = Limits { known: 256, strangers: 64 };

/// A dashboard that is bound to its address; it answers once [`Dashboard::serve`] is called.
pub struct Dashboard {
    listener: TcpListener,
    address: SocketAddr,
    app: App,
}

impl Dashboard {
    /// Binds the address; port 0 picks a free one.
    ///
    /// # Errors
    /// An unavailable address, or a system without random bytes.
    pub fn bind(address: SocketAddr, shown: Shown) -> Result<Dashboard> {
        let refused = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let guard = Guard::new(address.ip(), address.port())?;
        let runs = shown.runs.clone();
        Ok(Dashboard { listener, address, app: App { guard, hub: Arc::new(Hub::new(shown)), runs } })
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to open in a browser on this machine, with this session's token.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("http://{address}/?token={}", self.app.guard.token())
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// Threads or timers are not available.
    pub fn serve(self) -> Result<std::convert::Infallible> {
        let start = |source| Error::Start { source };
        // One thread answers; two more read files, so that a slow disk delays nothing else.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()
            .map_err(start)?;
        let app = Arc::new(self.app);
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listener).map_err(start)?;
            tokio::spawn(Arc::clone(&app.hub).look_on());
            let guarded = Arc::clone(&app);
            let knows = move |request: &Request<_>| guarded.guard.check(request).is_ok();
            let handle = move |request| answer(Arc::clone(&app), request);
            Ok(listen::serve(listener, LIMITS, knows, handle).await)
        })
    }
}

/// The only entry point: no request is routed without passing the guard.
async fn answer<B>(app: Arc<App>, request: Request<B>) -> body::Answer {
    let mut answer = match app.guard.check(&request) {
        Err(Refused(status, why)) => body::sentence(status, why),
        Ok(Passed::New) => routes::welcome(&app.guard),
        Ok(Passed::Known) => routes::answer(&app, request.uri()).await,
    };
    routes::harden(answer.headers_mut());
    answer
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use hyper::body::Body;

    fn app() -> Arc<App> {
        let shown =
            Shown { project: "p".to_owned(), runs: PathBuf::from("nowhere"), standing: Box::new(|_| None) };
        let Dashboard { app, .. } = Dashboard::bind("127.0.0.1:0".parse().unwrap(), shown).unwrap();
        Arc::new(app)
    }

    async fn status(app: &Arc<App>, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = answer(Arc::clone(app), request.body(()).unwrap()).await;
        let headers = answer.headers();
        assert!(headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "no CORS: {path}");
        assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
        assert_eq!(headers["x-content-type-options"], "nosniff");
        if !answer.status().is_success() {
            let size = answer.body().size_hint().exact().unwrap();
            assert!(size < 200, "a refusal tells nothing: {path}");
        }
        answer.status().as_u16()
    }

    /// Rows 17 and 18 of the reliability matrix: the routes are enumerated, so a new one is tried without
    /// being named here.
    #[test]
    fn every_route_is_refused_without_token_by_another_name_and_from_another_page() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let app = app();
            let cookie = app.guard.set_cookie().to_str().unwrap().split(';').next().unwrap().to_owned();
            let (host, cookie) = (("host", "127.0.0.1:8427"), ("cookie", cookie.as_str()));
            let unknown = ["/none", "/api", "//", "/..", "/index.html"].map(str::to_owned);
            let examples = routes::ROUTES.iter().map(|route| route.pattern.replace("{run}", "a-run"));
            assert!(routes::ROUTES.len() > 5);
            for path in examples.chain(unknown) {
                for method in ["GET", "HEAD"] {
                    assert_eq!(status(&app, method, &path, &[host]).await, 401, "{path} without a token");
                    let rebound = [("host", "evil.example:8427"), cookie];
                    assert_eq!(status(&app, method, &path, &rebound).await, 421, "{path} rebound");
                    for origin in
                        ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8427"]
                    {
                        let foreign = [host, cookie, ("origin", origin)];
                        assert_eq!(status(&app, method, &path, &foreign).await, 403, "{path} from {origin}");
                    }
                    let embedded = [host, cookie, ("sec-fetch-site", "cross-site")];
                    assert_eq!(status(&app, method, &path, &embedded).await, 403, "{path} embedded");
                    let ours =
                        status(&app, method, &path, &[host, cookie, ("origin", "http://127.0.0.1:8427")])
                            .await;
                    assert!(matches!(ours, 200 | 404), "{path}: {ours}");
                }
                for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
                    assert_eq!(status(&app, method, &path, &[host, cookie]).await, 405, "{method} {path}");
                }
            }
        });
    }
}
