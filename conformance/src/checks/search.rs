//! Section 8: questions about the history of public channels.

use serde_json::Value;

use delta_core::entropy::SeededEntropy;
use delta_core::ops::{Body, Content as Said, DeviceKey, Ticket, create};

use super::control::describe;
use super::{Check, check};
use crate::failure::{Checked, Failure, equal};
use crate::frame::{Bytes, base64_field, number};
use crate::http::Answer;
use crate::random;
use crate::target::{OCTETS, Target, WAIT, parse_json};
use crate::topic::{Topic, op, ops};

/// How often the index is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        a_public_channel_is_searched_by_words_author_seqs_and_times,
        "8",
        Everlasting,
        "`search` finds the operations that fit everything asked, in both formats, and says who signed them.",
    ),
    check!(
        what_is_searched_for_is_words_and_nothing_else,
        "8",
        Everlasting,
        "Words are letters and digits without regard to case and diacritics; nothing in `q` is an operator or an error.",
    ),
    check!(
        case_47_only_valid_operations_of_the_channel_are_found,
        "8, 11",
        Everlasting,
        "Bytes that are no valid operation of the channel are not found, and hold nothing up.",
    ),
    check!(
        deleted_messages_are_not_found_by_words,
        "8",
        Everlasting,
        "A message that its author deleted is not found by its words; somebody else's delete does nothing.",
    ),
    check!(
        case_72_a_search_of_a_private_topic_answers_like_one_of_an_unknown_topic,
        "8",
        Always,
        "A topic that is no public channel answers a search like an unknown one.",
    ),
    check!(
        search_refuses_bad_questions,
        "8",
        Always,
        "Bad numbers, a bad author, more than 256 bytes or 16 words, and a doubled parameter are 400.",
    ),
];

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    seq: u64,
    received_ms: u64,
    author: [u8; 32],
    op: Vec<u8>,
}

/// A fresh public channel, and operations to put into it.
struct Channel {
    topic: Topic,
    ticket: Ticket,
}

/// An author and what was written last.
struct Author {
    key: DeviceKey,
    last: Option<(u32, delta_core::OperationId)>,
}

impl Author {
    fn fresh() -> Self {
        Self { key: DeviceKey::from_bytes(&random::array()), last: None }
    }

    fn id(&self) -> [u8; 32] {
        self.key.author().0
    }
}

impl Channel {
    async fn fresh(target: &Target) -> Checked<Self> {
        let mut entropy = SeededEntropy::new(random::array());
        let ticket = Ticket::generate_public(&mut entropy)
            .map_err(|error| Failure::new("a ticket", "one", error.to_string()))?;
        let keys = ticket.keys();
        let key = keys.write_key().cloned().ok_or_else(|| Failure::new("a ticket", "a write key", "none"))?;
        let topic = Topic { id: ticket.topic().0, hex: ticket.topic().to_string(), key };
        describe(target, &topic).await?;
        Ok(Self { topic, ticket })
    }

    /// The author's next operation.
    fn write(&self, author: &mut Author, said: Said) -> Checked<(delta_core::OperationId, Vec<u8>)> {
        let failure = |error: String| Failure::new("making an operation", "one", error);
        let seq_num = author.last.map_or(0, |(seq_num, _)| seq_num + 1);
        let backlink = author.last.map(|(_, id)| id);
        let made = create(&author.key, self.ticket.log(), seq_num, backlink, &Body::new(said))
            .map_err(|error| failure(error.to_string()))?;
        author.last = Some((seq_num, made.id()));
        let envelope = self.ticket.keys().seal(made.header(), made.body_bytes());
        Ok((made.id(), envelope.map_err(|error| failure(error.to_string()))?))
    }

    /// Waits until everything up to a seq can be found.
    async fn wait(&self, target: &Target, seq: u64) -> Checked {
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            let value = json(&ask(target, &self.topic, "?limit=1", "application/json").await?)?;
            if value["indexed"] == seq {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Failure::new(
                    "the index",
                    format!("indexed {seq}"),
                    value["indexed"].to_string(),
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What is found, in both formats.
    async fn found(&self, target: &Target, query: &str) -> Checked<Vec<Found>> {
        let value = json(&ask(target, &self.topic, query, "application/json").await?)?;
        let listed = value["ops"].as_array();
        let listed = listed.ok_or_else(|| Failure::new("/search", "`ops`, an array", value.to_string()))?;
        let listed = listed.iter().map(|entry| {
            Ok(Found {
                seq: number(entry, "seq")?,
                received_ms: number(entry, "received_ms")?,
                author: crate::frame::hex_field(entry, "author")?,
                op: base64_field(entry, "data")?,
            })
        });
        let listed = listed.collect::<Checked<Vec<Found>>>()?;
        let answer = ask(target, &self.topic, query, OCTETS).await?;
        equal("its content type", &answer.header("content-type"), &Some(OCTETS))?;
        let mut bytes = Bytes::new("a page of a search", &answer.body);
        let generation: [u8; 16] = bytes.array("generation")?;
        equal(
            "generation",
            &hex::encode(generation),
            &value["generation"].as_str().unwrap_or_default().to_owned(),
        )?;
        equal("indexed", &bytes.u64("indexed")?, &number(&value, "indexed")?)?;
        let mut same = Vec::new();
        for _ in 0..bytes.u16("count")? {
            let (seq, received_ms) = (bytes.u64("seq")?, bytes.u64("received_ms")?);
            let author = bytes.array("author")?;
            let len = bytes.u32("len")? as usize;
            same.push(Found { seq, received_ms, author, op: bytes.take(len, "op")?.to_vec() });
        }
        bytes.end()?;
        equal(format!("search{query} in bytes"), &same, &listed)?;
        Ok(listed)
    }

    async fn finds(&self, target: &Target, query: &str, expected: &[u64]) -> Checked {
        let found = self.found(target, query).await?;
        let seqs: Vec<u64> = found.iter().map(|found| found.seq).collect();
        equal(format!("seqs found by {query}"), &seqs, &expected.to_vec())
    }
}

fn message(text: &str) -> Said {
    Said::MessageSend { text: text.to_owned(), reply: None, mentions: Vec::new(), attachments: Vec::new() }
}

/// Asks; the answer must be 200.
async fn ask(target: &Target, topic: &Topic, query: &str, accept: &str) -> Checked<Answer> {
    let answer = target.get(&path(topic, query), vec![("Accept", accept)]).await?;
    equal(format!("the status of search{query}"), &answer.status, &200)?;
    Ok(answer)
}

fn json(answer: &Answer) -> Checked<Value> {
    parse_json("/search", answer)
}

fn path(topic: &Topic, query: &str) -> String {
    format!("/topic/{}/search{query}", topic.hex)
}

async fn a_public_channel_is_searched_by_words_author_seqs_and_times(target: &Target) -> Checked {
    let channel = Channel::fresh(target).await?;
    let (mut one, mut two) = (Author::fresh(), Author::fresh());
    let mut given = Vec::new();
    for (author, text) in
        [(0, "red apples"), (1, "Green apples"), (0, "plums"), (1, "red plums"), (0, "nuts")]
    {
        let author = if author == 0 { &mut one } else { &mut two };
        given.push((author.id(), channel.write(author, message(text))?.1));
    }
    let envelopes: Vec<Vec<u8>> = given.iter().map(|(_, op)| op.clone()).collect();
    target.seed(&channel.topic, &envelopes).await?;
    channel.wait(target, 5).await?;
    let found = channel.found(target, "").await?;
    let expected: Vec<_> = (1..).zip(&given).map(|(seq, (author, op))| (seq, *author, op.clone())).collect();
    let got: Vec<_> = found.iter().map(|found| (found.seq, found.author, found.op.clone())).collect();
    equal("everything in a channel", &got, &expected)?;
    let log = target.log(&channel.topic).await?;
    let received: Vec<_> = found.iter().map(|found| Some(found.received_ms)).collect();
    equal("times of receipt", &received, &log.iter().map(|item| item.received_ms).collect())?;
    let author = hex::encode(one.id());
    let last = found.last().map_or(0, |found| found.received_ms);
    for (query, expected) in [
        ("?q=apples".to_owned(), &[1, 2][..]),
        ("?q=red".to_owned(), &[1, 4]),
        ("?q=plums+red".to_owned(), &[4]),
        ("?q=pears".to_owned(), &[]),
        (format!("?author={author}"), &[1, 3, 5]),
        (format!("?author={author}&q=plums"), &[3]),
        (format!("?author={}", "ab".repeat(32)), &[]),
        ("?q=red&limit=1".to_owned(), &[4]),
        ("?q=red&limit=1&after=0".to_owned(), &[1]),
        ("?q=red&after=1".to_owned(), &[4]),
        ("?q=red&before=4".to_owned(), &[1]),
        ("?after=1&before=5&limit=2".to_owned(), &[2, 3]),
        ("?before=5&limit=2".to_owned(), &[3, 4]),
        ("?to_ms=1".to_owned(), &[]),
        (format!("?from_ms={last}"), &[]),
        (format!("?from_ms=0&to_ms={}&q=red", last + 1), &[1, 4]),
        ("?q=".to_owned(), &[1, 2, 3, 4, 5]),
    ] {
        channel.finds(target, &query, expected).await?;
    }
    Ok(())
}

async fn what_is_searched_for_is_words_and_nothing_else(target: &Target) -> Checked {
    let channel = Channel::fresh(target).await?;
    let mut author = Author::fresh();
    let (_, first) = channel.write(&mut author, message("Äpfel, fig-tree and \"NUTS\""))?;
    let profile = Said::ProfileSet {
        name: "Ada".to_owned(),
        bio: Some("likes figs".to_owned()),
        avatar: None,
        availability: Some("away".to_owned()),
        public: true,
    };
    let (_, second) = channel.write(&mut author, profile)?;
    target.seed(&channel.topic, &[first, second]).await?;
    channel.wait(target, 2).await?;
    for (query, expected) in [
        ("apfel", &[1][..]),
        ("%C3%84PFEL", &[1]),
        ("nuts", &[1]),
        ("fig-tree", &[1]),
        ("tree-fig", &[]),
        ("tree+fig", &[1]),
        ("fig", &[1]),
        ("fi*", &[]),
        ("nuts+OR+plums", &[]),
        ("NOT+plums", &[]),
        ("nuts+!", &[1]),
        ("ada+figs", &[2]),
        ("away", &[]),
    ] {
        channel.finds(target, &format!("?q={query}"), expected).await?;
    }
    for odd in [
        "%22",
        "%22%22",
        "'",
        "(",
        ")",
        "*",
        "%5E",
        "NEAR(",
        "a:b",
        "%7Bx%7D",
        "%5C",
        "%00",
        "-",
        "%F0%9F%98%80",
    ] {
        channel.found(target, &format!("?q={odd}")).await?;
    }
    Ok(())
}

async fn case_47_only_valid_operations_of_the_channel_are_found(target: &Target) -> Checked {
    let channel = Channel::fresh(target).await?;
    let mut author = Author::fresh();
    let (_, good) = channel.write(&mut author, message("apples"))?;
    let mut forged = good.clone();
    // The last byte of the signature: 3 bytes of envelope, then 38 and 64 of the header.
    forged[3 + 38 + 63] ^= 1;
    let foreign = Channel::fresh(target).await?;
    let (_, foreign) = foreign.write(&mut Author::fresh(), message("apples"))?;
    let mut sealed = good.clone();
    sealed[0] = 3;
    target.seed(&channel.topic, &[forged, op(300), foreign, sealed, good]).await?;
    channel.wait(target, 5).await?;
    channel.finds(target, "", &[5]).await?;
    channel.finds(target, "?q=apples", &[5]).await
}

async fn deleted_messages_are_not_found_by_words(target: &Target) -> Checked {
    let channel = Channel::fresh(target).await?;
    let (mut one, mut two) = (Author::fresh(), Author::fresh());
    let (kept, first) = channel.write(&mut one, message("apples"))?;
    let (gone, second) = channel.write(&mut one, message("apples"))?;
    let (_, edit) =
        channel.write(&mut one, Said::MessageEdit { target: gone, text: "more apples".to_owned() })?;
    let (_, foreign) = channel.write(&mut two, Said::MessageDelete { target: kept })?;
    let (_, delete) = channel.write(&mut one, Said::MessageDelete { target: gone })?;
    target.seed(&channel.topic, &[first, second, edit, foreign]).await?;
    channel.wait(target, 4).await?;
    channel.finds(target, "?q=apples", &[1, 2, 3]).await?;
    target.seed(&channel.topic, &[delete]).await?;
    channel.wait(target, 5).await?;
    channel.finds(target, "?q=apples", &[1]).await
}

async fn case_72_a_search_of_a_private_topic_answers_like_one_of_an_unknown_topic(
    target: &Target,
) -> Checked {
    let (private, unknown) = (Topic::fresh(), Topic::fresh());
    target.seed(&private, &ops(3, 30)).await?;
    for query in ["", "?q=apples", "?after=0&limit=1"] {
        for topic in [&private, &unknown] {
            let value = json(&ask(target, topic, query, "application/json").await?)?;
            let generation = hex::encode(target.head(topic).await?.generation);
            let expected = serde_json::json!({ "generation": generation, "indexed": 0, "ops": [] });
            equal(format!("search{query} where there is no channel"), &value, &expected)?;
        }
    }
    Ok(())
}

async fn search_refuses_bad_questions(target: &Target) -> Checked {
    let topic = Topic::fresh();
    for query in [
        "limit=0",
        "limit=101",
        "limit=x",
        "after=-1",
        "before=",
        "from_ms=1.0",
        "to_ms=9223372036854775808",
        "author=ab",
        "author=",
        "q=a&q=b",
        &format!("q={}", "x".repeat(257)),
        &format!("q={}", ["x"; 17].join("+")),
        &format!("q={}", ["x"; 17].join("-")),
    ] {
        let answer = target.get(&path(&topic, &format!("?{query}")), Vec::new()).await?;
        equal(format!("the status of search?{query}"), &answer.status, &400)?;
    }
    Ok(())
}
