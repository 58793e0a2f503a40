//! A program in a pseudo terminal, and what that shows: an emulator of a terminal reads what it prints.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, LocalModes, Winsize, tcflow, tcgetattr, tcsetwinsize};

pub const ROWS: u16 = 24;
pub const COLUMNS: u16 = 70;

/// After this long without a change it is printed what is waited for. Nothing else follows from it.
const SILENCE: Duration = Duration::from_secs(20);

/// A program in a pseudo terminal.
pub struct Terminal {
    master: Option<File>,
    /// The program's side of it.
    name: String,
    child: Child,
    screen: Arc<(Mutex<Shown>, Condvar)>,
    /// Its end ends the emulator.
    emulates: Option<(PipeWriter, JoinHandle<()>)>,
}

struct Shown {
    parser: vt100::Parser,
    /// The program has let go of the terminal.
    ended: bool,
}

impl Terminal {
    /// Starts it as the leader of a session that the terminal controls: resizing and hanging up tell it.
    pub fn start(command: &Command) -> Self {
        Self::of(&["--ctty"], command)
    }

    /// Starts it in a terminal that does not control it: nobody tells it what becomes of the terminal.
    pub fn start_uncontrolled(command: &Command) -> Self {
        Self::of(&[], command)
    }

    fn of(options: &[&str], command: &Command) -> Self {
        // Not for the program as well: with a master of its own it would never be hung up.
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let side = || open(&name);
        set_size(&master, ROWS, COLUMNS);
        let mut session = Command::new("setsid");
        session.args(options).arg("--wait").arg(command.get_program()).args(command.get_args());
        let environment = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        session.envs(environment).env("TERM", "xterm").env("NO_COLOR", "1");
        session.stdin(Stdio::from(side())).stdout(Stdio::from(side())).stderr(Stdio::from(side()));
        let child = session.spawn().unwrap();
        let shown = Shown { parser: vt100::Parser::new(ROWS, COLUMNS, 0), ended: false };
        let screen = Arc::new((Mutex::new(shown), Condvar::new()));
        let (goes_on, stops) = std::io::pipe().unwrap();
        let (output, shows) = (File::from(master.try_clone().unwrap()), Arc::clone(&screen));
        let emulator = std::thread::spawn(move || emulate(output, &goes_on, &shows));
        Self { master: Some(master.into()), name, child, screen, emulates: Some((stops, emulator)) }
    }

    /// The program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes the terminal larger or smaller.
    pub fn size(&self, rows: u16, columns: u16) {
        // What comes after the change is for the new size.
        let mut shown = self.screen.0.lock().unwrap();
        shown.parser.screen_mut().set_size(rows, columns);
        set_size(self.master(), rows, columns);
    }

    fn master(&self) -> &File {
        self.master.as_ref().expect("it was not hung up")
    }

    /// From now on the terminal takes nothing any more, as one whose connection stalls.
    pub fn stall(&self) {
        tcflow(open(&self.name), Action::OOff).unwrap();
    }

    /// The terminal goes away, as when its window is closed.
    pub fn hang_up(&mut self) {
        self.master = None;
        let (stops, emulator) = self.emulates.take().unwrap();
        drop(stops);
        emulator.join().unwrap();
    }

    /// Waits for the program's end, whatever becomes of the terminal.
    pub fn exit(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.master().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen is as wanted; gives it, line by line.
    #[track_caller]
    #[allow(clippy::print_stderr, reason = "whoever reads why a test was stopped")]
    pub fn until(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut shown = self.screen.0.lock().unwrap();
        loop {
            let lines = shown.lines();
            if wanted(&lines) {
                return lines;
            }
            assert!(!shown.ended, "it ended before {what}: {lines:#?}");
            let (still, silent) = self.screen.1.wait_timeout(shown, SILENCE).unwrap();
            shown = still;
            if silent.timed_out() {
                // A test that is stopped for its length has said what it waited for.
                eprintln!("still waiting for {what}: {lines:#?}");
            }
        }
    }

    /// Waits until a text stands on one line.
    #[track_caller]
    pub fn until_shown(&self, text: &str) -> Vec<String> {
        self.until(text, |lines| lines.iter().any(|line| line.contains(text)))
    }

    /// Whether the program has the whole screen for itself.
    pub fn is_full_screen(&self) -> bool {
        self.screen.0.lock().unwrap().parser.screen().alternate_screen()
    }

    /// Whether the terminal itself shows what is typed, makes lines of it and signals of Ctrl-C, as for a shell.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(self.master()).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits for its end; gives how, and what stands in the terminal afterwards, which it must have given back.
    #[track_caller]
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut shown = self.screen.0.lock().unwrap();
        while !shown.ended {
            shown = self.screen.1.wait(shown).unwrap();
        }
        let screen = shown.parser.screen();
        let text = screen.contents();
        assert!(!screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste(), "{text}");
        drop(shown);
        assert!(self.is_cooked(), "{text}");
        (self.child.wait().unwrap(), text)
    }
}

impl Shown {
    fn lines(&self) -> Vec<String> {
        let screen = self.parser.screen();
        let (_, columns) = screen.size();
        screen.rows(0, columns).map(|line| line.trim_end().to_owned()).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Harmless when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Shows what the program prints, until it has let go of the terminal or nobody looks any more.
fn emulate(mut output: File, goes_on: &PipeReader, (shown, changed): &(Mutex<Shown>, Condvar)) {
    let mut bytes = [0; 4096];
    loop {
        let mut either = [PollFd::new(&output, PollFlags::IN), PollFd::new(goes_on, PollFlags::IN)];
        match poll(&mut either, None) {
            Ok(_) if either[1].revents().is_empty() => {}
            Err(Errno::INTR) => continue,
            _ => return,
        }
        // Linux ends a terminal without programs with an error.
        let read = output.read(&mut bytes).unwrap_or(0);
        let mut shown = shown.lock().unwrap();
        let before = shown.lines();
        shown.parser.process(&bytes[..read]);
        shown.ended = read == 0;
        if read == 0 || before != shown.lines() {
            changed.notify_all();
        }
        if read == 0 {
            return;
        }
    }
}

fn open(name: &str) -> File {
    File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NOCTTY.bits().cast_signed())
        .open(name)
        .unwrap()
}

fn set_size(master: impl AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}
