//! Connections: taken, limited in number and patience, handed to hyper.
//!
//! Whoever has shown the token keeps a place of its own. All others share a small number of places, for a
//! short time: where those are taken, the connection that has waited longest is answered 429 and closed, so
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

/// Until a connection has shown the token.
const STRANGER_PATIENCE: Duration = Duration::from_secs(5);
/// Until a request's head is there; also how long an idle connection is kept.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
/// Until a client that takes nothing is given up.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// After the system had no connection to give, say for want of file numbers.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Of a request's head, and of an answer waiting to go out.
const BUFFER_BYTES: usize = 32 << 10;
/// What a connection hears that gives its place to a newer one.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nConnection: close\r\nCache-Control: no-store\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 28\r\n\r\ntoo many connections at once";

/// Connections at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// That have shown the token.
    pub known: usize,
    /// That have not.
    pub strangers: usize,
}

/// Answers requests with `handle` until the process ends. `knows` says whether a request shows the token.
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
        // A request that has come with its connection is heard before the next connection is taken.
        tokio::task::yield_now().await;
    }
}

/// One connection, from its first byte to its end.
async fn attend<K, H, W>(connection: TcpStream, guest: Arc<Guest>, doors: Arc<Doors>, knows: K, handle: H)
where
    K: Fn(&Request<hyper::body::Incoming>) -> bool + Send + Sync + 'static,
    H: Fn(Request<hyper::body::Incoming>) -> W + Send + Sync + 'static,
    W: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(|request| {
        let is_known = knows(&request);
        let has_place = is_known && doors.recognise(&guest);
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
    // How a connection ends is its client's affair.
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

/// A connection and what it may take.
struct Guest {
    /// The same socket once more, to answer on while hyper has the other; given up once the token is shown.
    socket: Mutex<Option<std::net::TcpStream>>,
    turned_away: Notify,
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Guest {
    fn new(connection: TcpStream) -> std::io::Result<(TcpStream, Arc<Guest>)> {
        // Events are small and should not wait for each other.
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
            // Whoever does not take it is closed all the same.
            let _ = socket.write(TOO_MANY);
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.turned_away.notify_one();
    }
}

/// Who is in.
struct Doors {
    places: Arc<Semaphore>,
    most_strangers: usize,
    /// Oldest first.
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

    /// Gives a connection that has shown the token a place of its own; `false` where there is none.
    fn recognise(&self, guest: &Arc<Guest>) -> bool {
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
