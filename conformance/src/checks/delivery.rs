//! Sections 4 and 10: what a delivery puts into a log, and what it must not.

use futures_util::future::try_join_all;

use super::packets::only_marker;
use super::{Check, check};
use crate::failure::{Checked, ensure, equal, equal_lists};
use crate::frame::MAX_OP;
use crate::packet::{SIZES, Sealed};
use crate::socket::{Follower, MODES, Mode};
use crate::target::Target;
use crate::topic::{Content, Topic, hash, list, op, ops};

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        case_39_a_hundred_duplicates_make_one_entry,
        "10",
        Always,
        "An operation that is already in the topic keeps its first seq and is not pushed again; seq has no holes.",
    ),
    check!(
        duplicates_keep_their_seq_among_others,
        "10",
        Always,
        "A duplicate keeps its first seq, also inside a list, and leaves no hole.",
    ),
    check!(
        the_same_operation_in_two_topics_is_two_entries,
        "10",
        Always,
        "Duplicates are found by topic: the same bytes in another topic are another entry.",
    ),
    check!(
        case_42_bad_write_signatures_leave_nothing,
        "4",
        Always,
        "A bad signature, a foreign write key, or a signature of another topic, operation or flags is refused.",
    ),
    check!(
        malformed_content_leaves_nothing,
        "4",
        Always,
        "Another form byte, reserved bytes, unknown flags, an empty operation or short content is refused.",
    ),
    check!(
        lists_of_256_are_appended_in_order,
        "4",
        Everlasting,
        "A list of up to 256 operations is appended in order.",
    ),
    check!(
        case_49_malformed_lists_are_refused_whole,
        "4",
        Always,
        "A list of none or 257, or with one malformed, empty or oversized item, is refused as a whole.",
    ),
    check!(
        case_71_operations_of_1_mib_are_stored_and_one_byte_more_is_refused,
        "4, 16",
        Always,
        "An operation has 1 to 1,048,576 bytes.",
    ),
    check!(
        what_is_pushed_is_in_the_log,
        "10",
        Always,
        "An operation is committed before any subscriber hears of it: whoever hears of it can read it.",
    ),
    check!(
        concurrent_deliveries_make_one_order_without_holes,
        "10",
        Everlasting,
        "Seq starts at 1 and has no holes, whoever delivers at the same time.",
    ),
];

async fn case_39_a_hundred_duplicates_make_one_entry(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut followers = Vec::new();
    for mode in MODES {
        followers.push(Follower::start(target, &topic, mode).await?);
    }
    let (repeated, last) = (op(50), op(50));
    for _ in 0..10 {
        try_join_all((0..10).map(|_| target.deliver_op(&topic, &repeated))).await?;
    }
    target.wait_head(&topic, 1).await?;
    target.deliver_op(&topic, &last).await?;
    for follower in &mut followers {
        let items = follower.until(2).await?;
        let pushed: Vec<Vec<u8>> = items.into_iter().map(|item| item.op).collect();
        let what = format!("operations pushed in {} frames", follower.socket.mode.name());
        equal_lists(&what, &pushed, &[repeated.clone(), last.clone()])?;
    }
    equal("head", &target.head(&topic).await?.head, &2)?;
    equal("has", &target.has(&topic, &[hash(&repeated), hash(&last)]).await?, &vec![1, 2])
}

async fn duplicates_keep_their_seq_among_others(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let given = ops(5, 30);
    target.seed(&topic, &given[..2]).await?;
    let mut follower = Follower::start(target, &topic, Mode::Binary).await?;
    // One known, a new one twice, the other known one, another new one.
    let mixed = [&given[1], &given[2], &given[2], &given[0], &given[3]];
    target.deliver_list(&topic, &mixed).await?;
    target.wait_head(&topic, 4).await?;
    target.deliver_op(&topic, &given[0]).await?;
    target.deliver_op(&topic, &given[4]).await?;
    let pushed: Vec<Vec<u8>> = follower.until(5).await?.into_iter().map(|item| item.op).collect();
    equal_lists("operations pushed", &pushed, &given[2..])?;
    equal_lists("the log", &target.log_ops(&topic).await?, &given)?;
    let hashes: Vec<[u8; 32]> = given.iter().map(|op| hash(op)).collect();
    equal("has", &target.has(&topic, &hashes).await?, &vec![1, 2, 3, 4, 5])
}

async fn the_same_operation_in_two_topics_is_two_entries(target: &Target) -> Checked {
    let (one, other, shared) = (Topic::fresh(), Topic::fresh(), op(30));
    for topic in [&one, &other] {
        target.seed(topic, std::slice::from_ref(&shared)).await?;
        equal("has", &target.has(topic, &[hash(&shared)]).await?, &vec![1])?;
    }
    Ok(())
}

async fn case_42_bad_write_signatures_leave_nothing(target: &Target) -> Checked {
    for attempt in 0..6 {
        let (topic, other) = (Topic::fresh(), Topic::fresh());
        let payload = op(40);
        let mut content = Content::right(&topic, 0, &payload);
        let what = match attempt {
            0 => "a signature mixed of two",
            1 => {
                content.key = other.key.signing_key();
                "a foreign write key that signs rightly"
            }
            2 => {
                content.signed = Some((other.id, 0, payload.clone()));
                "a signature of another topic"
            }
            3 => {
                content.signed = Some((topic.id, 0, op(40)));
                "a signature of another operation"
            }
            4 => {
                content.signed = Some((topic.id, 1, payload.clone()));
                "a signature of other flags"
            }
            _ => {
                content.signed = Some((topic.id, 0, hash(&payload).to_vec()));
                "a signature of the payload's hash as payload"
            }
        };
        let mut bytes = content.encode();
        if attempt == 0 {
            // S of another signature by the same key: a valid scalar, and wrong.
            let another = Content::right(&topic, 0, &op(40)).encode();
            bytes[100..132].copy_from_slice(&another[100..132]);
        }
        target.deliver(&bytes).await?;
        only_marker(target, what, &topic).await?;
        equal(format!("the other topic's head after {what}"), &target.head(&other).await?.head, &0)?;
    }
    Ok(())
}

/// Makes one field of right content wrong.
type Spoil = fn(&mut Content);

async fn malformed_content_leaves_nothing(target: &Target) -> Checked {
    let attempts: [(&str, Spoil); 9] = [
        ("form 00", |content| content.form = 0),
        ("form 02", |content| content.form = 2),
        ("the first reserved byte", |content| content.reserved[0] = 1),
        ("the second reserved byte", |content| content.reserved[1] = 1),
        ("flags 03 with no control message", |content| content.flags = 3),
        ("flags 04", |content| content.flags = 4),
        ("flags 80", |content| content.flags = 0x80),
        ("flags ff", |content| content.flags = 0xff),
        ("an empty operation", |content| content.payload.clear()),
    ];
    for (what, spoil) in attempts {
        let topic = Topic::fresh();
        let mut content = Content::right(&topic, 0, &op(40));
        spoil(&mut content);
        target.deliver(&content.encode()).await?;
        only_marker(target, what, &topic).await?;
    }
    for len in [0, 1, 4, 36, 68, 131] {
        let topic = Topic::fresh();
        let content = Content::right(&topic, 0, &op(40)).encode();
        target.deliver(&content[..len]).await?;
        only_marker(target, &format!("content cut to {len} bytes"), &topic).await?;
    }
    Ok(())
}

async fn lists_of_256_are_appended_in_order(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let given = ops(256, 30);
    target.deliver_list(&topic, &given).await?;
    target.wait_head(&topic, 256).await?;
    equal_lists("the log", &target.log_ops(&topic).await?, &given)
}

async fn case_49_malformed_lists_are_refused_whole(target: &Target) -> Checked {
    let good = ops(3, 30);
    let mut cut = list(&good);
    cut.pop();
    let mut longer = list(&good);
    longer.extend_from_slice(&[0, 0]);
    let mut lying = list(&good);
    lying.extend_from_slice(&[0xff; 4]);
    let mut oversized = list(&good);
    oversized.extend(list(&[op(MAX_OP + 1)]));
    let lists = [
        ("a list of none", Vec::new()),
        ("a list of 257", list(&ops(257, 8))),
        ("a list that ends early", cut),
        ("a list with bytes left over", longer),
        ("a list whose last length is 2^32 − 1", lying),
        ("a list with an empty item", list(&[&good[0][..], &[], &good[1][..]])),
        ("a list with an item above 1 MiB", oversized),
    ];
    for (what, payload) in lists {
        let topic = Topic::fresh();
        target.deliver(&Content::right(&topic, 1, &payload).encode()).await?;
        only_marker(target, what, &topic).await?;
    }
    Ok(())
}

async fn case_71_operations_of_1_mib_are_stored_and_one_byte_more_is_refused(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let too_large = Content::right(&topic, 0, &op(MAX_OP + 1)).encode();
    let packet = Sealed { class: 4, size: SIZES[4], ..Sealed::deliver(&too_large) }.encode(&target.key);
    target.deliver_packet(&packet).await?;
    let largest = op(MAX_OP);
    target.deliver_op(&topic, &largest).await?;
    target.wait_head(&topic, 1).await?;
    target.deliver_op(&topic, &op(10)).await?;
    target.wait_head(&topic, 2).await?;
    let sizes: Vec<usize> = target.log(&topic).await?.iter().map(|item| item.op.len()).collect();
    equal("sizes in the log", &sizes, &vec![MAX_OP, 10])?;
    for mode in MODES {
        let follower = Follower::start(target, &topic, mode).await?;
        let same = follower.opening.items.first().is_some_and(|item| item.op == largest);
        let what = format!("the replay in {} frames", mode.name());
        ensure(same, what, "the operation as delivered", "another")?;
    }
    Ok(())
}

async fn what_is_pushed_is_in_the_log(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut follower = Follower::start(target, &topic, Mode::Binary).await?;
    for seq in 1..=30 {
        let operation = op(60);
        target.deliver_op(&topic, &operation).await?;
        follower.until(seq).await?;
        equal("has right after the push", &target.has(&topic, &[hash(&operation)]).await?, &vec![seq])?;
        let page = target.page(&topic, &format!("?after={}", seq - 1)).await?;
        equal("the page right after the push", &page.items.first().map(|item| item.seq), &Some(seq))?;
    }
    Ok(())
}

async fn concurrent_deliveries_make_one_order_without_holes(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let given = ops(120, 40);
    try_join_all(given.chunks(15).map(|mine| deliver_each(target, &topic, mine))).await?;
    target.wait_head(&topic, 120).await?;
    let log = target.log(&topic).await?;
    let seqs: Vec<u64> = log.iter().map(|item| item.seq).collect();
    equal("seqs", &seqs, &(1..=120).collect())?;
    let mut stored: Vec<Vec<u8>> = log.into_iter().map(|item| item.op).collect();
    let mut expected = given.clone();
    stored.sort_unstable();
    expected.sort_unstable();
    ensure(stored == expected, "the log", "every delivered operation once", "something else")
}

/// Delivers operations one after the other.
pub async fn deliver_each(target: &Target, topic: &Topic, ops: &[Vec<u8>]) -> Checked {
    for op in ops {
        target.deliver_op(topic, op).await?;
    }
    Ok(())
}
