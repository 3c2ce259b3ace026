//! Catches panics that work continues after, and marks them for the panic hook.
//!
//! By thread: a panic in another thread that the work uses (a pool of `compute`) is reported as fatal,
//! although the work continues. Readers of documents, whose panics are caught, use none.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CATCHING: Cell<u32> = const { Cell::new(0) };
}

/// Runs `work`; `None` if it panicked. Everything it changed must be discarded then.
pub fn catch<T>(work: impl FnOnce() -> T) -> Option<T> {
    struct Catching;
    impl Drop for Catching {
        fn drop(&mut self) {
            CATCHING.set(CATCHING.get() - 1);
        }
    }
    CATCHING.set(CATCHING.get() + 1);
    let _catching = Catching;
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Whether [`catch`] would catch a panic of this thread now.
pub fn is_caught() -> bool {
    CATCHING.get() > 0
}

/// The message of a panic.
pub fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_within_is_caught_and_known_as_such() {
        assert!(!is_caught());
        assert_eq!(catch(is_caught), Some(true));
        assert_eq!(catch(|| catch(|| assert_eq!(1, 2)).is_some()), Some(false));
        assert!(!is_caught());
        assert_eq!(message(&"x"), "x");
        assert_eq!(message(&format!("{}", 7)), "7");
    }
}
