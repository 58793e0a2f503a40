//! Section 9.1: the opening of a socket with binary frames.

use tokio_tungstenite::tungstenite::Message;

use super::{Check, check};
use crate::failure::{Checked, Failure, ensure, equal, equal_lists};
use crate::frame::{Frame, MAX_OP};
use crate::socket::{Ask, BINARY, Event, Follower, MODES, Mode, Socket};
use crate::target::Target;
use crate::topic::{Topic, op, ops};
use crate::view::View;

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        hello_comes_first_and_describes_the_log,
        "9.1",
        Always,
        "hello is the first frame: generation, head and tail of the log, the server's clock, the largest envelope it takes.",
    ),
    check!(
        the_binary_subprotocol_is_chosen_when_offered,
        "9.1",
        Always,
        "A client that offers delta.sync.2, alone or among others, gets it; one that offers nothing gets none.",
    ),
    check!(
        replays_are_paged_complete_and_verified,
        "9.1",
        Everlasting,
        "ops frames hold 1 to 256 operations and at most 256 KiB, or a single one; ready covers them with chain and sig.",
    ),
    check!(
        replay_starts_behind_since,
        "9",
        Everlasting,
        "A subscriber gets every operation above since, none below, in order.",
    ),
    check!(
        ready_head_is_the_last_seq_sent_or_the_logs_head,
        "9.1",
        Everlasting,
        "ready.head is the last seq sent on this socket, or the log's head when nothing was.",
    ),
    check!(
        pings_and_closes_are_answered,
        "9",
        Always,
        "A ping is answered with its bytes, a close with a close.",
    ),
];

async fn hello_comes_first_and_describes_the_log(target: &Target) -> Checked {
    let topic = Topic::fresh();
    target.seed(&topic, &ops(3, 30)).await?;
    let log = target.head(&topic).await?;
    let received = target.log(&topic).await?.last().and_then(|item| item.received_ms).unwrap_or_default();
    let mut socket = Socket::open(target, &topic, &Ask::new(Mode::Binary, "")).await?;
    let Frame::Hello(hello) = socket.frame().await? else {
        return Err(Failure::new("the first frame", "hello", "another one"));
    };
    equal("hello.generation", &hello.generation, &log.generation)?;
    equal("hello.head and tail", &(hello.head, hello.tail), &(3, 1))?;
    let got = format!("{}, an operation came at {received}", hello.server_time_ms);
    ensure(
        hello.server_time_ms >= received,
        "hello.server_time_ms",
        "now, by the clock of received_ms",
        got,
    )?;
    let takes = (1..=MAX_OP).contains(&(hello.max_op as usize));
    ensure(takes, "hello.max_op", "1 to 1,048,576", hello.max_op.to_string())
}

async fn the_binary_subprotocol_is_chosen_when_offered(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let offers = [
        (Some("delta.sync.2"), Some(BINARY)),
        (Some("delta.sync.9, delta.sync.2"), Some(BINARY)),
        (None, None),
    ];
    for (protocols, expected) in offers {
        let ask = Ask { protocols, ..Ask::new(Mode::Json, "?since=0") };
        let mut socket = Socket::open(target, &topic, &ask).await?;
        equal(format!("the answer to {protocols:?}"), &socket.protocol.as_deref(), &expected)?;
        let frame = socket.frame().await?;
        let hello = matches!(frame, Frame::Hello(_));
        equal(format!("hello after {protocols:?}"), &hello, &expected.is_some())?;
    }
    Ok(())
}

async fn replays_are_paged_complete_and_verified(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut given = ops(600, 20);
    // Sizes around the bound of a frame, one alone above it, then small ones again.
    given.extend([100, 200, 256, 257, 300, 1, 255, 2].map(|kib| op(kib * 1024)));
    given.extend(ops(20, 20));
    target.seed(&topic, &given).await?;
    for mode in MODES {
        let follower = Follower::start(target, &topic, mode).await?;
        let replayed: Vec<&Vec<u8>> = follower.opening.items.iter().map(|item| &item.op).collect();
        let expected: Vec<&Vec<u8>> = given.iter().collect();
        ensure(replayed == expected, "the replay", "the operations as delivered", "others")?;
        equal("ready.head", &follower.opening.ready.head, &(given.len() as u64))?;
        if mode == Mode::Binary {
            equal_lists("the replay and /ops", &follower.opening.items, &target.log(&topic).await?)?;
        }
    }
    Ok(())
}

async fn replay_starts_behind_since(target: &Target) -> Checked {
    let topic = Topic::fresh();
    target.seed(&topic, &ops(7, 30)).await?;
    let log = target.log(&topic).await?;
    for mode in MODES {
        for since in 0..=log.len() {
            let mut at = View::start(topic.id, target.head(&topic).await?.generation);
            at.extend(&log[..since])?;
            let ask = Ask::new(mode, format!("?since={since}"));
            let follower = Follower::open(target, &topic, &ask, Some(&at)).await?;
            let expected: Vec<u64> = (since as u64 + 1..=7).collect();
            equal(format!("seqs of a replay since {since}"), &follower.opening.seqs(), &expected)?;
            let what = format!("reset and gap since {since}");
            equal(what, &(follower.opening.reset, follower.opening.gap), &(None, None))?;
        }
    }
    Ok(())
}

async fn ready_head_is_the_last_seq_sent_or_the_logs_head(target: &Target) -> Checked {
    let topic = Topic::fresh();
    for mode in MODES {
        let empty = Follower::start(target, &Topic::fresh(), mode).await?;
        equal("ready.head of an empty topic", &empty.opening.ready.head, &0)?;
    }
    target.seed(&topic, &ops(4, 30)).await?;
    for mode in MODES {
        let all = Follower::start(target, &topic, mode).await?;
        equal("ready.head after a replay", &all.opening.ready.head, &4)?;
        let none = Follower::resume(target, &topic, mode, &all.view).await?;
        equal("operations sent to one that has all", &none.opening.seqs(), &Vec::new())?;
        equal("ready.head when nothing was sent", &none.opening.ready.head, &4)?;
        equal("reset and gap", &(none.opening.reset, none.opening.gap), &(None, None))?;
    }
    Ok(())
}

async fn pings_and_closes_are_answered(target: &Target) -> Checked {
    let topic = Topic::fresh();
    for mode in MODES {
        let mut follower = Follower::start(target, &topic, mode).await?;
        follower.socket.send(Message::Ping(b"delta".to_vec().into())).await;
        equal("the answer to a ping", &follower.socket.event().await?, &Event::Pong(b"delta".to_vec()))?;
        follower.socket.send(Message::Close(None)).await;
        let event = follower.socket.event().await?;
        ensure(matches!(event, Event::Closed(_)), "the answer to a close", "a close", format!("{event:?}"))?;
    }
    Ok(())
}
