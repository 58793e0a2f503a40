//! The terminal: keys in, the screen out, and back to what it was however the chat ends.

use std::io::{IsTerminal, Stdout, stdin, stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, DisableBracketedPaste, EnableBracketedPaste, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::process::{getpid, getsid, kill_current_process_group};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

/// Keys that wait.
const WAITING: usize = 64;

/// The chat has the screen. A terminal is the process's, so this is, too.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What is drawn on.
pub type Screen = ratatui::Terminal<CrosstermBackend<Stdout>>;

/// A terminal whose screen the chat has.
pub struct Terminal {
    screen: Screen,
    events: mpsc::Receiver<std::io::Result<Event>>,
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
        take()?;
        let screen = screen().inspect_err(|_| give_back())?;
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
        Ok(Self { screen, events })
    }

    /// What is drawn on.
    pub const fn screen(&mut self) -> &mut Screen {
        &mut self.screen
    }

    /// The next key, paste or change of size; `None` when the terminal is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await?.ok()
    }

    /// Lets the shell have the terminal until the job goes on; `false` when there is none to go back to.
    pub async fn suspend(&mut self, goes_on: &mut Signal) -> anyhow::Result<bool> {
        // Nobody could let the leader of a session go on.
        if getsid(None).is_ok_and(|leader| leader == getpid()) {
            return Ok(false);
        }
        while self.events.try_recv().is_ok() {}
        give_back();
        kill_current_process_group(rustix::process::Signal::TSTP).context("this job cannot be stopped")?;
        // Where the system does not stop it either (its shell has ended), the next key goes on.
        tokio::select! {
            _ = goes_on.recv() => {}
            _ = self.events.recv() => {}
        }
        self.again()?;
        Ok(true)
    }

    /// Takes the screen again and forgets what stood there: somebody else may have had it.
    pub fn again(&mut self) -> anyhow::Result<()> {
        give_back();
        take()?;
        // (Its own `clear` asks the terminal where the cursor is, and keys would come between question and answer.)
        self.screen = screen()?;
        Ok(())
    }

    /// Gives the screen back.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn screen() -> anyhow::Result<Screen> {
    Screen::new(CrosstermBackend::new(stdout())).context("the terminal")
}

fn take() -> anyhow::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    // A terminal that does not know what a paste is pastes like one who types.
    let taken = enable_raw_mode()
        .and_then(|()| execute!(stdout(), EnterAlternateScreen, Clear(ClearType::All), EnableBracketedPaste));
    taken.inspect_err(|_| give_back()).context("the terminal")
}

/// Once is enough: a second time would put the cursor over what was printed since.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // One that is gone needs nothing back.
        let _ = execute!(stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
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
            terminal.screen().draw(|frame| frame.render_widget("something", frame.area())).unwrap();
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
