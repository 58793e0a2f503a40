//! The handle a server shares among its workers, with the thread that makes the file durable.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::file::{ReplayError, ReplayFile};
use crate::set::Admission;

/// How long written tags gather before one sync makes them durable.
pub const SYNC_EVERY: Duration = Duration::from_millis(10);

/// A replay set that many threads admit tags to. Dropping it without [`Replay::close`] is an unclean stop.
#[derive(Debug)]
pub struct Replay {
    shared: Arc<Shared>,
    syncer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    full: AtomicBool,
}

#[derive(Debug)]
struct State {
    file: Option<ReplayFile>,
    dirty: bool,
    stop: bool,
    /// A sync failed: what it should have written may be lost, and the system tells only once.
    unsynced: bool,
}

impl Replay {
    /// Takes over a file and starts its syncing thread, which sleeps while nothing is admitted.
    ///
    /// # Errors
    /// The system has no file handles or threads left.
    pub fn start(file: ReplayFile) -> Result<Self, ReplayError> {
        let handle = file.handle()?;
        Self::start_with(file, handle)
    }

    fn start_with(file: ReplayFile, handle: File) -> Result<Self, ReplayError> {
        let full = AtomicBool::new(file.set().is_full());
        let path = file.path().to_owned();
        let state = Mutex::new(State { file: Some(file), dirty: false, stop: false, unsynced: false });
        let shared = Arc::new(Shared { state, wake: Condvar::new(), full });
        let for_thread = Arc::clone(&shared);
        let syncer = std::thread::Builder::new()
            .name("replay-sync".to_owned())
            .spawn(move || sync_loop(&for_thread, &handle))
            .map_err(|source| ReplayError { path, source })?;
        Ok(Self { shared, syncer: Some(syncer) })
    }

    /// Looks a tag up and remembers it; on `Ok(Fresh)` it is in the file and the packet may be acted on.
    ///
    /// # Errors
    /// The file cannot be written, or what was written is perhaps not durable: do not act on the packet.
    pub fn admit(&self, tag: &[u8; 16]) -> Result<Admission, ReplayError> {
        self.admit_all(std::slice::from_ref(tag))
            .map(|admitted| admitted.first().copied().unwrap_or(Admission::Full))
    }

    /// The same for several tags, in order, with one write to the file.
    ///
    /// # Errors
    /// As [`admit`](Self::admit), for all of the packets.
    pub fn admit_all(&self, tags: &[[u8; 16]]) -> Result<Vec<Admission>, ReplayError> {
        let mut state = self.shared.lock();
        if state.unsynced
            && let Some(file) = &state.file
        {
            return Err(file.unsynced());
        }
        let Some(file) = state.file.as_mut() else { return Ok(vec![Admission::Full; tags.len()]) };
        let admitted = file.admit_all(tags);
        self.shared.full.store(file.set().is_full(), Ordering::Relaxed);
        if admitted.as_ref().is_ok_and(|all| all.contains(&Admission::Fresh)) && !state.dirty {
            state.dirty = true;
            self.shared.wake.notify_one();
        }
        admitted
    }

    /// Whether every new tag is refused, until the key rotates or, after a failed sync, until a restart: answer 503
    /// without opening packets.
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Relaxed)
    }

    /// How many tags are remembered.
    pub fn len(&self) -> usize {
        self.shared.lock().file.as_ref().map_or(0, |file| file.set().len())
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A clean stop. Later calls of other holders find a full set.
    ///
    /// # Errors
    /// The file could not be made durable; after a reboot it will not be trusted.
    pub fn close(&self) -> Result<(), ReplayError> {
        let mut state = self.shared.lock();
        state.stop = true;
        self.shared.wake.notify_one();
        self.shared.full.store(true, Ordering::Relaxed);
        match state.file.take() {
            Some(file) if state.unsynced => Err(file.unsynced()),
            Some(file) => file.close(),
            None => Ok(()),
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(syncer) = self.syncer.take() {
            let _ = syncer.join();
        }
    }
}

impl Shared {
    /// A panic elsewhere leaves the state as it was between two calls, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sync_loop(shared: &Shared, file: &File) {
    let mut state = shared.lock();
    while !state.stop {
        if !state.dirty {
            state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        // Let a batch gather; a stop ends the wait early.
        let waited = shared.wake.wait_timeout_while(state, SYNC_EVERY, |state| !state.stop);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.dirty = false;
        drop(state);
        let failed = file.sync_data().is_err();
        state = shared.lock();
        if failed {
            state.unsynced = true;
            shared.full.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{BootId, Opened};

    const BOOT: BootId = BootId::from_bytes([1; 16]);

    fn start(path: &Path, capacity: usize) -> Replay {
        Replay::start(ReplayFile::create(path, &[7; 32], capacity, BOOT).unwrap()).unwrap()
    }

    #[test]
    fn of_many_threads_with_the_same_tags_each_tag_is_fresh_once() {
        let dir = tempfile::tempdir().unwrap();
        let replay = start(&dir.path().join("replay"), 10_000);
        let fresh: usize = std::thread::scope(|scope| {
            let admit_all = || {
                (0..1000u128)
                    .filter(|number| replay.admit(&(number << 64).to_be_bytes()).unwrap() == Admission::Fresh)
                    .count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(admit_all)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((fresh, replay.len()), (1000, 1000));
    }

    #[test]
    fn after_a_failed_sync_nothing_is_admitted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay");
        let file = ReplayFile::create(&path, &[7; 32], 9, BOOT).unwrap();
        // A device that takes no sync stands in for a disk that fails it.
        let replay = Replay::start_with(file, File::open("/dev/null").unwrap()).unwrap();
        assert_eq!(replay.admit(&[1; 16]).unwrap(), Admission::Fresh);
        while !replay.is_full() {
            std::thread::yield_now();
        }
        assert!(replay.admit(&[2; 16]).is_err());
        assert!(replay.is_full());
        assert!(replay.close().is_err());
    }

    #[test]
    fn a_full_set_refuses_and_a_closed_one_is_clean() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay");
        let replay = start(&path, 1);
        assert!(!replay.is_full());
        assert_eq!(replay.admit(&[1; 16]).unwrap(), Admission::Fresh);
        assert!(replay.is_full());
        replay.close().unwrap();
        assert_eq!(replay.admit(&[2; 16]).unwrap(), Admission::Full);
        drop(replay);
        let reopened = ReplayFile::open(&path, &[7; 32], 9, BootId::unknown()).unwrap();
        assert!(matches!(reopened, Opened::Trusted(file) if file.set().len() == 1));
    }
}
