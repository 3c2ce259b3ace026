//! Accepts connections, limits their number and time, and hands them to hyper.
//!
//! Connections that have sent the token have slots of their own. All others share a small number of slots for
//! a short time: if those are in use, the connection that has waited longest is answered 429 and closed, so
//! that the owner, whose browser sends its request at once, always gets in.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::net::Shutdown;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::body::{Answer, sentence};
use super::stall::Impatient;

/// Time until a connection must have sent the token.
const STRANGER_PATIENCE: Duration = Duration::from_secs(5);
/// Time until the head of a request must have arrived; also the idle time of a connection.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
/// Time until a client that does not read is disconnected.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// Pause after a failed accept, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Size limit of a request's head, and of buffered output.
const BUFFER_BYTES: usize = 32 << 10;
/// The response to an evicted connection.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nConnection: close\r\nCache-Control: no-store\r\n\
      Content-Type: text/plain; charset=utf-8\r\nContent-Length: 28\r\n\r\ntoo many connections at once";

/// Limits on the number of connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// With the token.
    pub known: usize,
    /// Without the token.
    pub strangers: usize,
}

/// Answers requests with `handle` until the process ends. `knows` returns whether a request has the token.
pub async fn serve<K, H, W>(listener: TcpListener, limits: Limits, knows: K, handle: H) -> Infallible
where
    K: Fn(&Request<hyper::body::Incoming>) -> bool + Clone + Send + Sync + 'static,
    H: Fn(Request<hyper::body::Incoming>) -> W + Clone + Send + Sync + 'static,
    W: Future<Output = Answer> + Send + 'static,
{
    let doors = Arc::new(Doors {
        places: Arc::new(Semaphore::new(limits.known)),
        most_strangers: limits.strangers,
        strangers: Mutex::default(),
    });
    loop {
        let taken = match listener.accept().await {
            Ok((connection, _)) => Guest::new(connection),
            Err(error) => Err(error),
        };
        let Ok((connection, guest)) = taken else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        doors.let_in(&guest);
        tokio::spawn(attend(connection, guest, Arc::clone(&doors), knows.clone(), handle.clone()));
        // A request that arrived with its connection is handled before the next connection is accepted.
        tokio::task::yield_now().await;
    }
}

/// Serves one connection.
async fn attend<K, H, W>(connection: TcpStream, guest: Arc<Guest>, doors: Arc<Doors>, knows: K, handle: H)
where
    K: Fn(&Request<hyper::body::Incoming>) -> bool + Send + Sync + 'static,
    H: Fn(Request<hyper::body::Incoming>) -> W + Send + Sync + 'static,
    W: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(|request| {
        let is_known = knows(&request);
        let has_place = is_known && doors.recognize(&guest);
        let answer = (has_place || !is_known).then(|| handle(request));
        async move {
            let mut answer = match answer {
                Some(answer) => answer.await,
                None => too_many(),
            };
            if !has_place {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(Impatient::new(connection, WRITE_PATIENCE)), service)
    );
    let mut turned_away = pin!(guest.turned_away.notified());
    let mut too_late = pin!(tokio::time::sleep(STRANGER_PATIENCE));
    // Errors of a connection only concern its client.
    poll_fn(|context| {
        if served.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let is_over = !guest.is_known()
            && (turned_away.as_mut().poll(context).is_ready() || too_late.as_mut().poll(context).is_ready());
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    doors.forget(&guest);
}

fn too_many() -> Answer {
    let mut answer = sentence(StatusCode::TOO_MANY_REQUESTS, "too many connections at once");
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// A connection and its slot.
struct Guest {
    /// A second handle of the socket, to answer on while hyper has the first; dropped once the token was
    /// sent.
    socket: Mutex<Option<std::net::TcpStream>>,
    turned_away: Notify,
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Guest {
    fn new(connection: TcpStream) -> std::io::Result<(TcpStream, Arc<Guest>)> {
        // Events are small and should not be delayed.
        let _ = connection.set_nodelay(true);
        let socket = connection.into_std()?;
        let spare = socket.try_clone()?;
        let guest =
            Guest { socket: Mutex::new(Some(spare)), turned_away: Notify::new(), place: Mutex::new(None) };
        Ok((TcpStream::from_std(socket)?, Arc::new(guest)))
    }

    fn is_known(&self) -> bool {
        held(&self.place).is_some()
    }

    fn turn_away(&self) {
        if let Some(mut socket) = held(&self.socket).take() {
            // It is closed even if the client does not read the response.
            let _ = socket.write(TOO_MANY);
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.turned_away.notify_one();
    }
}

/// The current connections.
struct Doors {
    places: Arc<Semaphore>,
    most_strangers: usize,
    /// Connections without the token, oldest first.
    strangers: Mutex<VecDeque<Arc<Guest>>>,
}

impl Doors {
    fn let_in(&self, guest: &Arc<Guest>) {
        let mut strangers = held(&self.strangers);
        strangers.push_back(Arc::clone(guest));
        while strangers.len() > self.most_strangers.max(1) {
            if let Some(oldest) = strangers.pop_front() {
                oldest.turn_away();
            }
        }
    }

    /// Gives a connection with the token a slot of its own; `false` if none is free.
    fn recognize(&self, guest: &Arc<Guest>) -> bool {
        let mut place = held(&guest.place);
        if place.is_none() {
            *place = Arc::clone(&self.places).try_acquire_owned().ok();
            if place.is_none() {
                return false;
            }
            self.forget(guest);
        }
        true
    }

    fn forget(&self, guest: &Arc<Guest>) {
        held(&self.strangers).retain(|other| !Arc::ptr_eq(other, guest));
        drop(held(&guest.socket).take());
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
