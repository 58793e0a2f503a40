//! What the terminal shows is written by a thread of its own. A terminal takes nothing for as long as it likes (its
//! connection stalls, its window is stopped): messages are sent and come meanwhile, and a signal ends the chat.

use std::cell::RefCell;
use std::io::{self, Write, stdout};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as blocking;

use tokio::sync::mpsc;

/// Somebody else writes to the terminal from now on: what was not begun is not written.
static OVER: AtomicBool = AtomicBool::new(false);

/// Writes to the terminal, one frame after the other.
pub struct Painter {
    canvas: Canvas,
    frames: blocking::Sender<Vec<u8>>,
    painted: mpsc::UnboundedReceiver<io::Result<()>>,
    /// Frames handed over and not painted.
    waiting: usize,
}

/// What is drawn on, until it is painted.
#[derive(Clone, Default)]
pub struct Canvas(Rc<RefCell<Vec<u8>>>);

impl Painter {
    /// Begins.
    pub fn start() -> Self {
        let (frames, waiting) = blocking::channel::<Vec<u8>>();
        let (done, painted) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for frame in waiting {
                let mut terminal = stdout().lock();
                if OVER.load(Ordering::SeqCst) {
                    return;
                }
                let written = terminal.write_all(&frame).and_then(|()| terminal.flush());
                let failed = written.is_err();
                if done.send(written).is_err() || failed {
                    return;
                }
            }
        });
        Self { canvas: Canvas::default(), frames, painted, waiting: 0 }
    }

    /// What is drawn on.
    pub fn canvas(&self) -> Canvas {
        self.canvas.clone()
    }

    /// Hands over what was drawn.
    pub fn paint(&mut self) {
        let frame = self.canvas.0.take();
        // Where the thread has ended, it has said why.
        if !frame.is_empty() && self.frames.send(frame).is_ok() {
            self.waiting += 1;
        }
    }

    /// Whether the terminal has yet to take something.
    ///
    /// # Errors
    /// When it took nothing and never will.
    pub fn is_busy(&mut self) -> io::Result<bool> {
        while let Ok(painted) = self.painted.try_recv() {
            self.waiting -= 1;
            painted?;
        }
        Ok(self.waits())
    }

    /// Whether something was not heard to be painted.
    pub const fn waits(&self) -> bool {
        self.waiting > 0
    }

    /// Waits until the terminal has taken everything. Cancel-safe.
    pub async fn idle(&mut self) -> io::Result<()> {
        while self.waits() {
            let painted = self.painted.recv().await.ok_or(io::ErrorKind::BrokenPipe)?;
            self.waiting -= 1;
            painted?;
        }
        Ok(())
    }

    /// Nothing more is begun to be written, by any painter.
    pub fn stop_all() {
        OVER.store(true, Ordering::SeqCst);
    }
}

impl Write for Canvas {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
