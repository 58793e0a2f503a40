//! Publishers: JSON deliveries, whose answers are promises, and packets, which promise nothing but to be whole.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use delta_core::identity::EnvelopeHash;
use delta_core::topic::{Seq, TopicId, WriteKey};
use serde_json::{Value, json};

use super::world::{Dice, Life, World};
use crate::http::{self, Connection};
use crate::server::packet;
use crate::workload::content;

/// Most operations of one packet.
const PACKET_OPS: u64 = 40;
/// Pause between two deliveries of one publisher, milliseconds at most.
const PAUSE_MS: u64 = 12;

/// What a publisher still wants stored, and whether the server may have it already.
struct Wanted {
    topic: TopicId,
    ops: Vec<Bytes>,
    /// The era in which it was sent and no answer came.
    unknown_in: Option<u32>,
}

/// Publishes JSON deliveries until the run is over.
pub async fn open(world: Arc<World>, number: usize) {
    let mut dice = world.dice(&format!("open {number}"));
    let (mut made, mut wanted) = (0, None);
    while let Some(life) = world.any_life().await {
        let Ok(mut connection) = Connection::open(life.address).await else {
            tokio::time::sleep(dice.pause(1, PAUSE_MS)).await;
            continue;
        };
        while !world.is_over() {
            let next = wanted.take().or_else(|| {
                made += 1;
                let topic = *dice.pick(&world.open)?;
                let op = operation(&mut dice, &format!("open {number} {made}"));
                Some(Wanted { topic, ops: vec![op], unknown_in: None })
            });
            let Some(next) = next else { return };
            wanted = deliver_json(&world, &life, &mut connection, &mut dice, next).await;
            if wanted.is_some() {
                break;
            }
            tokio::time::sleep(dice.pause(0, PAUSE_MS)).await;
        }
    }
}

/// One JSON delivery. Gives back what is to be sent again on another connection.
async fn deliver_json(
    world: &World,
    life: &Life,
    connection: &mut Connection,
    dice: &mut Dice,
    wanted: Wanted,
) -> Option<Wanted> {
    let op = wanted.ops.first()?;
    let (topic, hash) = (wanted.topic, EnvelopeHash::of(op));
    let body = json!({ "topic_hex": topic.to_string(), "op_base64": STANDARD.encode(op) }).to_string();
    let request = http::post("/deliver", "application/json", body.as_bytes());
    // Now and then the same again: it keeps its seq.
    for first in [true, false].into_iter().take(if dice.percent(10) { 2 } else { 1 }) {
        let Ok(answer) = connection.send(&request).await else {
            world.count("deliveries without an answer", 1);
            return Some(Wanted { unknown_in: Some(life.era), ..wanted });
        };
        match answer.status {
            200 => match seq_of(&answer.body) {
                Some(seq) => {
                    world.count("deliveries answered with a seq", 1);
                    world.history().operation(topic, life.era, seq, hash);
                }
                None => world.wrong(format!("a delivery was answered with {:?}", answer.body)),
            },
            429 | 503 => {
                world.count("deliveries refused", 1);
                // Where an earlier attempt has or may have worked, a refusal of this one says nothing.
                if first && wanted.unknown_in != Some(life.era) {
                    world.history().refused(topic, life.era, hash);
                }
                return None;
            }
            other => world.wrong(format!("a delivery was answered with {other}: {:?}", answer.body)),
        }
    }
    None
}

fn seq_of(body: &[u8]) -> Option<Seq> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    answer.get("seq")?.as_u64().map(Seq)
}

/// Publishes packets until the run is over.
pub async fn signed(world: Arc<World>, number: usize) {
    let mut dice = world.dice(&format!("signed {number}"));
    let (mut made, mut wanted) = (0, None);
    while let Some(life) = world.any_life().await {
        let Ok(mut connection) = Connection::open(life.address).await else {
            tokio::time::sleep(dice.pause(1, PAUSE_MS)).await;
            continue;
        };
        while !world.is_over() {
            let key = dice.pick(&world.keys);
            let Some(key) = key else { return };
            let next = wanted.take().unwrap_or_else(|| {
                let count = 1 + dice.below(PACKET_OPS);
                let op = |_| {
                    made += 1;
                    operation(&mut dice, &format!("signed {number} {made}"))
                };
                Wanted { topic: key.topic(), ops: (0..count).map(op).collect(), unknown_in: None }
            });
            wanted = deliver_packet(&world, &life, &mut connection, &mut dice, next).await;
            if wanted.is_some() {
                break;
            }
            tokio::time::sleep(dice.pause(0, 2 * PAUSE_MS)).await;
        }
    }
}

async fn deliver_packet(
    world: &World,
    life: &Life,
    connection: &mut Connection,
    dice: &mut Dice,
    wanted: Wanted,
) -> Option<Wanted> {
    let key = world.keys.iter().find(|key: &&WriteKey| key.topic() == wanted.topic)?;
    let packet = match content(key, &wanted.ops).and_then(|content| packet(&life.hop, &content, dice.seed()))
    {
        Ok(packet) => packet,
        Err(error) => {
            world.wrong(format!("a packet cannot be made: {error}"));
            return None;
        }
    };
    let hashes: Vec<EnvelopeHash> = wanted.ops.iter().map(|op| EnvelopeHash::of(op)).collect();
    world.history().packet(wanted.topic, life.era, hashes.clone());
    let request = http::post("/deliver", "application/octet-stream", &packet);
    match connection.send(&request).await.map(|answer| answer.status) {
        Ok(202) => world.count("packets taken", 1),
        Ok(429 | 503) => {
            world.count("packets refused", 1);
            if wanted.unknown_in != Some(life.era) {
                let mut history = world.history();
                hashes.into_iter().for_each(|hash| history.refused(wanted.topic, life.era, hash));
            }
        }
        Ok(other) => world.wrong(format!("a packet was answered with {other}")),
        Err(_) => return Some(Wanted { unknown_in: Some(life.era), ..wanted }),
    }
    None
}

/// Mostly as long as a message, sometimes large, never twice the same.
fn operation(dice: &mut Dice, name: &str) -> Bytes {
    let length = match dice.below(100) {
        0 => 20_000 + dice.below(40_000),
        1..10 => 1_000 + dice.below(3_000),
        _ => 20 + dice.below(500),
    };
    let mut op = name.as_bytes().to_vec();
    let fill = dice.below(256) as u8;
    op.resize(op.len().max(usize::try_from(length).unwrap_or(0)), fill);
    op.into()
}
