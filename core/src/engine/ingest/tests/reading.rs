//! Messages by author, by time of receipt, by whom they mention; what is unread; pages of what was found.

use super::support::{Device, LOG, Writer};
use crate::engine::ingest::{Context, ingest};
use crate::identity::{Author, LogId, Millis, OperationId};
use crate::limits::MAX_UNREAD;
use crate::ops::{self, Body, Content, DeviceKey, Ticket, VerifiedOperation};
use crate::store::{MessageRow, Page, Search, Times, Unread};
use crate::topic::WriteKey;

const ME: Author = Author([9; 32]);

/// Messages of two authors in turn, edits and reactions among them; every third mentions [`ME`], twice.
fn world(messages: usize) -> (Device, [Author; 2]) {
    let (mut device, mut writers) = (Device::new(), [Writer::new(1), Writer::new(2)]);
    let mut seq = 0;
    let mut receive = |op: VerifiedOperation| {
        seq += 1;
        // The server's clock goes back from time to time.
        let received = Millis(1_000 + (seq * 7) % 50);
        let context = Context { received, ..device.context(0, seq) };
        device.write(|tx| ingest(tx, &context, &op).unwrap());
        op.id()
    };
    for n in 0..messages {
        let writer = &mut writers[usize::from(n % 5 < 2)];
        let mentions = if n % 3 == 0 { vec![ME, Author([1; 32]), ME] } else { Vec::new() };
        let message = Content::MessageSend {
            text: format!("word {n}"),
            reply: None,
            mentions,
            attachments: Vec::new(),
        };
        let id = receive(writer.write(message));
        match n % 7 {
            0 => drop(receive(writer.edit(id, &format!("word {n} edited")))),
            1 => drop(receive(writer.react(id, "👍", true))),
            2 => drop(receive(writer.delete(id))),
            _ => {}
        }
    }
    let authors = writers.each_ref().map(Writer::author);
    (device, authors)
}

fn ids(rows: &[MessageRow]) -> Vec<OperationId> {
    rows.iter().map(|row| row.id).collect()
}

#[test]
fn pages_of_one_authors_messages_join_from_any_position() {
    let (device, authors) = world(40);
    let all = device.messages();
    for author in authors {
        let of: Vec<MessageRow> = all.iter().filter(|row| row.author() == author).cloned().collect();
        let page =
            |page, limit| device.store.messages_by(&LOG, &author, Times::default(), page, limit).unwrap();
        assert_eq!(page(Page::Newest, 100), of);
        let mut back = page(Page::Newest, 3);
        while let Some(first) = back.first().map(|row| row.position) {
            let before = page(Page::Before(first), 3);
            if before.is_empty() {
                break;
            }
            back.splice(0..0, before);
        }
        assert_eq!(back, of);
        // Also from a message of somebody else.
        for row in &all {
            let split = of.partition_point(|own| own.position < row.position);
            let after = of.iter().filter(|own| own.position > row.position).take(4).cloned();
            assert_eq!(page(Page::Before(row.position), 100), of[..split]);
            assert_eq!(page(Page::After(row.position), 4), after.collect::<Vec<_>>());
        }
        let times = Times { since: Some(Millis(1_010)), until: Some(Millis(1_030)) };
        let within = |row: &&MessageRow| row.received_at.is_some_and(|at| (1_010..1_030).contains(&at.0));
        let in_time = device.store.messages_by(&LOG, &author, times, Page::Newest, 100).unwrap();
        assert_eq!(in_time, of.iter().filter(within).cloned().collect::<Vec<_>>());
    }
}

#[test]
fn messages_are_paged_by_the_time_they_were_received() {
    let (device, _) = world(40);
    // Stable: equal times stay in the order in which they came.
    let mut all = device.messages();
    all.sort_by_key(|row| row.received_at);
    for (since, until) in [(None, None), (Some(1_013), Some(1_040)), (Some(1_049), None), (Some(5_000), None)]
    {
        let times = Times { since: since.map(Millis), until: until.map(Millis) };
        let range = since.unwrap_or(0)..until.unwrap_or(u64::MAX);
        let within = |row: &&MessageRow| row.received_at.is_some_and(|at| range.contains(&at.0));
        let expected: Vec<_> = all.iter().filter(within).cloned().collect();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = device.store.messages_received(&LOG, times, after, 4).unwrap();
            found.extend(page);
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(ids(&found), ids(&expected), "{times:?}");
    }
}

#[test]
fn mentions_are_listed_newest_first_without_what_was_deleted() {
    let (mut device, _) = world(40);
    let mentioned = |row: &&MessageRow| row.mentions.contains(&ME);
    let expected: Vec<_> = device.messages().iter().filter(mentioned).rev().cloned().collect();
    assert!(expected.len() > 5);
    let check = |device: &Device| {
        for log in [None, Some(&LOG)] {
            let (mut found, mut before) = (Vec::new(), None);
            loop {
                let page = device.store.mentions(&ME, log, before, 3).unwrap();
                let Some((last, _)) = page.last() else { break };
                before = Some(*last);
                found.extend(page.into_iter().map(|(_, row)| row));
            }
            assert_eq!(ids(&found), ids(&expected));
        }
        let other = crate::identity::LogId([1; 32]);
        assert_eq!(device.store.mentions(&ME, Some(&other), None, 9).unwrap(), []);
    };
    check(&device);
    device.write(|tx| tx.rebuild().unwrap());
    check(&device);
}

#[test]
fn what_is_unread_is_counted_up_to_its_limit() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let limit = u64::from(MAX_UNREAD);
    let mut say = |device: &mut Device, seqs: std::ops::RangeInclusive<u64>| {
        let mentions = || Content::MessageSend {
            text: "x".into(),
            reply: None,
            mentions: vec![ME],
            attachments: Vec::new(),
        };
        let ops: Vec<_> = seqs.map(|seq| (seq, writer.write(mentions()))).collect();
        device.receive_all(ops.iter().map(|(seq, op)| (*seq, op)));
        device.store.unread(&LOG, &ME).unwrap()
    };
    let all = |count| Unread { messages: count, mentions: count };
    assert_eq!(say(&mut device, 1..=limit - 1), all(limit - 1));
    assert_eq!(say(&mut device, limit..=limit), all(limit), "at the limit");
    assert_eq!(say(&mut device, limit + 1..=limit + 1), all(limit), "past it");
    let third = device.messages()[2].position;
    device.write(|tx| tx.set_read(&LOG, &third).unwrap());
    assert_eq!(device.store.unread(&LOG, &ME).unwrap(), all(limit - 2));
    assert_eq!(device.store.unread(&LOG, &writer.author()).unwrap(), Unread::default(), "one's own");
}

/// All that is found, in pages of four.
fn found(device: &Device, mut search: Search) -> Vec<OperationId> {
    let mut found = Vec::new();
    loop {
        let page = device.store.search(&search, 4).unwrap();
        let Some(last) = page.last() else { return found };
        search.before = Some(last.arrival);
        found.extend(page.into_iter().map(|found| found.message.id));
    }
}

#[test]
fn pages_of_what_was_found_join_whatever_it_is_filtered_by_with_and_without_the_index() {
    let (mut device, authors) = world(40);
    let other = LogId([8; 32]);
    let elsewhere = Ticket::private(other, 0, WriteKey::from_seed([8; 32]), [9; 32]);
    let said = Content::MessageSend {
        text: "a word elsewhere".into(),
        reply: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
    };
    let said = ops::create(&DeviceKey::from_bytes(&[1; 32]), other, 0, None, &Body::new(said)).unwrap();
    let context =
        Context { topic: elsewhere.topic(), log: other, received: Millis(1_010), ..device.context(0, 1) };
    device.write(|tx| {
        tx.put_topic(&elsewhere, Millis(0)).unwrap();
        ingest(tx, &context, &said).unwrap()
    });
    // As they came, the last one first: what is elsewhere came last of all.
    let mut all = device.store.messages(&other, Page::Newest, 10).unwrap();
    all.extend(device.messages().into_iter().rev().filter(|row| row.text.is_some()));
    assert_eq!(all.len(), 40 - 6 + 1);
    // Times that just take in the first and the last to arrive.
    let [first, last] = [&all[40 - 6], &all[1]].map(|row| row.received_at.unwrap());
    for indexed in [0, 10, 100] {
        device.write(|tx| tx.index_texts(indexed).unwrap());
        let times = [None, Some(first), Some(Millis(1_010)), Some(last.plus(1)), Some(Millis(2_000))];
        let bounds = times.iter().flat_map(|since| times.iter().map(move |until| (*since, *until)));
        for (since, until) in bounds {
            for author in [None, Some(authors[0]), Some(authors[1]), Some(ME)] {
                for log in [None, Some(LOG), Some(other), Some(LogId([6; 32]))] {
                    let words = "word".into();
                    let search = Search { words, log, author, since, until, before: None };
                    let wanted = |row: &&MessageRow| {
                        log.is_none_or(|log| row.log == log)
                            && author.is_none_or(|author| row.author() == author)
                            && since.is_none_or(|since| row.received_at.unwrap() >= since)
                            && until.is_none_or(|until| row.received_at.unwrap() < until)
                    };
                    let expected: Vec<_> = all.iter().filter(wanted).map(|row| row.id).collect();
                    let filters = (log, author, since, until);
                    assert_eq!(found(&device, search), expected, "{indexed} indexed, {filters:?}");
                }
            }
        }
    }
}
