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

const AMENDMENTS: [Amendment; 3] = [
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
    // Who is in Python when it ends is ended by it, in the midst of Rust, which aborts the process (before 3.14): calls from
    // Rust are counted, so that delta/leaving.py can wait for them.
    Amendment {
        file: "python/delta_ffi.py",
        written: "@_UNIFFI_RUST_FUTURE_CONTINUATION_CALLBACK\ndef _uniffi_continuation_callback",
        times: 1,
        wanted: "\
# Calls from Rust that are in Python now.
_uniffi_inside = set()

def _uniffi_counted(call):
    def counted(*arguments):
        token = object()
        _uniffi_inside.add(token)
        try:
            return call(*arguments)
        finally:
            _uniffi_inside.discard(token)
    return counted

@_UNIFFI_RUST_FUTURE_CONTINUATION_CALLBACK
@_uniffi_counted
def _uniffi_continuation_callback",
    },
];

/// In the generated Python, how the line before a method that Rust calls begins, how many there are, and what goes between.
const CALLED: (&str, &str, usize, &str) =
    ("python/delta_ffi.py", "    @_UNIFFI_CALLBACK_INTERFACE_", 12, "    @_uniffi_counted");

/// Corrects what was generated into a folder.
pub fn write(folder: &Utf8Path) -> anyhow::Result<()> {
    for Amendment { file, written, times, wanted } in AMENDMENTS {
        rewrite(&folder.join(file), |text| {
            ensure!(text.matches(written).count() == times, "{file}: not {times} times {written:?}");
            Ok(text.replace(written, wanted))
        })?;
    }
    let (file, before, times, added) = CALLED;
    rewrite(&folder.join(file), |text| {
        ensure!(
            text.lines().filter(|line| line.starts_with(before)).count() == times,
            "{file}: not {times} times {before:?}"
        );
        let lines = text.lines().flat_map(|line| [Some(line), line.starts_with(before).then_some(added)]);
        Ok(lines.flatten().flat_map(|line| [line, "\n"]).collect())
    })
}

fn rewrite(path: &Utf8Path, change: impl FnOnce(&str) -> anyhow::Result<String>) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?;
    std::fs::write(path, change(&text)?).with_context(|| format!("{path} cannot be written"))
}
