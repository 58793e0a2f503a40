//! UniFFI, but for two functions that every exported call goes through.
//!
//! UniFFI compiles what starts, polls and ends a call for each call anew: two kilobytes for each of them in every app. Here it is
//! compiled for each type that calls return (docs/adr/0016). Its macros write `::uniffi::…`, so a crate
//! that knows this one by the name `uniffi` uses them as they are.

use std::panic::{AssertUnwindSafe, UnwindSafe};
use std::pin::Pin;

pub use uniffi::*;

/// What an asynchronous call returns, whatever future it is.
type Returning<T> = Pin<Box<dyn Future<Output = Result<T, LiftArgsError>> + Send>>;

/// As UniFFI's: a handle of the future, to be polled by the app.
pub fn rust_future_new<F, T, UT>(future: F, tag: UT) -> Handle
where
    F: UniffiCompatibleFuture<Result<T, LiftArgsError>> + 'static,
    T: FutureLowerReturn<UT> + 'static,
{
    started(Box::pin(future), tag)
}

#[inline(never)]
fn started<T: FutureLowerReturn<UT> + 'static, UT>(future: Returning<T>, tag: UT) -> Handle {
    uniffi::rust_future_new::<_, T, UT>(future, tag)
}

/// As UniFFI's: makes the call; what it fails with, and a panic, are told by the status.
pub fn rust_call<F, R>(status: &mut RustCallStatus, call: F) -> R
where
    F: UnwindSafe + FnOnce() -> Result<R, RustCallError>,
    R: FfiDefault,
{
    let mut call = Some(call);
    called(status, &mut move || match call.take() {
        Some(call) => call(),
        None => Err(RustCallError::InternalError(String::new())),
    })
}

/// Safe to unwind through: what is called is, as [`rust_call`] demands.
#[inline(never)]
fn called<R: FfiDefault>(
    status: &mut RustCallStatus,
    call: &mut dyn FnMut() -> Result<R, RustCallError>,
) -> R {
    uniffi::rust_call(status, AssertUnwindSafe(call))
}

#[cfg(test)]
mod tests {
    use std::mem::ManuallyDrop;

    use super::*;

    fn call(
        call: impl UnwindSafe + FnOnce() -> Result<u32, RustCallError>,
    ) -> (u32, RustCallStatusCode, Vec<u8>) {
        let mut status = RustCallStatus::default();
        let given = rust_call(&mut status, call);
        (given, status.code, ManuallyDrop::into_inner(status.error_buf).destroy_into_vec())
    }

    #[test]
    fn a_call_gives_what_it_returns() {
        assert_eq!(call(|| Ok(7)), (7, RustCallStatusCode::Success, Vec::new()));
    }

    #[test]
    fn an_error_is_told_as_it_was_written() {
        let error = || Err(RustCallError::Error(RustBuffer::from_vec(vec![1, 2, 3])));
        assert_eq!(call(error), (0, RustCallStatusCode::Error, vec![1, 2, 3]));
        let wrong = || Err(RustCallError::InternalError("an argument".to_owned()));
        assert_eq!(call(wrong), (0, RustCallStatusCode::UnexpectedError, b"an argument".to_vec()));
    }

    #[test]
    fn a_panic_is_told_with_its_text() {
        let panics = || std::panic::resume_unwind(Box::new("a bug"));
        assert_eq!(call(panics), (0, RustCallStatusCode::UnexpectedError, b"a bug".to_vec()));
    }
}
