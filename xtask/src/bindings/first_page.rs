//! The first pages of the documentation, followed as a newcomer would: their code and their commands are taken from them, and
//! have to bring a first message across real relays and a real sync server. What a page shows as `… name` is filled in from
//! what `delta demo --serve` prints.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::output;
use crate::cargo;

/// What the programs of all pages print of the message, at the end of a line.
const SAID: &str = "hello";
/// What `delta demo --serve` prints and pages ask for.
const FACTS: [&str; 4] = ["sync", "directory", "records", "trust"];
const LAST_FACT: &str = "trust";

/// A page, with the network it tells to start.
pub struct FirstPage {
    text: String,
    network: Child,
    facts: String,
    folder: PathBuf,
}

impl FirstPage {
    /// Reads a page of `docs` and starts its network, whose files lie in a fresh folder `folder`.
    pub fn new(name: &str, folder: &Path) -> Result<Self, String> {
        let told = |error: std::io::Error| format!("{}: {error}", folder.display());
        if folder.exists() {
            std::fs::remove_dir_all(folder).map_err(told)?;
        }
        std::fs::create_dir_all(folder).map_err(told)?;
        let page = cargo::root().join("docs").join(name);
        let text = std::fs::read_to_string(&page).map_err(|error| format!("{name}: {error}"))?;
        let mut command = Command::new(cargo::programs("debug")?.join("delta"));
        command.args(["demo", "--serve", "--json", "--keep"]).arg(folder.join("network"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut network = command.spawn().map_err(|error| format!("delta demo did not start: {error}"))?;
        let mut facts = String::new();
        if let Some(out) = network.stdout.take() {
            BufReader::new(out).read_line(&mut facts).map_err(told)?;
        }
        let page = Self { text, network, facts, folder: folder.to_owned() };
        page.fact(LAST_FACT)?;
        Ok(page)
    }

    /// The folder of this run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the network printed.
    pub fn facts(&self) -> &str {
        &self.facts
    }

    /// The block of code number `number` in this language, with the facts filled in.
    pub fn code(&self, language: &str, number: usize) -> Result<String, String> {
        let fence = format!("```{language}\n");
        let mut blocks = self.text.split(&fence).skip(1);
        let block = blocks.nth(number).and_then(|rest| rest.split("```").next());
        let mut code = block.ok_or(format!("the page shows no {language} number {number}"))?.to_owned();
        for name in FACTS {
            code = code.replace(&format!("… {name}"), self.fact(name)?);
        }
        Ok(code)
    }

    /// The commands below that block of code: the indented lines up to the next paragraph.
    pub fn commands(&self, language: &str, number: usize) -> String {
        let block = self.text.split(&format!("```{language}\n")).nth(number + 1);
        let below = block.and_then(|block| block.split("```").nth(1)).unwrap_or_default();
        // A sentence may say before what they do.
        let lines = below.lines().skip_while(|line| !line.starts_with("    "));
        let commands = lines.take_while(|line| line.starts_with("    "));
        commands.map(|line| format!("{}\n", line.trim_start())).collect()
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.folder.join(name);
        let parent = path.parent().unwrap_or(&self.folder);
        let written = std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, text));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// Runs what the page leads to. It must print the message.
    pub fn run(&self, command: &mut Command) -> Result<(), String> {
        let printed = output(command)?;
        match printed.lines().any(|line| line == SAID || line.ends_with(&format!(" {SAID}"))) {
            true => Ok(()),
            false => Err(format!("the first page's program did not print {SAID}, but {printed:?}")),
        }
    }

    /// A string of the JSON that the network printed.
    fn fact(&self, name: &str) -> Result<&str, String> {
        let rest = self.facts.split_once(&format!("\"{name}\":\""));
        let value = rest.and_then(|(_, rest)| rest.split('"').next());
        value.ok_or(format!("delta demo did not say its {name}, but {:?}", self.facts))
    }
}

impl Drop for FirstPage {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.network.stdin.take());
        drop(self.network.wait());
    }
}

/// A shell that stops at the first command that fails.
pub fn shell(commands: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-e", "-c", commands]);
    command
}
