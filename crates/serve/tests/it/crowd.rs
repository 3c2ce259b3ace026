//! Many clients, slow ones, ones that leave, ones that say nothing.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::client::{Server, step_line, write_run};

#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[cfg(target_os = "linux")]
#[test]
fn clients_that_read_nothing_and_clients_that_leave_cost_no_memory_and_no_threads() {
    let server = Server::alone();
    let run = server.run_folder("busy");
    write_run(&run, 1000);
    let mut file = OpenOptions::new().append(true).open(run.join("metrics.jsonl")).unwrap();
    let mut reading = server.events("run=busy");
    reading.until("curves", |_| true);
    let threads_before = threads();

    // Each is owed some 80 kB at once, and more with every tick; none takes a byte.
    let ask =
        format!("GET /api/events?run=busy HTTP/1.1\r\nHost: {}\r\n{}\r\n", server.address, server.cookie());
    let mut step = 1000;
    let mut crowd = |rounds: usize, reading: &mut crate::client::Events| {
        for _ in 0..rounds {
            let deaf: Vec<_> = (0..50)
                .map(|_| {
                    let mut stream = server.connect();
                    stream.write_all(ask.as_bytes()).unwrap();
                    stream
                })
                .collect();
            for _ in 0..3 {
                step += 1;
                file.write_all(step_line(step).as_bytes()).unwrap();
                reading.until("points", |event| {
                    event["steps"].as_array().is_some_and(|steps| !steps.is_empty())
                });
            }
            drop(deaf);
        }
    };
    crowd(1, &mut reading);
    let settled = store::system::rss_bytes().unwrap();
    // 300 more are owed 24 MB.
    crowd(6, &mut reading);
    let after = store::system::rss_bytes().unwrap();
    eprintln!(
        "resident after 50 deaf clients {} MB, after 350 {} MB",
        settled / 1_000_000,
        after / 1_000_000
    );
    assert!(after < settled + 12_000_000, "{settled} to {after}");
    assert!(threads() <= threads_before + 2, "{threads_before} to {}", threads());
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn connections_without_the_token_do_not_keep_its_owner_out() {
    let server = Server::alone();
    // Some say nothing, some begin a request and never end it, some ask and are refused.
    let mut strangers: Vec<_> = (0..300)
        .map(|index| {
            let mut stream = server.connect();
            match index % 3 {
                0 => {}
                1 => stream.write_all(b"GET / HTTP/1.1\r\nHo").unwrap(),
                _ => write!(stream, "GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).unwrap(),
            }
            stream
        })
        .collect();
    for path in ["/", "/app.js", "/style.css"] {
        let started = Instant::now();
        let reply = server.get(path);
        let took = started.elapsed();
        assert_eq!(reply.status, 200, "{path}: {}", reply.head);
        assert!(took < Duration::from_secs(1), "{path} took {took:?}");
    }
    // The first ones have given their places to later ones.
    let mut text = String::new();
    strangers[0].read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 429 ") && text.contains("\r\nRetry-After: 1\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\ntoo many connections at once"), "{text}");
    // The last ones have theirs for a few seconds.
    let started = Instant::now();
    let mut end = Vec::new();
    for stream in &mut strangers {
        let _ = stream.read_to_end(&mut end);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn one_tab_too_many_is_told_so_and_places_come_back() {
    let server = Server::alone();
    let held: Vec<_> = (0..256).map(|_| server.events("")).collect();
    let reply = server.get("/");
    assert_eq!(reply.status, 429, "{}", reply.head);
    assert!(reply.head.to_lowercase().contains("retry-after: 1"), "{}", reply.head);
    drop(held);
    let started = Instant::now();
    loop {
        let mut stream = server.connect();
        let ask = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\n{}Connection: close\r\n\r\n",
            server.address,
            server.cookie()
        );
        let mut text = String::new();
        let answered =
            stream.write_all(ask.as_bytes()).and_then(|()| stream.read_to_string(&mut text)).is_ok();
        if answered && text.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "places do not come back");
        std::thread::sleep(Duration::from_millis(20));
    }
}
