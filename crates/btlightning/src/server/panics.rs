//! A handler that panics fails its own request.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use crate::transport::close::printable_within;

/// What a panic said, fit for one line of a log.
#[derive(Debug)]
pub(super) struct Panicked(pub(super) String);

/// The longest words of a handler that are logged, in bytes.
pub(super) const HANDLER_WORDS_BYTES_MAX: usize = 1024;

/// A future that a handler returned.
pub(super) type Handling<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Begins what `begin` makes and polls it to its end, or to a panic. It is not polled again after one.
///
/// The state that a panicking handler leaves behind is its author's: `AssertUnwindSafe` says that this package's own
/// state is not touched by it, since nothing of it is lent to handlers.
pub(super) async fn catching<'a, T>(begin: impl FnOnce() -> Handling<'a, T>) -> Result<T, Panicked> {
    let mut handling = catch_unwind(AssertUnwindSafe(begin)).map_err(|panic| words(&*panic))?;
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(words(&*panic))),
    })
    .await
}

/// What a panic carries.
pub(super) fn words(panic: &(dyn Any + Send)) -> Panicked {
    let words = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no words");
    Panicked(printable_within(words.as_bytes(), HANDLER_WORDS_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_caught_at_the_call_and_after_an_await() {
        assert_eq!(catching(|| Box::pin(async { 7 })).await.unwrap(), 7);
        let at_once: Result<(), _> = catching(|| panic!("at {}", "once")).await;
        assert_eq!(at_once.unwrap_err().0, "at once");
        let later: Result<(), _> = catching(|| {
            Box::pin(async {
                tokio::task::yield_now().await;
                panic!("later\n")
            })
        })
        .await;
        assert_eq!(later.unwrap_err().0, "later\\n");
    }
}
