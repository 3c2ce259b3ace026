//! Connections: taken, limited in number and patience, handed to hyper.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::body::Answer;
use super::stall::Impatient;

/// Until a request's head is there; also how long an idle connection is kept.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
/// Until a client that takes nothing is given up.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// After the system had no connection to give, say for want of file numbers.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Of a request's head, and of an answer waiting to go out.
const BUFFER_BYTES: usize = 32 << 10;

/// Answers requests with `handle` until the process ends, at most `most` connections at once: one more is closed at once.
pub async fn serve<H, W>(listener: TcpListener, most: usize, handle: H) -> Infallible
where
    H: Fn(Request<Incoming>) -> W + Clone + Send + 'static,
    W: Future<Output = Answer> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(most));
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        // Events are small and should not wait for each other.
        let _ = connection.set_nodelay(true);
        let handle = handle.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = handle(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            // How a connection ends is its client's affair.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .max_buf_size(BUFFER_BYTES)
                .serve_connection(TokioIo::new(Impatient::new(connection, WRITE_PATIENCE)), service)
                .await;
            drop(place);
        });
    }
}
