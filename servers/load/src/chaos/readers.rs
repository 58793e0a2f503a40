//! Readers: subscribers that follow a topic through every fault, slow ones, and those who ask for history.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use delta_core::identity::EnvelopeHash;
use delta_core::sync::frame::Frame;
use delta_core::topic::{Generation, Seq, TopicId};
use serde_json::Value;

use super::history::{Era, Log};
use super::world::{Dice, Life, World};
use crate::http::{self, Connection};
use crate::subscriber::{Event, Subscriber};
use crate::view::View;

/// Receive buffer of a slow reader, bytes.
const NARROW: u32 = 4096;
/// Close codes a server may use: going away, too slow or busy.
const GOODBYES: [u16; 2] = [1012, 1013];

/// Follows one topic until the run is over, from where it was or from the start.
pub async fn follow(world: Arc<World>, topic: TopicId, number: usize) {
    let mut dice = world.dice(&format!("follow {number}"));
    let mut view: Option<(View, u32)> = None;
    while let Some(life) = world.any_life().await {
        let known = view.take().filter(|_| dice.percent(80));
        let (mut at, mut era) = known.unwrap_or_else(|| (View::new(topic, life.key), life.era));
        let query = at.reconnect();
        let Ok(Ok(mut socket)) = Subscriber::open(life.address, &topic, &query).await else {
            view = Some((at, era));
            tokio::time::sleep(dice.pause(1, 50)).await;
            continue;
        };
        world.count("subscriptions", 1);
        let patience = dice.pause(200, 5_000);
        let read = read(&world, &life, topic, (&mut at, &mut era), &mut socket);
        let good = tokio::time::timeout(patience, read).await.unwrap_or(true);
        view = good.then_some((at, era));
    }
}

/// Subscribes, reads nothing for a while, then takes what is left.
pub async fn dawdle(world: Arc<World>, topic: TopicId, number: usize) {
    let mut dice = world.dice(&format!("dawdle {number}"));
    while let Some(life) = world.any_life().await {
        let mut at = View::new(topic, life.key);
        let query = at.reconnect();
        if let Ok(Ok(mut socket)) = Subscriber::open_narrow(life.address, &topic, &query, NARROW).await {
            world.count("slow readers", 1);
            tokio::time::sleep(dice.pause(500, 4_000)).await;
            let mut era = life.era;
            let read = read(&world, &life, topic, (&mut at, &mut era), &mut socket);
            let _ = tokio::time::timeout(dice.pause(100, 1_000), read).await;
        }
        tokio::time::sleep(dice.pause(1, 200)).await;
    }
}

/// Takes what comes, writing it down, until the connection ends; `false` when what came was wrong. The view is of a
/// log of some era, which becomes the present one.
async fn read(
    world: &World,
    life: &Life,
    topic: TopicId,
    (view, era_of_view): (&mut View, &mut Era),
    socket: &mut Subscriber,
) -> bool {
    let era = life.era;
    loop {
        let frame = match socket.next().await {
            Ok(Event::Frame(frame)) => frame,
            Ok(Event::Closed(Some(code))) if !GOODBYES.contains(&code) => {
                world.wrong(format!("a reader was sent away with {code}"));
                return true;
            }
            Ok(Event::Closed(_)) | Err(_) => return true,
            Ok(Event::Bad(why)) => {
                world.wrong(format!("a reader got what is no frame: {why}"));
                return false;
            }
        };
        if let Frame::Hello { generation, head, .. } = &frame {
            let mut history = world.history();
            history.generation(topic, era, *generation);
            history.head(topic, era, *head);
        }
        match &frame {
            Frame::Reset { .. } if era == *era_of_view => {
                world.wrong("a reader was told to start over although nothing was wiped".to_owned());
            }
            Frame::Reset { .. } => world.count("resets after a wipe", 1),
            Frame::Slow { .. } => world.count("slow readers told so", 1),
            Frame::Gap { .. } => world.wrong("a gap, although nothing is evicted".to_owned()),
            _ => {}
        }
        if !matches!(frame, Frame::Hello { .. }) {
            *era_of_view = era;
        }
        let mut got = Vec::new();
        let taken = view.take(&frame, |seq, hash, _| got.push((seq, hash)));
        world.count("operations received", got.len());
        let mut history = world.history();
        got.into_iter().for_each(|(seq, hash)| history.operation(topic, era, seq, hash));
        if let (Ok(()), Frame::Ready(head) | Frame::Head(head)) = (&taken, &frame) {
            history.signed_head(topic, era, head.head, head.chain);
        }
        drop(history);
        if let Err(wrong) = taken {
            world.wrong(format!("life {}, topic {topic}: {wrong}", life.number));
            return false;
        }
    }
}

/// Asks for heads and pages of history until the run is over.
pub async fn browse(world: Arc<World>) {
    let mut dice = world.dice("browse");
    let topics = world.topics();
    while let Some(life) = world.any_life().await {
        if let Ok(mut connection) = Connection::open(life.address).await {
            while let Some(topic) = dice.pick(&topics).copied().filter(|_| !world.is_over()) {
                if ask(&world, &life, topic, &mut connection, &mut dice).await.is_err() {
                    break;
                }
                tokio::time::sleep(dice.pause(0, 40)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ask(
    world: &World,
    life: &Life,
    topic: TopicId,
    connection: &mut Connection,
    dice: &mut Dice,
) -> io::Result<()> {
    let page = dice.percent(70);
    let path = match page {
        true => format!("/topic/{topic}/ops?after={}&limit={}", dice.below(2_000), 1 + dice.below(200)),
        false => format!("/topic/{topic}/head"),
    };
    let answer = connection.send(&http::get(&path)).await?;
    match answer.status {
        200 if take_page(world, life, topic, &answer.body).is_none() => {
            world.wrong(format!("{path} was answered with {:?}", answer.body));
        }
        200 => world.count("pages and heads asked for", 1),
        429 | 503 => {}
        other => world.wrong(format!("{path} was answered with {other}")),
    }
    Ok(())
}

/// A page `{generation, head, tail, ops}`, or the same without operations.
fn take_page(world: &World, life: &Life, topic: TopicId, body: &[u8]) -> Option<()> {
    let page: Value = serde_json::from_slice(body).ok()?;
    let generation: Generation = page.get("generation")?.as_str()?.parse().ok()?;
    let mut history = world.history();
    history.generation(topic, life.era, generation);
    history.head(topic, life.era, Seq(page.get("head")?.as_u64()?));
    for op in page.get("ops").and_then(Value::as_array).into_iter().flatten() {
        let bytes = STANDARD.decode(op.get("data")?.as_str()?).ok()?;
        history.operation(topic, life.era, Seq(op.get("seq")?.as_u64()?), EnvelopeHash::of(&bytes));
    }
    Some(())
}

/// Reads a whole log, up to `ready`, with its chain and signed head checked.
pub async fn whole_log(life: &Life, topic: TopicId) -> anyhow::Result<Log> {
    let mut socket = match Subscriber::open(life.address, &topic, "since=0").await? {
        Ok(socket) => socket,
        Err(status) => anyhow::bail!("the subscription was refused with {status}"),
    };
    let (mut view, mut operations) = (View::new(topic, life.key), Vec::new());
    while !view.ready {
        match socket.next().await? {
            Event::Frame(frame) => view.take(&frame, |seq, hash, _| operations.push((seq, hash)))?,
            other => anyhow::bail!("{other:?} instead of operations"),
        }
    }
    let generation = view.generation.ok_or_else(|| anyhow::anyhow!("no hello"))?;
    Ok(Log { generation, operations })
}
