//! A network of child processes (`delta demo --serve`) and devices that use it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub fn delta() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_delta"));
    command.stdin(Stdio::null());
    command
}

/// The JSON values a command prints, one a line; it must succeed.
#[track_caller]
pub fn json_lines(command: &mut Command) -> Vec<Value> {
    let output = command.arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One sync server and three relays; they end with it.
pub struct Network {
    child: Child,
    facts: Value,
    dir: TempDir,
}

impl Network {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = delta();
        command.args(["demo", "--serve", "--json", "--keep"]).arg(dir.path().join("network"));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let output = child.wait_with_output().unwrap();
            panic!("the network ended ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Self { child, facts: serde_json::from_str(&line).unwrap(), dir }
    }

    /// The process that holds it together.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes of the server and the relays.
    pub fn pids(&self) -> Vec<u32> {
        let pids = self.facts["pids"].as_object().unwrap().values();
        pids.map(|pid| pid.as_u64().unwrap().try_into().unwrap()).collect()
    }

    /// SIGKILL for the process that holds it together; returns when the servers are gone too.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.pids().into_iter().for_each(until_gone);
    }

    /// Waits until it ends by itself; gives its exit code and what it said.
    pub fn end(&mut self) -> (Option<i32>, String) {
        // Not `wait`: that closes its input first, which ends it too.
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        };
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }

    /// What a client needs to know: `sync`, `directory`, `records`, `trust`.
    pub fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap()
    }

    /// A folder that goes with the network.
    pub fn folder(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// A new device in a topic.
    pub fn device(&self, name: &str, ticket: &str) -> Device {
        let mut device = self.stranger(name);
        device.environment.push(("DELTA_TICKET", ticket.to_owned()));
        device
    }

    /// A new device.
    pub fn stranger(&self, name: &str) -> Device {
        let seed = json_lines(delta().arg("keygen"))[0]["seed"].as_str().unwrap().to_owned();
        let fact = |name: &str| self.facts[name].as_str().unwrap().to_owned();
        let database = self.dir.path().join(format!("{name}.db"));
        let environment = vec![
            ("DELTA_DB", database.display().to_string()),
            ("DELTA_KEY", seed),
            ("DELTA_ALLOW_PLAINTEXT", "1".to_owned()),
            ("DELTA_SYNC", fact("sync")),
            ("DELTA_DIRECTORY", fact("directory")),
            ("DELTA_RECORDS", fact("records")),
            ("DELTA_TRUST", fact("trust")),
        ];
        Device { environment }
    }

    /// A new device that keeps its key, and what its person certifies, in a folder of its own.
    pub fn keeper(&self, name: &str) -> Device {
        let mut device = self.stranger(name);
        device.environment.retain(|(option, _)| *option != "DELTA_KEY");
        let keys = self.dir.path().join(format!("{name}-keys"));
        device.environment.push(("DELTA_KEYS", keys.display().to_string()));
        device
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The end of its input ends it, and it ends its servers.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

pub struct Device {
    environment: Vec<(&'static str, String)>,
}

impl Device {
    /// One in a topic, without a network: what it writes waits.
    pub fn alone(folder: &std::path::Path, ticket: &str) -> Self {
        let seed = json_lines(delta().arg("keygen"))[0]["seed"].as_str().unwrap().to_owned();
        let database = folder.join("alone.db").display().to_string();
        let environment =
            vec![("DELTA_DB", database), ("DELTA_KEY", seed), ("DELTA_TICKET", ticket.to_owned())];
        Self { environment }
    }

    /// `delta` with this device's options.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = delta();
        command.args(arguments).envs(self.environment.iter().cloned());
        command
    }

    /// All messages the topic has.
    pub fn messages(&self) -> Vec<Value> {
        json_lines(&mut self.command(&["tail", "--once", "--last", "1000000"]))
    }
}

/// A shell that shows `ready$ ` and has a command's environment, and its program as `$PROGRAM`.
pub fn in_a_shell(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-i").envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PS1", "ready$ ").env_remove("ENV").env("PROGRAM", command.get_program());
    shell
}

/// Sends a signal.
pub fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

/// Waits until a process, which may be nobody's child any more, has ended.
pub fn until_gone(pid: u32) {
    while state(pid).is_some_and(|(state, _)| state != "Z") {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The process whose command line holds `part`, among the children of another.
pub fn child_with(parent: u32, part: &str) -> Option<u32> {
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| state(*pid).is_some_and(|(_, of)| of == parent)).find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(part)
    })
}

/// A process's state and parent (proc_pid_stat(5)).
fn state(pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

pub fn ticket() -> String {
    json_lines(delta().args(["keygen", "--topic"]))[0]["ticket"].as_str().unwrap().to_owned()
}

pub fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["text"].as_str().unwrap()).collect()
}
