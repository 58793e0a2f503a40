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
