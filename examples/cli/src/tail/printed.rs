//! Which messages were printed, in little memory however many there are.

use std::collections::{BTreeMap, HashMap};

use delta_core::identity::Author;

/// Ranges kept per author. Beyond it the oldest two become one: what arrives between them that late is not printed.
const MAX_RANGES: usize = 1024;

/// Numbers of printed messages, by author. An author's messages are shown in the order of their numbers, so nearly all
/// lie in one range; what is no message leaves a hole.
#[derive(Debug, Default)]
pub struct Printed(HashMap<Author, Ranges>);

/// First number to last number.
type Ranges = BTreeMap<u32, u32>;

impl Printed {
    /// Notes it; `false` when it was printed before.
    pub fn add(&mut self, author: Author, number: u32) -> bool {
        if self.has(author, number) {
            return false;
        }
        // What an author wrote before the first that is printed is older than what was asked for.
        let ranges = self.0.entry(author).or_insert_with(|| Ranges::from([(0, number)]));
        let before = ranges.range(..=number).next_back().map(|(first, last)| (*first, *last));
        let (first, mut last) = match before {
            Some((first, last)) if last.saturating_add(1) >= number => (first, last.max(number)),
            _ => (number, number),
        };
        if let Some(next) = last.checked_add(1).and_then(|next| ranges.remove(&next)) {
            last = next;
        }
        ranges.insert(first, last);
        if ranges.len() > MAX_RANGES
            && let Some((oldest, _)) = ranges.pop_first()
            && let Some((_, last)) = ranges.pop_first()
        {
            ranges.insert(oldest, last);
        }
        true
    }

    /// Whether it was printed.
    pub fn has(&self, author: Author, number: u32) -> bool {
        let before = self.0.get(&author).and_then(|ranges| ranges.range(..=number).next_back());
        before.is_some_and(|(_, last)| *last >= number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Author = Author([1; 32]);
    const BOB: Author = Author([2; 32]);

    #[test]
    fn each_number_is_new_once() {
        let mut printed = Printed::default();
        // 8 is filled in late; 11 never comes: it is no message.
        for number in [7, 9, 10, 8, 12, u32::MAX] {
            assert!(printed.add(ALICE, number), "{number}");
        }
        for number in [7, 8, 9, 10, 12, u32::MAX] {
            assert!(!printed.add(ALICE, number), "{number}");
        }
        assert!(!printed.has(ALICE, 11) && !printed.has(ALICE, 13));
        assert_eq!(printed.0[&ALICE], Ranges::from([(0, 10), (12, 12), (u32::MAX, u32::MAX)]));
        assert!(printed.add(BOB, 8));
    }

    #[test]
    fn what_an_author_wrote_before_the_first_is_old() {
        let mut printed = Printed::default();
        assert!(printed.add(ALICE, 5));
        assert!(!printed.add(ALICE, 4));
        assert!(printed.add(ALICE, 6));
    }

    #[test]
    fn ranges_have_a_limit() {
        let mut printed = Printed::default();
        for place in 0..MAX_RANGES as u32 {
            assert!(printed.add(ALICE, 10 + 2 * place));
        }
        assert_eq!(printed.0[&ALICE].len(), MAX_RANGES);
        assert!(!printed.has(ALICE, 11));
        assert!(printed.add(ALICE, 10 + 2 * MAX_RANGES as u32));
        assert_eq!(printed.0[&ALICE].len(), MAX_RANGES);
        assert!(printed.has(ALICE, 11) && !printed.has(ALICE, 13));
    }
}
