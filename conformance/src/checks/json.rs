//! Section 9.2: the original protocol, in JSON frames.

use super::{Check, check};
use crate::failure::{Checked, Failure, equal, equal_lists};
use crate::frame::Frame;
use crate::socket::{Ask, Follower, Mode, Socket};
use crate::target::Target;
use crate::topic::{Topic, op, ops};

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        json_replay_then_ready_then_live,
        "9.2",
        Always,
        "A subscriber gets what lies above since, then ready, then live operations, each in a text message.",
    ),
    check!(
        json_ready_carries_generation_chain_and_signature,
        "9.2",
        Always,
        "ready names head, generation, chain and sig, in lower-case hex, signed by the node key.",
    ),
    check!(
        json_has_no_hello_head_signal_or_slow,
        "9.2",
        Everlasting,
        "JSON sockets get op, ready, gap and reset only, also after 256 live operations.",
    ),
];

async fn json_replay_then_ready_then_live(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let given = ops(5, 40);
    target.seed(&topic, &given[..3]).await?;
    let mut socket = Socket::open(target, &topic, &Ask::new(Mode::Json, "?since=1")).await?;
    let mut came = Vec::new();
    for _ in 0..2 {
        came.push(one_operation(socket.frame().await?)?);
    }
    let Frame::Ready(ready) = socket.frame().await? else {
        return Err(Failure::new("the frame after the replay", "ready", "another one"));
    };
    equal("ready.head", &ready.head, &3)?;
    for operation in &given[3..] {
        target.deliver_op(&topic, operation).await?;
        came.push(one_operation(socket.frame().await?)?);
    }
    let expected: Vec<(u64, Vec<u8>)> = (2..=5).zip(given[1..].iter().cloned()).collect();
    equal_lists("seq and data of the op frames", &came, &expected)
}

fn one_operation(frame: Frame) -> Checked<(u64, Vec<u8>)> {
    match frame {
        Frame::Ops(mut items) if items.len() == 1 => {
            let item = items.remove(0);
            Ok((item.seq, item.op))
        }
        other => Err(Failure::new("a JSON frame", "op", format!("{other:?}"))),
    }
}

async fn json_ready_carries_generation_chain_and_signature(target: &Target) -> Checked {
    let topic = Topic::fresh();
    for count in 0..3 {
        // Opening checks chain and signature against what came.
        let follower = Follower::start(target, &topic, Mode::Json).await?;
        let generation = target.head(&topic).await?.generation;
        equal("ready.generation", &follower.opening.ready.generation, &Some(generation))?;
        equal("ready.head", &follower.opening.ready.head, &count)?;
        target.seed(&topic, &[op(30)]).await?;
    }
    Ok(())
}

async fn json_has_no_hello_head_signal_or_slow(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut follower = Follower::start(target, &topic, Mode::Json).await?;
    for part in ops(300, 16).chunks(100) {
        target.deliver_list(&topic, part).await?;
    }
    // Frames of any other type are failures of reading.
    follower.until(300).await?;
    target.deliver_op(&topic, &op(16)).await?;
    follower.until(301).await?;
    equal("heads on a JSON socket", &follower.heads.len(), &0)
}
