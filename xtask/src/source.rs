//! Just enough of Rust's lexical grammar to look at sources without being fooled by comments and strings.

use std::path::{Path, PathBuf};

/// A piece of source that matters to the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An identifier or keyword.
    Word(String),
    /// `::`
    PathSeparator,
    /// Any other visible character outside literals.
    Sign(char),
    /// The content of a string literal, escapes as written.
    Text(String),
}

/// A piece of source and the line it starts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Line, from 1.
    pub line: usize,
}

impl Token {
    /// The word, if it is one.
    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Whether it is this sign.
    pub fn is(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }
}

/// Every `.rs` file below `folder`, sorted. A folder that cannot be read is an error: what is not looked at is not
/// clean.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let unread = |error| format!("{}: {error}", folder.display());
        for entry in std::fs::read_dir(&folder).map_err(unread)? {
            let path = entry.map_err(unread)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The tokens of a file, without those under `#[cfg(test)]`.
pub fn production_tokens(path: &Path) -> Result<Vec<Token>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(without_tests(&tokens(&text)))
}

/// Whether a file holds tests only.
pub fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Splits source into tokens. Comments, numbers, characters and lifetimes are left out.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: text, line: 1, out: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.step();
    }
    lexer.out
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    out: Vec<Token>,
}

impl Lexer<'_> {
    fn step(&mut self) {
        let Some(first) = self.rest.chars().next() else { return };
        if self.rest.starts_with("//") {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.skip(block_comment(self.rest));
        } else if let Some((open, hashes)) = string_opening(self.rest) {
            self.string(open, hashes);
        } else if first == '\'' {
            self.skip(quote(self.rest));
        } else if first.is_alphabetic() || first == '_' {
            let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
            self.push(Kind::Word(self.rest[..end].to_owned()), end);
        } else if first.is_ascii_digit() {
            let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
            self.skip(end);
        } else if self.rest.starts_with("::") {
            self.push(Kind::PathSeparator, 2);
        } else if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else {
            self.push(Kind::Sign(first), first.len_utf8());
        }
    }

    fn string(&mut self, open: usize, hashes: Option<usize>) {
        let body = &self.rest[open..];
        let (length, close) = match hashes {
            Some(hashes) => {
                let end = format!("\"{}", "#".repeat(hashes));
                (body.find(&end).unwrap_or(body.len()), end.len())
            }
            None => (plain_string(body), 1),
        };
        let whole = (open + length + close).min(self.rest.len());
        self.push(Kind::Text(body[..length].to_owned()), whole);
    }

    fn push(&mut self, kind: Kind, bytes: usize) {
        self.out.push(Token { kind, line: self.line });
        self.skip(bytes);
    }

    fn skip(&mut self, bytes: usize) {
        let (done, rest) = self.rest.split_at(bytes);
        self.line += done.matches('\n').count();
        self.rest = rest;
    }
}

/// Where a string literal's content starts, and for a raw one how many `#` it has.
fn string_opening(text: &str) -> Option<(usize, Option<usize>)> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| {
            if prefix.ends_with('r') {
                rest.trim_start_matches('#').starts_with('"')
            } else {
                rest.starts_with('"')
            }
        })
    })?;
    let hashes = text[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
    Some((prefix.len() + hashes + 1, prefix.ends_with('r').then_some(hashes)))
}

/// Length of a plain string's content.
fn plain_string(body: &str) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at,
            _ => {}
        }
    }
    body.len()
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of a character literal, or of the quote alone before a lifetime.
fn quote(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            chars.next();
            chars.find(|(_, c)| *c == '\'').map_or(text.len(), |(at, _)| at + 1)
        }
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

/// Leaves out every item under `#[cfg(test)]` (or a `cfg` that names `test` without `not`).
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match test_attribute(&tokens[at..]) {
            Some(length) => at += length + item(&tokens[at + length..]),
            None => {
                out.push(token.clone());
                at += 1;
            }
        }
    }
    out
}

fn test_attribute(tokens: &[Token]) -> Option<usize> {
    let [hash, open, cfg, ..] = tokens else { return None };
    if !(hash.is('#') && open.is('[') && cfg.word() == Some("cfg")) {
        return None;
    }
    let end = tokens.iter().position(|token| token.is(']'))?;
    let names = |word| tokens[..end].iter().any(|token| token.word() == Some(word));
    (names("test") && !names("not")).then_some(end + 1)
}

/// Length of the item that starts here: up to its closing brace, or its semicolon.
fn item(tokens: &[Token]) -> usize {
    let (mut braces, mut others) = (0_i32, 0_i32);
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Sign('{') => braces += 1,
            Kind::Sign('}') => {
                braces -= 1;
                if braces == 0 {
                    return at + 1;
                }
            }
            Kind::Sign('(' | '[') => others += 1,
            Kind::Sign(')' | ']') => others -= 1,
            Kind::Sign(';') if braces == 0 && others == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        without_tests(&tokens(text)).iter().filter_map(|token| token.word().map(str::to_owned)).collect()
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(files(&here.join("src")).unwrap().contains(&here.join("src/source.rs")));
        assert!(files(&here.join("no such folder")).unwrap_err().contains("no such folder"));
    }

    #[test]
    fn comments_strings_and_characters_hold_no_words() {
        assert_eq!(words("a // b\n/* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(words(r##"g "h \" i" r#"j " k"# b"l" m"##), ["g", "m"]);
        assert_eq!(words(r"n '\'' 'o' &'p q '\u{41}' r"), ["n", "p", "q", "r"]);
    }

    #[test]
    fn strings_keep_their_content_and_line() {
        let text = tokens("x\n\"SELECT 1\"");
        assert_eq!(text[1], Token { kind: Kind::Text("SELECT 1".to_owned()), line: 2 });
    }

    #[test]
    fn test_items_are_left_out() {
        assert_eq!(words("a #[cfg(test)] mod tests { fn b() { c } } d"), ["a", "d"]);
        assert_eq!(words("a #[cfg(test)] fn b(x: [u8; 4]) { c } d"), ["a", "d"]);
        assert_eq!(words("a #[cfg(test)] mod b; d"), ["a", "d"]);
        assert_eq!(words("#[cfg(not(test))] a"), ["cfg", "not", "test", "a"]);
    }
}
