use std::path::Path;

use delta_core::entropy::SeededEntropy;
use delta_core::identity::{Millis, OperationId};
use delta_core::onion::control::{Action, Control, Metadata};
use delta_core::ops::{Body, Content, DeviceKey, Ticket, VerifiedOperation, create};
use delta_topic_log::{HistoryQuery, TopicLogs, Words, Write};

use super::*;

/// A public channel on disk, its index, and who writes to it.
struct Bench {
    _dir: tempfile::TempDir,
    ticket: Ticket,
    topic: TopicId,
    logs: TopicLogs<Sql>,
    parts: IndexerParts,
    searcher: Searcher,
    authors: Vec<Writing>,
    now: u64,
}

/// An author's log.
struct Writing {
    key: DeviceKey,
    last: Option<VerifiedOperation>,
}

impl Writing {
    fn write(&mut self, ticket: &Ticket, content: Content) -> (OperationId, Vec<u8>) {
        let (seq_num, backlink) = match &self.last {
            None => (0, None),
            Some(last) => (last.seq_num() + 1, Some(last.id())),
        };
        let made = create(&self.key, ticket.log(), seq_num, backlink, &Body::new(content)).unwrap();
        let envelope = ticket.keys().seal(made.header(), made.body_bytes()).unwrap();
        let id = made.id();
        self.last = Some(made);
        (id, envelope)
    }
}

fn text(text: &str) -> Content {
    Content::MessageSend { text: text.to_owned(), reply: None, mentions: Vec::new(), attachments: Vec::new() }
}

fn secret() -> GenerationSecret {
    GenerationSecret::from_bytes([1; 32])
}

fn parts(dir: &Path) -> IndexerParts {
    let path = dir.join("search.db");
    IndexerParts {
        logs: Sql::reader(&dir.join("topics.db")).unwrap(),
        index: Index::writer(&path).unwrap().0,
        path,
        secret: secret(),
        disk: Arc::default(),
        metrics: Arc::default(),
        damaged: Arc::default(),
    }
}

impl Bench {
    /// A channel, or with `public` off a topic like one that has never had a control message.
    fn new(public: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let logs = Sql::writer(&dir.path().join("topics.db"), 0).unwrap();
        let mut logs = TopicLogs::new(logs, secret());
        let ticket = Ticket::generate_public(&mut SeededEntropy::new([1; 32])).unwrap();
        let topic = ticket.topic();
        if public {
            let about = Metadata { name: "Garden".to_owned(), description: None };
            logs.control(&topic, &Control { counter: 1, action: Action::Metadata(about) }).unwrap();
            logs.commit().unwrap();
        }
        let parts = parts(dir.path());
        let (index, log) = (dir.path().join("search.db"), dir.path().join("topics.db"));
        let searcher = Searcher::open(&index, &log).unwrap();
        let authors =
            [1, 2, 3].map(|seed| Writing { key: DeviceKey::from_bytes(&[seed; 32]), last: None }).into();
        Self { _dir: dir, ticket, topic, logs, parts, searcher, authors, now: 1000 }
    }

    fn append(&mut self, envelope: &[u8]) {
        self.now += 10;
        let now = Millis(self.now);
        self.logs.append(now, &self.topic, &[envelope], Write::Signed, &mut Vec::new()).unwrap();
        self.logs.commit().unwrap();
    }

    fn write(&mut self, author: usize, content: Content) -> OperationId {
        let (id, envelope) = self.authors[author].write(&self.ticket, content);
        self.append(&envelope);
        id
    }

    /// Follows the logs to their end.
    fn follow(&self) {
        for channel in self.parts.logs.channels().unwrap() {
            while step(&self.parts, &channel).unwrap().is_some() {}
        }
    }

    fn ask(&self, query: &SearchQuery) -> SearchPage {
        self.searcher.answer(&secret(), &self.topic, query).unwrap()
    }

    fn seqs(&self, words: &str) -> Vec<u64> {
        let words = Words::parse(words).unwrap();
        seqs(&self.ask(&SearchQuery { words, ..everything() }))
    }

    fn problems(&self) -> Vec<String> {
        check(&self.parts.index, &self.parts.logs, &secret()).unwrap()
    }
}

fn everything() -> SearchQuery {
    SearchQuery { range: HistoryQuery { limit: 100, ..HistoryQuery::default() }, ..SearchQuery::default() }
}

fn seqs(page: &SearchPage) -> Vec<u64> {
    page.found.iter().map(|(_, op)| op.seq.0).collect()
}

/// By words, author, times, seqs and any mix of them: what a walk over the whole log finds.
#[test]
fn a_search_finds_what_a_walk_over_the_log_finds() {
    const VOCABULARY: [&str; 6] = ["apple", "Pear", "plum", "Äpfel", "fig-tree", "nut"];
    let mut bench = Bench::new(true);
    // (author, words, received) of each operation, by seq.
    let mut log = Vec::new();
    for n in 0..70usize {
        let words: Vec<&str> =
            VOCABULARY.into_iter().enumerate().filter(|(i, _)| n >> i & 1 == 1).map(|w| w.1).collect();
        bench.write(n % 3, text(&words.join(", ")));
        log.push((n % 3, words, bench.now));
    }
    bench.follow();
    let authors: Vec<_> = bench.authors.iter().map(|writing| writing.key.author()).collect();
    let texts = [
        "",
        "apple",
        "PEAR",
        "apple pear",
        "apfel nut",
        "fig tree",
        "\"tree\" fig",
        "nut NOT plum",
        "quince",
    ];
    for looked_for in texts {
        for author in [None, Some(1)] {
            for (after, before) in [(None, None), (Some(0), None), (Some(20), Some(60)), (None, Some(40))] {
                for (from, to) in [(None, None), (Some(1200), Some(1500))] {
                    for limit in [3, 100] {
                        let range = HistoryQuery {
                            after: after.map(Seq),
                            before: before.map(Seq),
                            from: from.map(Millis),
                            to: to.map(Millis),
                            limit,
                        };
                        let words = Words::parse(looked_for).unwrap();
                        let query =
                            SearchQuery { words, author: author.map(|index: usize| authors[index]), range };
                        let wanted: Vec<String> = plain(looked_for);
                        let mut expected: Vec<u64> = (1..=log.len() as u64)
                            .filter(|seq| {
                                let (by, words, received) = &log[*seq as usize - 1];
                                let has = plain(&words.join(" "));
                                author.is_none_or(|author| author == *by)
                                    && after.is_none_or(|after| *seq > after)
                                    && before.is_none_or(|before| *seq < before)
                                    && from.is_none_or(|from| *received > from)
                                    && to.is_none_or(|to| *received < to)
                                    && wanted.iter().all(|word| has.contains(word))
                            })
                            .collect();
                        let kept = usize::from(limit).min(expected.len());
                        if after.is_some() {
                            expected.truncate(kept);
                        } else {
                            expected.drain(..expected.len() - kept);
                        }
                        let page = bench.ask(&query);
                        assert_eq!(seqs(&page), expected, "{query:?}");
                        assert_eq!(page.indexed, Seq(70));
                        for (author, op) in &page.found {
                            let (by, _, received) = &log[op.seq.0 as usize - 1];
                            assert_eq!((*author, op.received), (authors[*by], Millis(*received)));
                        }
                    }
                }
            }
        }
    }
    assert_eq!(bench.problems(), [""; 0]);
}

/// Words in the sense of the index: letters and digits, without case and marks.
fn plain(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace('ä', "a");
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn nothing_in_a_text_is_an_operator_and_no_text_is_an_error() {
    let mut bench = Bench::new(true);
    bench.write(0, text("a NEAR b \" ' ( ) * ^ : - text author"));
    bench.follow();
    for hostile in [
        "\"",
        "\"\"",
        "'",
        "(",
        ")",
        "*",
        "a*",
        "^a",
        "NEAR",
        "NEAR(",
        "author:",
        "text : a",
        "a OR",
        "a AND b",
        "-",
        "+",
        "{",
        "}",
        "\\",
        "\u{0}",
        "a\u{0}b",
        "NOT",
        "😀",
        "{author} : a",
        "a\" OR author : \"b",
        ";DROP TABLE entries",
    ] {
        let found = bench.seqs(hostile);
        assert!(found.is_empty() || found == [1], "{hostile:?}: {found:?}");
    }
    assert_eq!(bench.seqs("a* near"), [1]);
    assert_eq!(bench.seqs("NOT"), [0u64; 0]);
    assert_eq!(bench.seqs("!?"), [1], "no word: it does not restrict");
    assert_eq!(bench.seqs("!? near"), [1]);
    assert_eq!(bench.seqs("!? far"), [0u64; 0]);
    let author = bench.authors[0].key.author().to_string();
    assert_eq!(bench.seqs(&author), [0u64; 0], "an author is no word");
}

#[test]
fn a_topic_that_is_no_channel_answers_like_an_unknown_one() {
    let mut bench = Bench::new(false);
    bench.write(0, text("private apple"));
    bench.follow();
    let unknown = SearchPage::empty(secret().generation(&bench.topic));
    assert_eq!(bench.ask(&everything()), unknown);
    assert_eq!(bench.parts.index.channels().unwrap(), []);
    // Even if an index had it.
    let state = bench.logs.state(&bench.topic).unwrap();
    bench.parts.index.add(&bench.topic, state.head, state.chain.unwrap()).unwrap();
    assert_eq!(bench.ask(&everything()), unknown);
}

#[test]
fn case_42_an_operation_that_is_not_valid_is_not_found() {
    let mut bench = Bench::new(true);
    let (_, good) = bench.authors[0].write(&bench.ticket, text("apple"));
    let mut forged = good.clone();
    // The last byte of the signature: 3 bytes of envelope, 102 of header.
    forged[3 + 101] ^= 1;
    bench.append(&forged);
    bench.append(b"\x00no operation");
    bench.append(b"\x03sealed");
    bench.append(&good);
    bench.follow();
    assert_eq!(bench.seqs("apple"), [4]);
    assert_eq!(bench.seqs(""), [4]);
    assert_eq!(bench.ask(&everything()).indexed, Seq(4), "what is none is passed over");
    assert_eq!(bench.problems(), [""; 0]);
}

#[test]
fn evicted_operations_are_not_shown_and_leave_the_index() {
    let mut bench = Bench::new(true);
    for n in 1..=10 {
        bench.write(0, text(&format!("apple {n}")));
    }
    bench.follow();
    bench.logs.evict(&bench.topic, Seq(7)).unwrap();
    bench.logs.commit().unwrap();
    assert_eq!(bench.seqs("apple"), [8, 9, 10], "before the index knows");
    bench.follow();
    let position = bench.parts.index.position(&bench.topic).unwrap().unwrap();
    assert_eq!(bench.parts.index.entries(&position).unwrap().len(), 3);
    assert_eq!(bench.seqs("apple"), [8, 9, 10]);
    assert_eq!(bench.problems(), [""; 0]);
    // What was evicted before it was indexed.
    bench.write(0, text("apple"));
    bench.write(0, text("apple"));
    bench.logs.evict(&bench.topic, Seq(11)).unwrap();
    bench.logs.commit().unwrap();
    bench.follow();
    assert_eq!(bench.seqs("apple"), [12]);
    assert_eq!(bench.problems(), [""; 0]);
}

#[test]
fn a_deleted_channel_leaves_the_index() {
    let mut bench = Bench::new(true);
    bench.write(0, text("apple"));
    bench.follow();
    bench.logs.control(&bench.topic, &Control { counter: 2, action: Action::Delete }).unwrap();
    bench.logs.commit().unwrap();
    assert_eq!(bench.ask(&everything()).found, [], "before the index knows");
    bench.follow();
    assert_eq!(bench.parts.index.channels().unwrap(), []);
}

/// A log restored from a backup, imported, or wiped: the index of the other one counts as empty, and is made anew.
#[test]
fn the_index_of_another_log_is_not_shown_and_is_made_anew() {
    let mut bench = Bench::new(true);
    bench.write(0, text("apple"));
    bench.write(1, text("pear"));
    bench.follow();
    let before = bench.parts.index.position(&bench.topic).unwrap().unwrap();
    let other = GenerationSecret::from_bytes([2; 32]);
    bench.logs.storage_mut().rechain(&other).unwrap();
    assert_eq!(bench.searcher.answer(&other, &bench.topic, &everything()).unwrap().indexed, Seq(0));
    bench.parts.secret = other.clone();
    assert_eq!(check(&bench.parts.index, &bench.parts.logs, &other).unwrap(), [""; 0], "behind, not wrong");
    bench.follow();
    let after = bench.parts.index.position(&bench.topic).unwrap().unwrap();
    assert_ne!((before.seq, before.chain), (after.seq, after.chain));
    let page = bench.searcher.answer(&other, &bench.topic, &everything()).unwrap();
    assert_eq!((seqs(&page), page.indexed), (vec![1, 2], Seq(2)));
}

/// A message that its author deleted is not found by its words, nor are its edits, in whatever order they come.
#[test]
fn deleted_messages_are_not_found_by_words() {
    let mut bench = Bench::new(true);
    let kept = bench.write(0, text("apple one"));
    let gone = bench.write(0, text("apple two"));
    bench.write(0, Content::MessageEdit { target: gone, text: "apple edited".to_owned() });
    bench.write(1, Content::MessageDelete { target: kept });
    bench.follow();
    assert_eq!(bench.seqs("apple"), [1, 2, 3], "somebody else's delete does nothing");
    bench.write(0, Content::MessageDelete { target: gone });
    bench.follow();
    assert_eq!(bench.seqs("apple"), [1]);
    assert_eq!(bench.seqs(""), [1, 2, 3, 4, 5], "they stay in the log");

    // The delete first: another device has delivered again what a server lost.
    let (message, envelope) = bench.authors[2].write(&bench.ticket, text("apple late"));
    let (_, delete) = bench.authors[2].write(&bench.ticket, Content::MessageDelete { target: message });
    bench.append(&delete);
    bench.follow();
    bench.append(&envelope);
    bench.follow();
    assert_eq!(bench.seqs("apple"), [1]);
    assert_eq!(bench.problems(), [""; 0]);
}

#[test]
fn a_step_is_bounded_and_commits_with_its_position() {
    let mut bench = Bench::new(true);
    let envelopes: Vec<Vec<u8>> =
        (0..STEP_OPS + 1).map(|n| bench.authors[0].write(&bench.ticket, text(&n.to_string())).1).collect();
    let ops: Vec<&[u8]> = envelopes.iter().map(Vec::as_slice).collect();
    bench.logs.append(Millis(0), &bench.topic, &ops, Write::Signed, &mut Vec::new()).unwrap();
    bench.logs.commit().unwrap();
    let channel = bench.parts.logs.channels().unwrap()[0];
    assert_eq!(step(&bench.parts, &channel).unwrap(), Some(1));
    assert_eq!(bench.ask(&everything()).indexed, Seq(STEP_OPS as u64));
    assert_eq!(bench.seqs(&STEP_OPS.to_string()), [0u64; 0]);
    let undone = bench.parts.index.transaction(|index| {
        let mut position = index.position(&bench.topic)?.unwrap();
        take(&bench.parts.logs, index, &bench.topic, &mut position)?;
        index.advance(&position)?;
        Err::<(), _>(StoreError::Full { path: bench.parts.path.clone() })
    });
    assert!(undone.is_err());
    assert_eq!(bench.ask(&everything()).indexed, Seq(STEP_OPS as u64), "neither rows nor position");
    assert_eq!(step(&bench.parts, &channel).unwrap(), None);
    assert_eq!(bench.seqs(&STEP_OPS.to_string()), [STEP_OPS as u64 + 1]);
    assert_eq!(bench.problems(), [""; 0]);
}

#[test]
fn case_64_an_index_that_is_damaged_missing_or_of_another_version_is_made_anew() {
    let mut bench = Bench::new(true);
    bench.write(0, text("apple"));
    let Bench { _dir: dir, logs, parts: before, searcher, topic, .. } = bench;
    drop((before, searcher));
    let path = dir.path().join("search.db");
    let damages: [&dyn Fn(); 3] = [
        &|| std::fs::write(&path, vec![b'x'; 20_000]).unwrap(),
        &|| std::fs::write(&path, b"").unwrap(),
        &|| Index::remove(&path).unwrap(),
    ];
    for damage in damages {
        damage();
        let (index, made) = Index::writer(&path).unwrap();
        assert!(made);
        let parts = IndexerParts { index, ..parts(dir.path()) };
        for channel in parts.logs.channels().unwrap() {
            while step(&parts, &channel).unwrap().is_some() {}
        }
        assert_eq!(parts.index.position(&topic).unwrap().unwrap().seq, Seq(1));
    }
    assert!(!Index::writer(&path).unwrap().1, "a good one is kept");
    drop(logs);
}

/// More questions than wait at once are refused, and those that wait are answered.
#[tokio::test]
async fn questions_that_wait_are_bounded() {
    let mut bench = Bench::new(true);
    bench.write(0, text("apple"));
    bench.follow();
    let dir = bench._dir.path();
    let search = Search::start(&dir.join("search.db"), &dir.join("topics.db")).unwrap();
    search.waiting.fetch_add(MAX_WAITING - 1, Ordering::Relaxed);
    assert!(search.ask(secret(), bench.topic, everything()).await.unwrap().is_some());
    search.waiting.fetch_add(1, Ordering::Relaxed);
    assert!(search.ask(secret(), bench.topic, everything()).await.unwrap().is_none());
    search.waiting.fetch_sub(1, Ordering::Relaxed);
    assert!(search.ask(secret(), bench.topic, everything()).await.unwrap().is_some());
}

/// Between the index's position and the log both went on, and the log's start has gone: what was known is answered.
#[test]
fn an_index_and_a_log_that_go_on_meanwhile_are_not_another_log() {
    let mut bench = Bench::new(true);
    for n in 0..5 {
        bench.write(0, text(&format!("apple {n}")));
    }
    bench.follow();
    let position = bench.parts.index.position(&bench.topic).unwrap();
    for _ in 0..3 {
        bench.write(0, text("apple"));
        bench.follow();
    }
    bench.logs.evict(&bench.topic, Seq(2)).unwrap();
    bench.logs.commit().unwrap();
    let answer =
        |position| bench.searcher.answer_from(position, &secret(), &bench.topic, &everything()).unwrap();
    let page = answer(position);
    assert_eq!((seqs(&page), page.indexed), (vec![3, 4, 5], Seq(5)));
    // Nothing was indexed yet.
    assert_eq!(answer(None), SearchPage::empty(secret().generation(&bench.topic)));
}

/// The readers have a damaged index open still: none of them is asked. Only the damaged file is removed.
#[tokio::test]
async fn case_64_a_damaged_index_answers_nothing() {
    let mut bench = Bench::new(true);
    bench.write(0, text("apple"));
    bench.follow();
    let (index, log) = (bench.parts.path.clone(), bench._dir.path().join("topics.db"));
    for (damaged, kept) in [(&log, true), (&index, false)] {
        let search = Search::start(&index, &log).unwrap();
        assert!(search.ask(secret(), bench.topic, everything()).await.unwrap().is_some());
        bench.parts.damaged = search.damaged();
        bench.parts.give_up(damaged, "a test");
        assert!(search.ask(secret(), bench.topic, everything()).await.unwrap().is_none());
        assert_eq!(index.exists(), kept);
        assert!(log.exists());
    }
}

#[tokio::test]
async fn a_question_that_takes_too_long_is_refused() {
    let mut bench = Bench::new(true);
    for _ in 0..100 {
        bench.write(0, text("apple"));
    }
    bench.follow();
    let log = bench._dir.path().join("topics.db");
    for (steps, answered) in [(0, false), (FIND_STEPS, true)] {
        let searcher = Searcher { steps, ..Searcher::open(&bench.parts.path, &log).unwrap() };
        let search =
            Search { pool: Pool::start([searcher]), waiting: Arc::default(), damaged: Arc::default() };
        for _ in 0..2 {
            let page = search.ask(secret(), bench.topic, everything()).await.unwrap();
            assert_eq!(page.is_some(), answered);
        }
    }
}
