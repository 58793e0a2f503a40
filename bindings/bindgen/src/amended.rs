//! What UniFFI's templates get wrong for apps, corrected in what they wrote. Each text has to be there: a new UniFFI that
//! writes something else is noticed.

use anyhow::{Context, ensure};
use camino::Utf8Path;

/// A text in a generated file: as it is written, how often, and as it is to be.
struct Amendment {
    file: &'static str,
    written: &'static str,
    times: usize,
    wanted: &'static str,
}

const AMENDMENTS: [Amendment; 4] = [
    // What is no `Exception` (`TODO()`, a class that is missing) would be lost in JNA, and Rust would take the call for one
    // that went well: a keystore's `put`, say.
    Amendment {
        file: "kotlin/delta/ffi/delta_ffi.kt",
        written: "        writeReturn(makeCall())\n    } catch(e: kotlin.Exception) {",
        times: 2,
        wanted: "        writeReturn(makeCall())\n    } catch(e: Throwable) {",
    },
    // The same of what ctypes would only print: `SystemExit`, `CancelledError`.
    Amendment {
        file: "python/delta_ffi.py",
        written: "    except Exception as e:\n        call_status.code = _UniffiRustCallStatus.CALL_UNEXPECTED_ERROR",
        times: 2,
        wanted: "    except BaseException as e:\n        call_status.code = _UniffiRustCallStatus.CALL_UNEXPECTED_ERROR",
    },
    // Whoever is in here when Python ends is ended by it, in the midst of Rust, which aborts the process (before 3.14).
    Amendment {
        file: "python/delta_ffi.py",
        written: "\
def _uniffi_continuation_callback(future_ptr, poll_code):
    (eventloop, future) = _UniffiContinuationHandleMap.remove(future_ptr)
    eventloop.call_soon_threadsafe(_uniffi_set_future_result, future, poll_code)
",
        times: 1,
        wanted: "\
def _uniffi_continuation_callback(future_ptr, poll_code):
    global _uniffi_continuing
    _uniffi_continuing += 1
    try:
        (eventloop, future) = _UniffiContinuationHandleMap.remove(future_ptr)
        eventloop.call_soon_threadsafe(_uniffi_set_future_result, future, poll_code)
    finally:
        _uniffi_continuing -= 1

_uniffi_continuing = 0

def _uniffi_leave():
    while _uniffi_continuing:
        time.sleep(0.001)

atexit.register(_uniffi_leave)
",
    },
    Amendment {
        file: "python/delta_ffi.py",
        written: "import asyncio\n",
        times: 1,
        wanted: "import asyncio\nimport atexit\nimport time\n",
    },
];

/// Corrects what was generated into a folder.
pub fn write(folder: &Utf8Path) -> anyhow::Result<()> {
    for Amendment { file, written, times, wanted } in AMENDMENTS {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
        ensure!(text.matches(written).count() == times, "{file}: not {times} times {written:?}");
        let text = text.replace(written, wanted);
        std::fs::write(&path, text).with_context(|| format!("{path} cannot be written"))?;
    }
    Ok(())
}
