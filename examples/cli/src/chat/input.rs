//! The terminal: keys in, the screen out, and back to what it was however the chat ends.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use ratatui::Frame;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, DisableBracketedPaste, EnableBracketedPaste, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::process::{getpgrp, getpid, getsid, kill_current_process_group};
use rustix::termios::tcgetpgrp;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::painter::{Canvas, Painter};
use crate::platform::Ended;

/// Keys that wait.
const WAITING: usize = 64;
/// How long the terminal is waited for that is given back: it may take nothing any more.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a chat that was resumed in the background looks whether it has the foreground.
const LOOK: Duration = Duration::from_millis(200);

/// The chat has the screen. A terminal is the process's, so this is, too.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A terminal whose screen the chat has.
pub struct Terminal {
    screen: ratatui::Terminal<CrosstermBackend<Canvas>>,
    painter: Painter,
    events: mpsc::Receiver<std::io::Result<Event>>,
    /// A frame was left out: the terminal had not taken the one before.
    late: bool,
}

impl Terminal {
    /// Whether there is one.
    pub fn is_there() -> bool {
        stdin().is_terminal() && stdout().is_terminal()
    }

    /// Takes the screen. Panics give it back, too.
    pub fn open() -> anyhow::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        let mut painter = Painter::start();
        take(&mut painter)?;
        let screen = screen(&painter).inspect_err(|_| give_back())?;
        let (sender, events) = mpsc::channel(WAITING);
        // It waits for keys and is not waited for.
        std::thread::spawn(move || {
            loop {
                let event = event::read();
                let failed = event.is_err();
                if sender.blocking_send(event).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Self { screen, painter, events, late: false })
    }

    /// Draws a frame; leaves it out when the terminal has not taken the one before.
    pub fn draw(&mut self, frame: impl FnOnce(&mut Frame<'_>)) -> std::io::Result<()> {
        self.late = self.painter.is_busy()?;
        if !self.late {
            self.screen.draw(frame)?;
            self.painter.paint();
        }
        Ok(())
    }

    /// The next key, paste or change of size; `None` when a frame that was left out can be drawn. Cancel-safe.
    pub async fn next(&mut self) -> std::io::Result<Option<Event>> {
        loop {
            tokio::select! {
                event = self.events.recv() => return event.ok_or(std::io::ErrorKind::UnexpectedEof)?.map(Some),
                painted = self.painter.idle(), if self.painter.waits() => {
                    painted?;
                    if self.late {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Lets the shell have the terminal until the job has the foreground again; `false` when there is no shell.
    ///
    /// # Errors
    /// [`Interrupted`](crate::output::Interrupted) when it is ended instead: `kill %1` lets a stopped job go on for it.
    pub async fn suspend(&mut self, goes_on: &mut Signal, ended: &mut Ended) -> anyhow::Result<bool> {
        // Nobody could let the leader of a session go on.
        if getsid(None).is_ok_and(|leader| leader == getpid()) {
            return Ok(false);
        }
        while self.events.try_recv().is_ok() {}
        self.give_back().await;
        kill_current_process_group(rustix::process::Signal::TSTP).context("this job cannot be stopped")?;
        // Where the system does not stop it either (its shell has ended), the next key goes on.
        tokio::select! {
            signal = ended.wait() => return Err(signal.into()),
            _ = goes_on.recv() => {}
            Some(_) = self.events.recv() => {}
        }
        self.again(ended).await?;
        Ok(true)
    }

    /// Takes the screen again, once it has the foreground, and forgets what stood there: somebody else may have had it.
    ///
    /// # Errors
    /// [`Interrupted`](crate::output::Interrupted) when it is ended before.
    pub async fn again(&mut self, ended: &mut Ended) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK);
        // Taking the terminal from the background would stop it, and it would not hear of what is to end it.
        while !is_in_foreground() {
            tokio::select! {
                signal = ended.wait() => return Err(signal.into()),
                _ = look.tick() => {}
            }
        }
        if TAKEN.swap(false, Ordering::SeqCst) {
            let _ = leave(&mut self.painter.canvas());
            make_cooked();
        }
        take(&mut self.painter)?;
        // (Its own `clear` asks the terminal where the cursor is, and keys would come between question and answer.)
        self.screen = screen(&self.painter)?;
        Ok(())
    }

    /// Gives the screen back; `false` when the terminal does not take even that (yet).
    pub async fn close(mut self) -> bool {
        self.give_back().await
    }

    async fn give_back(&mut self) -> bool {
        // Once is enough: a second time would put the cursor over what was printed since.
        if !TAKEN.load(Ordering::SeqCst) {
            return true;
        }
        let _ = leave(&mut self.painter.canvas());
        self.painter.paint();
        // One that is gone needs nothing back.
        let taken = tokio::time::timeout(PATIENCE, self.painter.idle()).await.is_ok();
        TAKEN.store(false, Ordering::SeqCst);
        make_cooked();
        taken
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn screen(painter: &Painter) -> anyhow::Result<ratatui::Terminal<CrosstermBackend<Canvas>>> {
    ratatui::Terminal::new(CrosstermBackend::new(painter.canvas())).context("the terminal")
}

/// Only a process in the foreground may change how the terminal works.
fn is_in_foreground() -> bool {
    // Without an answer there is no job control here.
    tcgetpgrp(stdin()).map_or(true, |foreground| foreground == getpgrp())
}

/// The shell that has the foreground instead has made the terminal its own; changing it would stop this process.
fn make_cooked() {
    if is_in_foreground() {
        let _ = disable_raw_mode();
    }
}

fn take(painter: &mut Painter) -> anyhow::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    // A terminal that does not know what a paste is pastes like one who types.
    let taken = enable_raw_mode().and_then(|()| {
        execute!(painter.canvas(), EnterAlternateScreen, Clear(ClearType::All), EnableBracketedPaste)
    });
    painter.paint();
    taken.inspect_err(|_| give_back()).context("the terminal")
}

fn leave(terminal: &mut impl Write) -> std::io::Result<()> {
    execute!(terminal, DisableBracketedPaste, LeaveAlternateScreen, Show)
}

/// At once, and for good: for panics, and for what went wrong while it was taken.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        Painter::stop_all();
        let _ = leave(&mut stdout());
        make_cooked();
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::chat::pty;

    /// Set for the process whose terminal the test looks at.
    const INSIDE: &str = "DELTA_TEST_IN_A_TERMINAL";

    #[test]
    fn a_panic_gives_the_screen_back() {
        if std::env::var_os(INSIDE).is_some() {
            let mut terminal = Terminal::open().unwrap();
            terminal.draw(|frame| frame.render_widget("something", frame.area())).unwrap();
            panic!("it broke");
        }
        let name = "chat::input::tests::a_panic_gives_the_screen_back";
        let mut command = Command::new(std::env::current_exe().unwrap());
        // A backtrace would push what is looked for off the screen.
        command.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").env("RUST_BACKTRACE", "0");
        // The end looks at the terminal.
        let (status, text) = pty::Terminal::start(&command).end();
        assert!(!status.success());
        assert!(text.contains("it broke") && !text.contains("something"), "{text}");
    }
}
