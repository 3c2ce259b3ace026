//! A source's own bytes on their way: how far reading has come, and whether the disk failed.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Bytes read of the sources, for progress.
pub type Position = Arc<AtomicU64>;

/// A file that is watched.
pub struct Watch<R> {
    inner: R,
    position: Position,
    failure: Failure,
}

/// The first error of the disk.
#[derive(Clone, Default)]
pub struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    pub fn failure(&self) -> Option<io::Error> {
        self.0.lock().ok().and_then(|mut failure| failure.take())
    }
}

impl<R> Watch<R> {
    pub fn over(inner: R, position: &Position) -> (Watch<R>, Failure) {
        let failure = Failure::default();
        (Watch { inner, position: Arc::clone(position), failure: failure.clone() }, failure)
    }
}

impl<R: Read> Read for Watch<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(read) => {
                self.position.fetch_add(read as u64, Ordering::Relaxed);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let told = io::Error::new(error.kind(), error.to_string());
                if let Ok(mut failure) = self.failure.0.lock() {
                    failure.get_or_insert(error);
                }
                Err(told)
            }
        }
    }
}

impl<R: Seek> Seek for Watch<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
