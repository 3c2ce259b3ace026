//! Who gets in, and how far.

use crate::client::{Server, write_run};

#[test]
fn the_address_with_the_token_leads_in_once_and_the_cookie_from_then_on() {
    let server = Server::start();
    let (host, token) = (server.address, &server.token);
    let first =
        server.raw(&format!("GET /?token={token} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    assert_eq!(first.status, 200, "{}", first.head);
    let head = first.head.to_lowercase();
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.ends_with("; path=/; httponly; samesite=strict"), "{cookie}");
    assert!(first.body.contains("url=/") && !first.body.contains(token.as_str()));

    let page = server.get("/");
    assert!(page.status == 200 && page.body.contains("<title>text2llm</title>"));
    assert!(!page.head.to_lowercase().contains("set-cookie") && !page.body.contains(token.as_str()));
    assert_eq!(server.get("/app.js").status, 200);
    assert_eq!(server.get("/none").status, 404);
}

#[test]
fn others_stay_out() {
    let server = Server::start();
    let (host, token, cookie) = (server.address, &server.token, server.cookie());
    let wrong = "0".repeat(token.len());
    let of_another = format!("Cookie: text2llm_{}={wrong}\r\n", host.port());
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\n"), 401),
        (format!("GET /?token={wrong} HTTP/1.1\r\nHost: {host}\r\n"), 401),
        (format!("GET /api/events HTTP/1.1\r\nHost: {host}\r\n{of_another}"), 401),
        (format!("GET / HTTP/1.1\r\nHost: evil.example\r\n{cookie}"), 421),
        (format!("GET /api/events HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example\r\n{cookie}"), 403),
        (format!("GET / HTTP/1.1\r\n{cookie}"), 400),
        (format!("GET http://evil.example/ HTTP/1.1\r\nHost: {host}\r\n{cookie}"), 400),
        (format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n{cookie}"), 405),
        ("GET / HTTP/1.1\r\nHost: \u{0}\r\n".to_owned(), 400),
        ("NONSENSE\r\n".to_owned(), 400),
    ] {
        let reply = server.raw(&format!("{request}Connection: close\r\n\r\n"));
        assert_eq!(reply.status, status, "{request}");
        assert!(!reply.head.to_lowercase().contains("access-control"), "{request}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n", "a".repeat(200_000));
    // Refused while it is still being written, so the connection may end first.
    let mut stream = server.connect();
    let _ = std::io::Write::write_all(&mut stream, long.as_bytes());
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn no_path_leads_out_of_the_runs() {
    let server = Server::start();
    write_run(&server.run_folder("mine"), 3);
    write_run(&server.folder.path().join("secret"), 3);
    write_run(&server.run_folder(".mine.deleting"), 3);
    #[cfg(unix)]
    std::os::unix::fs::symlink(server.folder.path().join("secret"), server.run_folder("link")).unwrap();
    let mine = server.get("/api/runs/mine/meta");
    assert!(mine.status == 200 && mine.body.contains("\"name\":\"x\""), "{}", mine.body);
    assert!(!mine.body.contains("somewhere"), "only what is shown");
    let absolute = server.folder.path().join("secret").display().to_string().replace('/', "%2f");
    for name in [
        "..%2fsecret",
        "%2e%2e%2fsecret",
        "..",
        "%2e%2e",
        "../secret",
        "../../secret",
        "link",
        ".mine.deleting",
        "mine%00",
        "%00",
        "mine%2f",
        "mine%2f..%2fmine",
        "..%5csecret",
        "",
        "%",
        "%ff",
        absolute.as_str(),
    ] {
        let reply = server.get(&format!("/api/runs/{name}/meta"));
        assert_eq!(reply.status, 404, "{name}: {}", reply.body);
        let mut events = server.events(&format!("run={name}"));
        if !matches!(name, "%" | "%ff") {
            let told = events.until("curves", |_| true);
            assert_eq!(told["steps"], serde_json::json!([]), "{name}");
        }
    }
}
