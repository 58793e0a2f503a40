//! What a process has used, from Linux's `/proc`.

use anyhow::Context;

/// `USER_HZ`: the unit of times in `/proc`, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time (user and system) a process has used; `thread-self` for the calling thread.
///
/// # Errors
/// There is no such process, or no `/proc`.
pub fn processor_seconds(id: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{id}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name in parentheses may hold blanks: fields are counted after it. utime and stime are 14 and 15.
    let (_, fields) = stat.rsplit_once(") ").with_context(|| path.clone())?;
    let mut ticks = fields.split(' ').skip(11).map(str::parse::<f64>);
    let mut next = || ticks.next().and_then(Result::ok).with_context(|| path.clone());
    Ok((next()? + next()?) / TICKS_PER_SECOND)
}

/// Bytes of memory a process has resident.
///
/// # Errors
/// There is no such process, or no `/proc`.
pub fn resident_bytes(id: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{id}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kib.with_context(|| path)? * 1024)
}
