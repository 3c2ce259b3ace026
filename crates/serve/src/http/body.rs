//! Response bodies: bytes, or streams whose pieces are made as fast as the client reads.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

/// The result of a handler.
pub type Answer = Response<Body>;

/// A body. The next piece of a stream is made when the previous one has been sent, so nothing piles up for a
/// slow client.
pub enum Body {
    /// A complete body.
    Whole(Option<Bytes>),
    /// A stream.
    Stream(Pin<Box<dyn Pieces>>),
}

/// The pieces of a stream.
pub trait Pieces: Send {
    /// Returns the next piece; `None` at the end.
    fn poll_piece(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

type Waiting<S> = Pin<Box<dyn Future<Output = Option<(S, Bytes)>> + Send>>;

/// `next` returns a piece and itself, or `None` at the end.
struct Unfold<S, F> {
    next: F,
    waiting: Option<Waiting<S>>,
}

impl<S, F, W> Pieces for Unfold<S, F>
where
    S: Send,
    F: FnMut(S) -> W + Send + Unpin,
    W: Future<Output = Option<(S, Bytes)>> + Send + 'static,
{
    fn poll_piece(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(None) };
        let Poll::Ready(ready) = waiting.as_mut().poll(context) else { return Poll::Pending };
        match ready {
            Some((state, piece)) => {
                let next = (self.next)(state);
                self.waiting = Some(Box::pin(next));
                Poll::Ready(Some(piece))
            }
            None => {
                self.waiting = None;
                Poll::Ready(None)
            }
        }
    }
}

impl Body {
    /// A body whose pieces `next` makes from a state.
    pub fn stream<S, F, W>(state: S, mut next: F) -> Body
    where
        S: Send + 'static,
        F: FnMut(S) -> W + Send + Unpin + 'static,
        W: Future<Output = Option<(S, Bytes)>> + Send + 'static,
    {
        let first = next(state);
        Body::Stream(Box::pin(Unfold { next, waiting: Some(Box::pin(first)) }))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut *self {
            Body::Whole(bytes) => Poll::Ready(bytes.take()),
            Body::Stream(pieces) => pieces.as_mut().poll_piece(context),
        };
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Stream(_) => SizeHint::default(),
        }
    }
}

/// A response with a body of this content type.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    typed(status, content_type, Body::Whole(Some(body.into())))
}

/// A plain-text response with a message.
pub fn sentence(status: StatusCode, text: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// A response with Server-Sent Events.
pub fn events(body: Body) -> Answer {
    typed(StatusCode::OK, "text/event-stream", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
