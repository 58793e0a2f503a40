//! The sync server's status page in a real browser: Debian's chromium, without a screen.
//!
//! A server with five operations is looked at after the page's script has run for some seconds; what the browser made
//! of the page must hold the server's own numbers. Then [`DRIVE`] uses it with keys, in the light and in the dark.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::packages::Package;
use crate::{cargo, packages, python};

/// Operations the page must count.
const OPERATIONS: usize = 5;
/// Virtual milliseconds the page's script gets: two samples and two answers at least.
const BUDGET: &str = "--virtual-time-budget=6000";
/// Drives the browser; needs the Python client's packages.
const DRIVE: &str = "servers/sync/tests/status_page.py";
const PATIENCE: Duration = Duration::from_secs(30);
/// How often, and with what pause, the server is asked whether it has something to plot: half a minute in all.
const SAMPLE_LOOKS: usize = 300;
const SAMPLE_PAUSE: Duration = Duration::from_millis(100);
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// What the browser did not show as it should.
pub fn problems() -> Vec<String> {
    match look() {
        Ok(problems) => problems,
        Err(why) => vec![why],
    }
}

fn look() -> Result<Vec<String>, String> {
    let browser = installed()?;
    let folder = std::env::temp_dir().join(format!("delta-browser-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let problems = look_in(&folder, browser);
    let _ = std::fs::remove_dir_all(&folder);
    problems
}

fn look_in(folder: &Path, browser: &str) -> Result<Vec<String>, String> {
    let server = Server::start(&folder.join("data"))?;
    let topic = "ab".repeat(32);
    for number in 0..OPERATIONS {
        let body = format!("{{\"topic_hex\":\"{topic}\",\"op_base64\":\"b2s{number}\"}}");
        let answer = server.post("/deliver", &body).map_err(|error| format!("deliver: {error}"))?;
        if !answer.starts_with("HTTP/1.1 200") {
            return Err(format!("a delivery was answered with {answer}"));
        }
    }
    server.wait_for_curve()?;
    let output = Command::new(browser)
        .args(FLAGS)
        .args([BUDGET, "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("http://{}/", server.admin))
        .stderr(Stdio::null())
        .output()
        .map_err(|error| format!("{browser}: {error}"))?;
    let page = String::from_utf8_lossy(&output.stdout);
    let problems = expected().into_iter().filter(|(_, part)| !page.contains(part.as_str()));
    let mut problems: Vec<_> =
        problems.map(|(what, part)| format!("the page shows no {what} (`{part}`)")).collect();
    if page.contains(&topic) {
        problems.push("the page shows a whole topic id".to_owned());
    }
    let url = format!("http://{}/", server.admin);
    problems
        .extend(python::environment().and_then(|python| python::run(&python, &[DRIVE, browser, &url])).err());
    if !problems.is_empty() {
        problems.push(format!("the page as the browser has it:\n{page}"));
    }
    Ok(problems)
}

/// What must be on the page, and how it looks in its source.
fn expected() -> Vec<(&'static str, String)> {
    vec![
        ("state", ">Serving.<".to_owned()),
        ("number of operations", format!("<dt>Operations stored</dt><dd>{OPERATIONS}</dd>")),
        ("plot with a curve", "class=\"curve\" points=\"".to_owned()),
        // Each is three bytes long.
        (
            "topic with its size",
            format!("<td>abababab…</td><td>{} B</td><td>{OPERATIONS}</td>", 3 * OPERATIONS),
        ),
        ("commit histogram", format!("aria-label=\"1: {OPERATIONS} commits\"")),
        ("counter", "<td>delta_sync_operations_stored_total</td>".to_owned()),
    ]
}

/// The browser's name; installed where that may be done here.
pub fn installed() -> Result<&'static str, String> {
    const NAME: &str = "chromium";
    packages::needed(&[Package::with(NAME, NAME)])?;
    Ok(NAME)
}

/// A server of the debug profile; killed when dropped.
struct Server {
    child: Child,
    address: String,
    admin: String,
}

impl Server {
    fn start(data: &Path) -> Result<Self, String> {
        let program: PathBuf =
            cargo::programs("debug")?.join(format!("delta-sync{}", std::env::consts::EXE_SUFFIX));
        let mut child = Command::new(&program)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--accept-v2", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let mut address = |prefix: &str| {
            let line = lines.next().and_then(Result::ok)?;
            line.strip_prefix(prefix).map(str::to_owned)
        };
        match (address("listening on http://"), address("admin on http://")) {
            (Some(address), Some(admin)) => Ok(Self { child, address, admin }),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                Err("the sync server did not start".to_owned())
            }
        }
    }

    /// The server takes a sample each real second, while the browser's clock is a virtual one that runs ahead: a curve
    /// can only be expected once the server itself has two rates to show.
    fn wait_for_curve(&self) -> Result<(), String> {
        let fail = |error: std::io::Error| format!("/status.json: {error}");
        for _ in 0..SAMPLE_LOOKS {
            let status = self.status().map_err(fail)?;
            let rates = status.split_once("\"stored\":[").and_then(|(_, rest)| rest.split_once(']'));
            if rates.is_some_and(|(rates, _)| rates.contains(',')) {
                return Ok(());
            }
            std::thread::sleep(SAMPLE_PAUSE);
        }
        Err("the server shows no rates".to_owned())
    }

    fn status(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.admin)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /status.json HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn post(&self, path: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
