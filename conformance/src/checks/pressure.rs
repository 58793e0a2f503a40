//! Case 70, in a light form that a shared server bears: whoever misbehaves is bounded, others are unaffected.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::{Check, check};
use crate::failure::{Checked, Failure, ensure, equal};
use crate::frame::Frame;
use crate::socket::{Ask, Event, Follower, MODES, Mode};
use crate::target::Target;
use crate::topic::{Topic, op, ops};

/// More than the socket buffers of both sides and a server's bounded buffer hold.
const FLOOD: usize = 24;
/// How long a slow reader takes nothing after that.
const STOPPED: Duration = Duration::from_secs(3);
/// A reader that takes nothing for this long may be dropped without a word.
const DROPPED: Duration = Duration::from_secs(30);
/// Receive buffer of a slow reader.
const SMALL: u32 = 4096;
/// Sockets that one check holds open.
const SOCKETS: usize = 60;

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        case_70_a_slow_reader_is_let_go_and_others_are_unaffected,
        "10, 9.3",
        Always,
        "A reader that takes nothing for seconds, while more comes than a server may hold for it, gets slow (in binary) and close 1013 (after 30 s it may be dropped instead), and can come back. Others are unaffected.",
    ),
    check!(
        case_70_pings_do_not_disturb_others,
        "9",
        Always,
        "More than 200 client messages in 10 s, pings included: close 1013. The topic's other subscribers are unaffected.",
    ),
    check!(
        case_70_many_sockets_of_one_address_all_get_everything,
        "16",
        Always,
        "Sockets of one address, far below its limit, are all served.",
    ),
    check!(
        case_70_a_request_that_stops_half_way_does_not_disturb_others,
        "8",
        Always,
        "A client that sends half a request and waits holds up nobody.",
    ),
];

async fn case_70_a_slow_reader_is_let_go_and_others_are_unaffected(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut quick = Follower::start(target, &topic, Mode::Binary).await?;
    let mut slow = Vec::new();
    for mode in MODES {
        let ask = Ask { receive_buffer: Some(SMALL), ..Ask::new(mode, "?since=0") };
        slow.push(Follower::open(target, &topic, &ask, None).await?);
    }
    let began = Instant::now();
    for seq in 1..=FLOOD {
        target.deliver_op(&topic, &op(1024 * 1024)).await?;
        let read = quick.until(seq as u64).await;
        read.map_err(|failure| failure.within("the quick reader beside two slow ones"))?;
    }
    // A server that holds everything for it, in memory or as a promise to read it from the disk, would not notice.
    tokio::time::sleep(STOPPED).await;
    for mut follower in slow {
        let mode = follower.socket.mode;
        until_let_go(&mut follower, began)
            .await
            .map_err(|failure| failure.within(&format!("the slow {} reader", mode.name())))?;
        let mut back = Follower::resume(target, &topic, mode, &follower.view).await?;
        back.until(FLOOD as u64).await?;
        equal("the chain of the one that came back", &back.view, &quick.view)?;
    }
    Ok(())
}

/// Reads what a slow reader still gets: operations without a hole, not all of them, then the announced close, or an end
/// without a word when so much time has passed since the flood `began` that the server need not wait any longer.
async fn until_let_go(follower: &mut Follower, began: Instant) -> Checked {
    let mut announced = follower.socket.mode == Mode::Json;
    loop {
        match follower.socket.event().await? {
            Event::Frame(Frame::Slow { .. }) => announced = true,
            Event::Frame(frame) => drop(follower.take(frame)?),
            Event::Pong(_) => {}
            Event::Closed(None) if began.elapsed() >= DROPPED => return Ok(()),
            Event::Closed(code) => {
                equal("the close code", &code, &Some(1013))?;
                return ensure(announced, "what precedes a close 1013", "slow", "nothing");
            }
        }
        let all = follower.view.seq >= FLOOD as u64;
        ensure(!all, "what a reader gets that stopped", "a part, then close 1013", "every operation, later")?;
    }
}

async fn case_70_pings_do_not_disturb_others(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut other = Follower::start(target, &topic, Mode::Binary).await?;
    let mut flooder = Follower::start(target, &topic, Mode::Binary).await?;
    for round in 1..=5 {
        for _ in 0..400 {
            flooder.socket.send(Message::Ping(vec![7; 125].into())).await;
        }
        target.deliver_op(&topic, &op(30)).await?;
        other.until(round).await?;
    }
    // Where the server hangs up while pings are on their way, the close frame may be lost with the connection.
    let code = flooder.socket.close_code().await?;
    ensure(matches!(code, Some(1013) | None), "the flooder's close code", "1013", format!("{code:?}"))
}

async fn case_70_many_sockets_of_one_address_all_get_everything(target: &Target) -> Checked {
    let topic = Topic::fresh();
    target.seed(&topic, &ops(3, 30)).await?;
    let mut followers = Vec::new();
    for at in 0..SOCKETS {
        followers.push(Follower::start(target, &topic, MODES[at % 2]).await?);
    }
    target.deliver_list(&topic, &ops(5, 30)).await?;
    try_join_all(followers.iter_mut().map(|follower| follower.until(8))).await?;
    let first = &followers[0].view;
    let same = followers.iter().all(|follower| follower.view == *first);
    ensure(same, "the chains of all subscribers", "one", "several")
}

async fn case_70_a_request_that_stops_half_way_does_not_disturb_others(target: &Target) -> Checked {
    use tokio::io::AsyncWriteExt;
    let mut held = Vec::new();
    for half in [
        "POST /deliver HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 4096\r\n\r\nxx",
        "GET /head",
        "GET /info HTTP/1.1\r\nHost: x\r\n",
    ] {
        let failure =
            |error: std::io::Error| Failure::new("half a request", "a connection", error.to_string());
        let mut stream = target.base.connect(None).await.map_err(failure)?;
        stream.write_all(half.as_bytes()).await.map_err(failure)?;
        held.push(stream);
    }
    let topic = Topic::fresh();
    target.seed(&topic, &ops(3, 30)).await?;
    let follower = Follower::start(target, &topic, Mode::Binary).await?;
    equal("seqs", &follower.opening.seqs(), &vec![1, 2, 3])
}
