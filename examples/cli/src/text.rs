//! Text from other people, made fit for a terminal: nothing in it moves the cursor, colours, turns the writing around,
//! hides, or takes more room than it says.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Marks (accents, vowel points) that one letter keeps. Languages need up to three; more only grow into other lines.
const MAX_MARKS: usize = 4;
/// Stands for what is not shown.
const SUBSTITUTE: char = '\u{fffd}';

/// One line of it.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    // `None`: there is no letter that a mark could stand on.
    let mut marks: Option<usize> = None;
    for letter in text.chars() {
        let letter = match letter {
            '\t' => ' ',
            '\n' => '↵',
            letter if is_joiner(letter) => continue,
            letter if letter.is_control() || turns(letter) || hides(letter) => SUBSTITUTE,
            letter => letter,
        };
        if letter.width() == Some(0) {
            match &mut marks {
                Some(count) if *count < MAX_MARKS => *count += 1,
                _ => continue,
            }
        } else {
            marks = Some(0);
        }
        shown.push(letter);
    }
    shown
}

/// At most so many columns of it.
pub fn cut(text: &str, width: usize) -> String {
    let mut used = 0;
    let fits = |letter: &char| {
        used += columns(*letter);
        used <= width
    };
    plain(text).chars().take_while(fits).collect()
}

/// Columns that a character takes.
pub fn columns(letter: char) -> usize {
    letter.width().unwrap_or(0)
}

/// Columns that a line takes that [`plain`] gave.
pub fn width(line: &str) -> usize {
    line.chars().map(columns).sum()
}

/// Lines of at most `width` columns, broken between words where that is possible: at most `most` of them, and whether
/// there were more.
pub fn wrap(text: &str, width: usize, most: usize) -> (Vec<String>, bool) {
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split_inclusive(' ') {
        if used > 0 && used + word.trim_end().width() > width {
            lines.push(std::mem::take(&mut line).trim_end().to_owned());
            used = 0;
        }
        for letter in word.chars() {
            let columns = columns(letter);
            if used + columns > width && used > 0 {
                // A blank at the end of a line needs no column.
                if letter == ' ' {
                    continue;
                }
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            if lines.len() >= most {
                return (lines, true);
            }
            line.push(letter);
            used += columns;
        }
    }
    lines.push(line);
    (lines, false)
}

/// Hours and minutes of the day, UTC.
pub fn clock(ms: u64) -> String {
    let minutes = ms / 60_000;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

/// The day, UTC. (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.)
pub fn date(ms: u64) -> String {
    let days = ms / 86_400_000 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Joiners and variation selectors: how they change a width, terminals do not agree. Letters without them can be read.
const fn is_joiner(letter: char) -> bool {
    matches!(letter, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Line separators, and what turns the direction of writing.
const fn turns(letter: char) -> bool {
    matches!(
        letter,
        '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// What is there and not seen: two names that differ in it look the same.
const fn hides(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'
            | '\u{2060}'..='\u{2065}'
            | '\u{206a}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e00ff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_write_cannot_steer_the_terminal() {
        let table = [
            // Colours, the clipboard (OSC 52), a title, the bell, C1 controls, carriage return and delete.
            ("a\u{1b}[31mb", "a\u{fffd}[31mb"),
            ("\u{1b}]52;c;aGk=\u{7}", "\u{fffd}]52;c;aGk=\u{fffd}"),
            ("\u{9b}2J\u{9d}0;x\u{9c}", "\u{fffd}2J\u{fffd}0;x\u{fffd}"),
            ("a\rb\u{7f}\u{8}\0", "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}"),
            // The writing is not turned around.
            ("\u{202e}cod.exe\u{202c}", "\u{fffd}cod.exe\u{fffd}"),
            ("\u{2066}x\u{2069}\u{200f}\u{61c}", "\u{fffd}x\u{fffd}\u{fffd}\u{fffd}"),
            // Neither are lines ended.
            ("a\nb\u{2028}c\u{2029}d\u{85}e", "a↵b\u{fffd}c\u{fffd}d\u{fffd}e"),
            // What cannot be seen is seen.
            ("ad\u{200b}min\u{feff}\u{e0041}\u{3164}", "ad\u{fffd}min\u{fffd}\u{fffd}\u{fffd}"),
            // Joined emoji come apart: each has its own two columns.
            ("👩\u{200d}🚀❤\u{fe0f}", "👩🚀❤"),
            // What languages need stays.
            ("e\u{301} \u{5e9}\u{5c1}\u{5b8} ไทย你好", "e\u{301} \u{5e9}\u{5c1}\u{5b8} ไทย你好"),
        ];
        for (text, shown) in table {
            assert_eq!(plain(text), shown, "{text:?}");
        }
    }

    #[test]
    fn marks_do_not_pile_up_and_do_not_stand_on_what_is_before_the_text() {
        let pile = |marks: usize| format!("a{}", "\u{300}".repeat(marks));
        assert_eq!(plain(&pile(MAX_MARKS)), pile(MAX_MARKS));
        assert_eq!(plain(&pile(10_000)), pile(MAX_MARKS));
        assert_eq!(plain("\u{300}\u{300}a"), "a");
    }

    #[test]
    fn lines_break_between_words_and_within_those_that_are_too_long() {
        let wrapped = |text, width| wrap(text, width, 9).0;
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrapped("", 3), [""]);
        // Two columns each.
        assert_eq!(wrapped("你好吗", 4), ["你好", "吗"]);
        assert_eq!(wrapped("一", 1), ["一"], "it does not fit, and is not lost");
    }

    #[test]
    fn so_many_lines_and_no_more() {
        assert_eq!(wrap("a b c", 1, 3), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], false));
        assert_eq!(wrap("a b c d", 1, 3).0.len(), 3);
        assert!(wrap("a b c d", 1, 3).1);
        assert!(wrap("abcd", 1, 3).1);
    }

    #[test]
    fn a_cut_counts_columns() {
        assert_eq!(cut("ada lovelace", 3), "ada");
        assert_eq!(cut("你好", 3), "你");
    }

    #[test]
    fn times_are_those_of_utc() {
        assert_eq!(
            (clock(0), clock(86_399_999), clock(86_400_000)),
            ("00:00".into(), "23:59".into(), "00:00".into())
        );
        // `date -u -d @…` says so.
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (1_709_251_199, "2024-02-29"),
            (1_735_689_599, "2024-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds * 1000), day);
        }
        assert!(date(u64::MAX).ends_with(|last: char| last.is_ascii_digit()));
    }
}
