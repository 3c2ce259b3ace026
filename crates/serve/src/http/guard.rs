//! Authorizes requests. Other pages in the same browser are refused, whether they use a name that resolves to
//! this machine (DNS rebinding) or send cross-site requests (CSRF); so are other users of the machine, who do
//! not know the token.
//!
//! Every request passes here before its path is examined.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::target;
use crate::{Error, Result};

const TOKEN_BYTES: usize = 32;

/// The guard of a server.
pub struct Guard {
    token: String,
    cookie: String,
    /// Whether it is reachable from this machine only.
    loopback: bool,
}

/// How a request is authorized.
#[derive(Debug, PartialEq, Eq)]
pub enum Passed {
    /// By the cookie.
    Known,
    /// By the token in the address, as shown in the terminal: it then gets the cookie.
    New,
}

/// A refused request: status and reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub StatusCode, pub &'static str);

impl Guard {
    /// A guard with a new token, for a server at this address.
    pub fn new(address: IpAddr, port: u16) -> Result<Guard> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| Error::Random { message: error.to_string() })?;
        let token = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // Cookies are shared between ports: two servers on one machine must not overwrite each other's.
        Ok(Guard { token, cookie: format!("text2llm_{port}"), loopback: address.is_loopback() })
    }

    /// The path and query of the address to open.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The cookie that authorizes later requests without the token in the address.
    pub fn set_cookie(&self) -> HeaderValue {
        let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie, self.token);
        HeaderValue::from_str(&cookie).expect("invariant: hexadecimal digits and a number")
    }

    /// Checks a request.
    ///
    /// # Errors
    /// The response to send instead.
    pub fn check<B>(&self, request: &Request<B>) -> std::result::Result<Passed, Refused> {
        let headers = request.headers();
        let host = only(headers, &header::HOST)
            .ok_or(Refused(StatusCode::BAD_REQUEST, "a request must have exactly one Host header"))?;
        if !self.is_ours(host) {
            return Err(Refused(
                StatusCode::MISDIRECTED_REQUEST,
                "this server does not serve that host name",
            ));
        }
        // The request target may contain a host too, which other programs prefer over the header.
        if request.uri().authority().is_some_and(|authority| authority.as_str() != host) {
            return Err(Refused(StatusCode::BAD_REQUEST, "the request target and the Host header differ"));
        }
        let foreign = Refused(StatusCode::FORBIDDEN, "requests from other sites are refused");
        if headers.contains_key(header::ORIGIN)
            && only(headers, &header::ORIGIN).and_then(|origin| origin.strip_prefix("http://")) != Some(host)
        {
            return Err(foreign);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, "this server is read-only"));
        }
        if request.uri().path() == "/"
            && target::query(request.uri()).iter().any(|(name, value)| name == "token" && self.fits(value))
        {
            return Ok(Passed::New);
        }
        // Browsers send this with every request, also those without an Origin, such as for images.
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        if !matches!(site, None | Some(b"same-origin" | b"none")) {
            return Err(foreign);
        }
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let known = cookies
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| name == self.cookie && self.fits(value));
        if known {
            return Ok(Passed::Known);
        }
        Err(Refused(
            StatusCode::UNAUTHORIZED,
            "Open the address that `text2llm dashboard` printed in its terminal: it contains the token of \
             this session.",
        ))
    }

    /// Compares in constant time.
    fn fits(&self, token: &str) -> bool {
        let (ours, theirs) = (self.token.as_bytes(), token.as_bytes());
        let different = ours.iter().zip(theirs).fold(0, |different, (a, b)| different | (a ^ b));
        ours.len() == theirs.len() && std::hint::black_box(different) == 0
    }

    /// Whether a name belongs to this machine for certain. Any port is accepted, since `ssh -L` may map it.
    fn is_ours(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            Some(_) if !host.ends_with(']') => return false,
            _ => host,
        };
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        bare.parse::<IpAddr>().is_ok_and(|address| !self.loopback || address.is_loopback())
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(address: &str) -> Guard {
        Guard::new(address.parse().unwrap(), 8427).unwrap()
    }

    fn status(guard: &Guard, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match guard.check(&request.body(()).unwrap()) {
            Ok(Passed::Known) => 200,
            Ok(Passed::New) => 201,
            Err(Refused(status, _)) => status.as_u16(),
        }
    }

    #[test]
    fn tokens_are_fresh_and_long() {
        let (a, b) = (guard("127.0.0.1"), guard("127.0.0.1"));
        assert_ne!(a.token(), b.token());
        assert_eq!(a.token().len(), 2 * TOKEN_BYTES);
        assert!(a.fits(a.token()) && !a.fits(b.token()) && !a.fits("") && !a.fits(&a.token()[1..]));
    }

    #[test]
    fn names_that_others_can_own_are_refused() {
        let here = guard("127.0.0.1");
        let everywhere = guard("0.0.0.0");
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8427", "127.9.9.9", "[::1]:9000", "[::1]"] {
            assert!(here.is_ours(host) && everywhere.is_ours(host), "{host}");
        }
        for host in [
            "evil.example:8427",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "",
            ":80",
            "localhost:",
            "127.0.0.1:x",
            "localhost:1:2",
            "127.0.0.1:80@evil.example",
        ] {
            assert!(!here.is_ours(host) && !everywhere.is_ours(host), "{host}");
        }
        assert!(everywhere.is_ours("192.168.1.7:8427") && !here.is_ours("192.168.1.7:8427"));
    }

    #[test]
    fn what_a_browser_says_of_a_request_decides() {
        let guard = guard("127.0.0.1");
        let (host, cookie) = (("host", "localhost:8427"), format!("a=b; text2llm_8427={}", guard.token()));
        let cookie = ("cookie", cookie.as_str());
        let address = format!("/?token={}", guard.token());
        assert_eq!(status(&guard, "/x", &[host, cookie]), 200);
        assert_eq!(status(&guard, "/x", &[host, cookie, ("origin", "http://localhost:8427")]), 200);
        assert_eq!(status(&guard, &address, &[host]), 201);
        assert_eq!(
            status(&guard, &address, &[host, ("sec-fetch-site", "cross-site")]),
            201,
            "a link that was clicked"
        );
        assert_eq!(status(&guard, &address.replace("/?", "/x?"), &[host]), 401, "on one path only");
        assert_eq!(status(&guard, "/?token=", &[host]), 401);
        assert_eq!(status(&guard, "/x", &[host]), 401);
        assert_eq!(status(&guard, "/x", &[host, ("cookie", "text2llm_8427=x")]), 401);
        assert_eq!(status(&guard, "/x", &[host, ("cookie", &format!("text2llm_1={}", guard.token()))]), 401);
        assert_eq!(status(&guard, "/x", &[cookie]), 400);
        assert_eq!(status(&guard, "/x", &[host, host, cookie]), 400);
        assert_eq!(status(&guard, "/x", &[("host", "evil.example"), cookie]), 421);
        assert_eq!(status(&guard, "http://evil.example/x", &[host, cookie]), 400);
        for origin in [
            "http://evil.example",
            "null",
            "https://localhost:8427",
            "http://localhost:3000",
            "http://127.0.0.1:8427",
        ] {
            assert_eq!(status(&guard, "/x", &[host, cookie, ("origin", origin)]), 403, "{origin}");
            assert_eq!(status(&guard, &address, &[host, ("origin", origin)]), 403, "{origin}");
        }
        for site in ["cross-site", "same-site", "", "Same-Origin"] {
            assert_eq!(status(&guard, "/x", &[host, cookie, ("sec-fetch-site", site)]), 403, "{site}");
        }
    }
}
