//! The configuration file, below the command line and the environment.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// The options are wrong; the operator is at fault.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// An option without a default is given nowhere.
    #[error("--{0} is missing: give it on the command line, as {env} in the environment or in the configuration file", env = env_name(.0))]
    Missing(&'static str),
    /// A value is out of range, or contradicts another one.
    #[error("--{name}: {why}")]
    Invalid {
        /// The option.
        name: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the configuration file is wrong.
    #[error("{}, line {line}: {why}", path.display())]
    ConfigLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

fn env_name(option: &str) -> String {
    format!("DELTA_{}", option.replace('-', "_").to_uppercase())
}

/// Lines of `name = value`, where a value may stand in double quotes, `#` starts a comment line, and only the names
/// in [`REPEATED`] may occur more than once.
#[derive(Debug, Default)]
pub struct ConfigFile {
    path: PathBuf,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    number: usize,
    name: String,
    value: String,
}

/// Options that may stand in a file several times.
const REPEATED: [&str; 1] = ["limit"];

impl ConfigFile {
    /// Reads a file; none at all is an empty one.
    pub fn read(path: Option<&Path>) -> Result<Self, OptionsError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| OptionsError::Config { path: path.to_owned(), source })?;
        let mut file = Self { path: path.to_owned(), lines: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            let Some((name, value)) = line.split_once('=').filter(|(_, value)| !value.trim().is_empty())
            else {
                return Err(file.bad(number, "expected `name = value`"));
            };
            let value = value.trim();
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            let name = name.trim().trim_start_matches("--").replace('_', "-");
            if !REPEATED.contains(&name.as_str()) && file.lines.iter().any(|other| other.name == name) {
                return Err(file.bad(number, format!("`{name}` stands here a second time")));
            }
            file.lines.push(Line { number, name, value: value.to_owned() });
        }
        Ok(file)
    }

    /// Fills in an option that neither the command line nor the environment gave.
    pub fn option<T: FromStr<Err: Display>>(
        &mut self,
        option: &mut Option<T>,
        name: &str,
    ) -> Result<(), OptionsError> {
        let Some(line) = self.take(name).pop() else { return Ok(()) };
        let value = self.parse(&line, &line.value)?;
        option.get_or_insert(value);
        Ok(())
    }

    /// Fills in a switch. One that is on elsewhere stays on.
    pub fn switch(&mut self, switch: &mut bool, name: &str) -> Result<(), OptionsError> {
        let mut given = None;
        self.option(&mut given, name)?;
        *switch |= given.unwrap_or(false);
        Ok(())
    }

    /// Fills in a comma-separated list that was given nowhere else.
    pub fn list<T: FromStr<Err: Display>>(
        &mut self,
        list: &mut Vec<T>,
        name: &str,
    ) -> Result<(), OptionsError> {
        let values = self.values(name)?;
        if list.is_empty() {
            *list = values;
        }
        Ok(())
    }

    /// Every value of a comma-separated option, over all its lines.
    pub fn values<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Vec<T>, OptionsError> {
        let lines = self.take(name);
        let parts = lines.iter().flat_map(|line| line.value.split(',').map(move |part| (line, part)));
        parts.map(|(line, part)| self.parse(line, part.trim())).collect()
    }

    fn take(&mut self, name: &str) -> Vec<Line> {
        self.lines.extract_if(.., |line| line.name == name).collect()
    }

    fn parse<T: FromStr<Err: Display>>(&self, line: &Line, text: &str) -> Result<T, OptionsError> {
        text.parse().map_err(|error: T::Err| self.bad(line.number, format!("--{}: {error}", line.name)))
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), OptionsError> {
        match self.lines.first() {
            Some(line) => Err(self.bad(line.number, format!("there is no option `{}`", line.name))),
            None => Ok(()),
        }
    }

    fn bad(&self, line: usize, why: impl Into<String>) -> OptionsError {
        OptionsError::ConfigLine { path: self.path.clone(), line, why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ConfigFile, OptionsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        ConfigFile::read(Some(file.path()))
    }

    #[test]
    fn what_was_given_elsewhere_wins_and_names_may_be_spelled_as_flags() {
        let mut file =
            read("# a comment\n\nurl = \"https://a.example\"\n--batch_ms=20\nallow_private = true").unwrap();
        let (mut url, mut batch, mut switch) = (Some("given".to_owned()), None::<u64>, false);
        file.option(&mut url, "url").unwrap();
        file.option(&mut batch, "batch-ms").unwrap();
        file.switch(&mut switch, "allow-private").unwrap();
        assert_eq!((url.as_deref(), batch, switch), (Some("given"), Some(20), true));
        file.finish().unwrap();
    }

    #[test]
    fn lists_are_split_and_limits_may_be_repeated() {
        let mut file = read("trust = 1, 2\nlimit = 3\nlimit = 4,5").unwrap();
        let mut trust: Vec<u8> = Vec::new();
        file.list(&mut trust, "trust").unwrap();
        assert_eq!(trust, [1, 2]);
        assert_eq!(file.values::<u8>("limit").unwrap(), [3, 4, 5]);
    }

    #[test]
    fn errors_name_the_line() {
        for text in ["data = a\nnonsense", "data = a\ndata = b", "data = a\nurl =", "data = a\nurl = \"\""] {
            let refused = read(text).and_then(|mut file| file.option(&mut None::<u8>, "url"));
            assert!(refused.unwrap_err().to_string().contains("line 2"), "{text}");
        }
        let mut file = read("listen = nonsense\ncolour = red").unwrap();
        let error = file.option(&mut None::<std::net::SocketAddr>, "listen").unwrap_err().to_string();
        assert!(error.contains("line 1: --listen"), "{error}");
        let error = file.finish().unwrap_err().to_string();
        assert!(error.contains("line 2: there is no option `colour`"), "{error}");
        assert!(ConfigFile::read(Some(Path::new("/nowhere/at.all"))).is_err());
        ConfigFile::read(None).unwrap().finish().unwrap();
    }
}
