//! What is being written.

use delta_core::limits::MAX_TEXT;

use crate::text::columns;

/// A text and a place in it.
#[derive(Default)]
pub struct Composer {
    text: String,
    /// Byte offset of a character, or the end.
    cursor: usize,
}

impl Composer {
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What stands before the cursor.
    pub fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    fn after(&self) -> &str {
        self.text.get(self.cursor..).unwrap_or_default()
    }

    /// Writes at the cursor; `false` when a message cannot be that long.
    pub fn insert(&mut self, text: &str) -> bool {
        if self.text.len() + text.len() > MAX_TEXT {
            return false;
        }
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
        true
    }

    /// Takes away the letter before the cursor, with its marks.
    pub fn backspace(&mut self) {
        let end = self.cursor;
        self.left();
        self.text.replace_range(self.cursor..end, "");
    }

    /// Takes away the letter after the cursor, with its marks.
    pub fn delete(&mut self) {
        let start = self.cursor;
        self.right();
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    /// Takes away the word before the cursor.
    pub fn backspace_word(&mut self) {
        let end = self.cursor;
        let word = self.before().trim_end();
        self.cursor = word.rfind(char::is_whitespace).map_or(0, |blank| {
            blank + word.get(blank..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8)
        });
        self.text.replace_range(self.cursor..end, "");
    }

    /// One letter to the left.
    pub fn left(&mut self) {
        while let Some(letter) = self.before().chars().next_back() {
            self.cursor -= letter.len_utf8();
            if !is_mark(letter) {
                return;
            }
        }
    }

    /// One letter to the right.
    pub fn right(&mut self) {
        let mut letters = self.after().chars();
        let letter = letters.next().map_or(0, char::len_utf8);
        let marks: usize = letters.take_while(|letter| is_mark(*letter)).map(char::len_utf8).sum();
        self.cursor += letter + marks;
    }

    /// To the beginning.
    pub const fn home(&mut self) {
        self.cursor = 0;
    }

    /// To the end.
    pub const fn end(&mut self) {
        self.cursor = self.text.len();
    }

    /// Empties it; gives what was in it.
    pub fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }
}

/// What takes no column of its own belongs to the letter before it.
fn is_mark(letter: char) -> bool {
    columns(letter) == 0 && !letter.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_written_and_taken_away_where_the_cursor_is() {
        let mut composer = Composer::default();
        assert!(composer.insert("häß"));
        composer.left();
        composer.backspace();
        assert!(composer.insert("o"));
        assert_eq!((composer.text(), composer.before()), ("hoß", "ho"));
        composer.right();
        composer.right();
        composer.backspace();
        composer.home();
        composer.backspace();
        composer.left();
        assert_eq!((composer.text(), composer.before()), ("ho", ""));
        composer.delete();
        assert_eq!(composer.text(), "o");
        composer.end();
        composer.delete();
        assert_eq!(composer.before(), "o");
        assert_eq!((composer.take(), composer.text()), ("o".to_owned(), ""));
    }

    #[test]
    fn a_letter_and_its_marks_go_together() {
        let mut composer = Composer::default();
        assert!(composer.insert("ae\u{301}\u{323}b"));
        composer.left();
        composer.left();
        assert_eq!(composer.before(), "a");
        composer.right();
        composer.backspace();
        assert_eq!(composer.text(), "ab");
        composer.home();
        assert!(composer.insert("\u{301}"));
        composer.backspace();
        assert_eq!(composer.text(), "ab", "a mark without a letter goes, too");
    }

    #[test]
    fn words_are_taken_away_backwards() {
        let mut composer = Composer::default();
        assert!(composer.insert("one\u{2003}zwei  three "));
        composer.backspace_word();
        assert_eq!(composer.text(), "one\u{2003}zwei  ");
        composer.backspace_word();
        assert_eq!(composer.text(), "one\u{2003}");
        composer.backspace_word();
        composer.backspace_word();
        assert_eq!(composer.text(), "");
    }

    #[test]
    fn it_holds_the_longest_message_and_no_more() {
        let mut composer = Composer::default();
        assert!(composer.insert(&"x".repeat(MAX_TEXT)));
        assert!(!composer.insert("x"));
        assert_eq!(composer.text().len(), MAX_TEXT);
    }
}
