//! Sections 4 and 8: what the holders of a write key say about their topic, who may read it, how many listen.

use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

use super::{Check, check};
use crate::control::{delete, map, metadata, read_key, text, uint};
use crate::failure::{Checked, Failure, ensure, equal};
use crate::http::Body;
use crate::random;
use crate::socket::{Ask, Follower, MODES, Socket};
use crate::target::{OCTETS, Target, WAIT, parse_json};
use crate::topic::{Content, Topic, op, ops};

/// How often something is looked at while it is awaited.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        control_describes_a_topic,
        "4, 8",
        Always,
        "`about` shows what the control message with the highest counter said; lower counters are dropped.",
    ),
    check!(
        control_messages_keep_their_form_and_limits,
        "4",
        Always,
        "A control message that is not deterministic CBOR, of an unknown action or outside its limits changes nothing.",
    ),
    check!(
        a_topic_that_began_with_an_operation_takes_no_control,
        "4",
        Always,
        "A topic takes control only when its first control message came before its first operation.",
    ),
    check!(
        a_deleted_topic_is_gone_for_good,
        "4, 8, 9.3",
        Always,
        "`delete` closes the topic's sockets with 1008; everything about it is answered with 410 from then on.",
    ),
    check!(
        a_read_key_must_be_proved,
        "8",
        ReadProof,
        "Where proofs are asked for, a topic with a read key is read with a fresh nonce and a proof of that key only.",
    ),
    check!(
        read_keys_count_only_where_proofs_are_asked_for,
        "8",
        NoReadProof,
        "Where proofs are not asked for, a topic with a read key is read by everyone, and a proof is ignored.",
    ),
    check!(
        the_number_of_subscribers_is_told_to_who_may_write,
        "8",
        Always,
        "`subscribers` tells how many sockets are open on a topic to those who prove its write key.",
    ),
];

/// Sends a control message.
pub async fn control(target: &Target, topic: &Topic, payload: &[u8]) -> Checked {
    target.deliver(&Content::right(topic, 3, payload).encode()).await
}

/// What `about` says, `query` with its question mark.
async fn about(target: &Target, topic: &Topic, query: &str) -> Checked<Value> {
    let answer = target.get(&format!("/topic/{}/about{query}", topic.hex), Vec::new()).await?;
    equal("the status of /about", &answer.status, &200)?;
    parse_json("/about", &answer)
}

/// Waits until the topic's last counter is this one.
pub async fn wait_counter(target: &Target, topic: &Topic, counter: u64) -> Checked<Value> {
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let value = about(target, topic, "").await?;
        if value["counter"] == counter {
            return Ok(value);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Failure::new(
                "/about after a control message",
                format!("counter {counter}"),
                value.to_string(),
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Makes a public channel of a fresh topic.
pub async fn describe(target: &Target, topic: &Topic) -> Checked {
    control(target, topic, &metadata(1, "Garden", None)).await?;
    wait_counter(target, topic, 1).await.map(drop)
}

async fn control_describes_a_topic(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let unknown = json!({ "metadata": null, "counter": 0, "read_key": null });
    equal("/about of an unknown topic", &about(target, &topic, "").await?, &unknown)?;
    control(target, &topic, &metadata(7, "Gärten", Some("of all\nkinds"))).await?;
    let expected = json!({ "name": "Gärten", "description": "of all\nkinds" });
    equal("the description", &wait_counter(target, &topic, 7).await?["metadata"], &expected)?;
    for old in [1, 6, 7] {
        control(target, &topic, &metadata(old, "old", None)).await?;
    }
    control(target, &topic, &metadata(8, "Garden", None)).await?;
    let expected = json!({ "name": "Garden", "description": null });
    equal("the next description", &wait_counter(target, &topic, 8).await?["metadata"], &expected)?;
    let key = random::array();
    control(target, &topic, &read_key(i64::MAX as u64, Some(&key))).await?;
    let value = if target.settings.read_proof {
        return Ok(());
    } else {
        wait_counter(target, &topic, i64::MAX as u64).await?
    };
    equal("the read key", &value["read_key"], &json!(hex::encode(key)))?;
    equal("the description beside it", &value["metadata"], &expected)
}

async fn control_messages_keep_their_form_and_limits(target: &Target) -> Checked {
    let topic = Topic::fresh();
    describe(target, &topic).await?;
    let good = metadata(9, "no", None);
    let long = metadata(9, "no", Some(&"x".repeat(2049)));
    // The counter, 9, in two bytes.
    let wide = [&good[..2], &[0x18, 9], &good[3..]].concat();
    let endless = [&[0xbf], &good[1..], &[0xff]].concat();
    for (what, bytes) in [
        ("bytes left over", [good.as_slice(), &[0]].concat()),
        ("a cut message", good[..good.len() - 1].to_vec()),
        ("a number not in its shortest form", wide),
        ("an indefinite length", endless),
        ("an unknown action", map(&[uint(9), text("rename"), text("no")])),
        ("counter 0", delete(0)),
        ("counter 2^63", delete(1 << 63)),
        ("an empty name", metadata(9, "", None)),
        ("a name of 65 characters", metadata(9, &"ä".repeat(65), None)),
        ("a control character in a name", metadata(9, "a\nb", None)),
        ("a description of 2,049 bytes", long),
        ("no description", map(&[uint(9), text("metadata")])),
        ("a read key of 31 bytes", map(&[uint(9), text("read_key"), [&[0x58, 31][..], &[7; 31]].concat()])),
        ("an array", [&[0x83], &good[1..]].concat()),
        ("nothing", Vec::new()),
    ] {
        control(target, &topic, &bytes).await.map_err(|failure| failure.within(what))?;
    }
    // As large as it may be, and a key that later versions may add.
    let name = "ä".repeat(64);
    let text_2048 = "x".repeat(2048);
    control(target, &topic, &metadata(2, &name, Some(&text_2048))).await?;
    let value = wait_counter(target, &topic, 2).await?;
    equal(
        "the description at its limits",
        &value["metadata"],
        &json!({ "name": name, "description": text_2048 }),
    )?;
    let about = map(&[text("Later"), text("with"), text("more")]);
    control(target, &topic, &map(&[uint(3), text("metadata"), about, text("and here")])).await?;
    let value = wait_counter(target, &topic, 3).await?;
    equal("unknown keys", &value["metadata"], &json!({ "name": "Later", "description": "with" }))
}

async fn a_topic_that_began_with_an_operation_takes_no_control(target: &Target) -> Checked {
    let topic = Topic::fresh();
    target.seed(&topic, &ops(1, 30)).await?;
    control(target, &topic, &metadata(1, "Garden", None)).await?;
    control(target, &topic, &delete(2)).await?;
    target.seed(&topic, &ops(1, 30)).await?;
    equal("operations in the log", &target.log(&topic).await?.len(), &2)?;
    equal("its counter", &about(target, &topic, "").await?["counter"], &json!(0))
}

/// The statuses of everything that is asked about a topic, by path.
async fn statuses(target: &Target, topic: &Topic, query: &str) -> Checked<Vec<(&'static str, u16)>> {
    let mut found = Vec::new();
    for path in ["head", "ops", "about", "search"] {
        let answer = target.get(&format!("/topic/{}/{path}{query}", topic.hex), Vec::new()).await?;
        found.push((path, answer.status));
    }
    let path = format!("/topic/{}/has{query}", topic.hex);
    found.push(("has", target.post(&path, OCTETS, Body::Bytes(&[0; 32])).await?.status));
    let upgrade = match Socket::open(target, topic, &Ask::new(MODES[0], query)).await {
        Ok(_) => 101,
        Err(failure) => failure.got.get(..3).and_then(|status| status.parse().ok()).unwrap_or(0),
    };
    found.push(("the upgrade", upgrade));
    Ok(found)
}

async fn all_answer(target: &Target, topic: &Topic, query: &str, what: &str, status: u16) -> Checked {
    for (path, got) in statuses(target, topic, query).await? {
        let expected = if path == "the upgrade" && status == 200 { 101 } else { status };
        equal(format!("the status of {path} {what}"), &got, &expected)?;
    }
    Ok(())
}

async fn a_deleted_topic_is_gone_for_good(target: &Target) -> Checked {
    let topic = Topic::fresh();
    describe(target, &topic).await?;
    target.seed(&topic, &ops(2, 30)).await?;
    let mut followers = Vec::new();
    for mode in MODES {
        followers.push(Follower::start(target, &topic, mode).await?);
    }
    control(target, &topic, &delete(2)).await?;
    for follower in &mut followers {
        follower.socket.expect_close("a delete", 1008).await?;
    }
    all_answer(target, &topic, "", "of a deleted topic", 410).await?;
    target.deliver_op(&topic, &op(30)).await?;
    control(target, &topic, &metadata(3, "Back", None)).await?;
    // Another topic's delivery has come, and so would have these.
    target.seed(&Topic::fresh(), &ops(1, 30)).await?;
    all_answer(target, &topic, "", "after a delivery to a deleted topic", 410).await
}

async fn nonce(target: &Target, topic: &Topic) -> Checked<[u8; 32]> {
    let answer = target.get(&format!("/topic/{}/nonce", topic.hex), Vec::new()).await?;
    equal("the status of /nonce", &answer.status, &200)?;
    crate::frame::hex_field(&parse_json("/nonce", &answer)?, "nonce")
}

/// A proof of a key: its signature over purpose, server, topic and nonce.
fn proof(target: &Target, purpose: &str, key: &SigningKey, topic: &Topic, nonce: &[u8; 32]) -> String {
    let message = [purpose.as_bytes(), target.node.as_bytes(), &topic.id, nonce].concat();
    hex::encode(key.sign(&message).to_bytes())
}

async fn a_read_key_must_be_proved(target: &Target) -> Checked {
    let (topic, other) = (Topic::fresh(), Topic::fresh());
    describe(target, &topic).await?;
    target.seed(&topic, &ops(1, 30)).await?;
    let key = SigningKey::from_bytes(&random::array());
    let mut reader = Follower::start(target, &topic, MODES[0]).await?;
    control(target, &topic, &read_key(2, Some(&key.verifying_key().to_bytes()))).await?;
    reader.socket.expect_close("a read key", 1008).await?;
    all_answer(target, &topic, "", "without a proof", 401).await?;

    let fresh = nonce(target, &topic).await?;
    let query = |nonce: &[u8; 32], proof: &str| format!("?nonce={}&proof={proof}", hex::encode(nonce));
    let good = query(&fresh, &proof(target, "delta:read:v1", &key, &topic, &fresh));
    all_answer(target, &topic, &good, "with a proof", 200).await?;
    let foreign = nonce(target, &other).await?;
    let stranger = SigningKey::from_bytes(&random::array());
    for (what, query) in [
        ("with another key", query(&fresh, &proof(target, "delta:read:v1", &stranger, &topic, &fresh))),
        ("with another purpose", query(&fresh, &proof(target, "delta:count:v1", &key, &topic, &fresh))),
        (
            "with another topic's nonce",
            query(&foreign, &proof(target, "delta:read:v1", &key, &topic, &foreign)),
        ),
        (
            "with a nonce nobody gave",
            query(&[7; 32], &proof(target, "delta:read:v1", &key, &topic, &[7; 32])),
        ),
    ] {
        all_answer(target, &topic, &query, what, 401).await?;
    }
    control(target, &topic, &read_key(3, None)).await?;
    wait_counter_proved(target, &topic, &key).await?;
    all_answer(target, &topic, "", "when the read key is gone", 200).await
}

/// Waits until the topic can be read without a proof.
async fn wait_counter_proved(target: &Target, topic: &Topic, key: &SigningKey) -> Checked {
    let deadline = tokio::time::Instant::now() + WAIT;
    while tokio::time::Instant::now() < deadline {
        let fresh = nonce(target, topic).await?;
        let proof = proof(target, "delta:read:v1", key, topic, &fresh);
        let query = format!("?nonce={}&proof={proof}", hex::encode(fresh));
        if about(target, topic, &query).await?["counter"] == 3 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(Failure::new("taking a read key back", "counter 3", "another"))
}

async fn read_keys_count_only_where_proofs_are_asked_for(target: &Target) -> Checked {
    let topic = Topic::fresh();
    control(target, &topic, &read_key(1, Some(&random::array()))).await?;
    wait_counter(target, &topic, 1).await?;
    all_answer(target, &topic, "", "with a read key", 200).await?;
    let query = format!("?nonce={}&proof={}", "ab".repeat(32), "cd".repeat(64));
    all_answer(target, &topic, &query, "with a proof of nothing", 200).await
}

async fn the_number_of_subscribers_is_told_to_who_may_write(target: &Target) -> Checked {
    let (topic, other) = (Topic::fresh(), Topic::fresh());
    let (write, foreign) = (topic.key.signing_key(), other.key.signing_key());
    let path = |key: &SigningKey, nonce: &[u8; 32], proof: &str| {
        let (write_vk, nonce) = (hex::encode(key.verifying_key().to_bytes()), hex::encode(nonce));
        format!("/topic/{}/subscribers?write_vk={write_vk}&nonce={nonce}&proof={proof}", topic.hex)
    };
    let mut followers = Vec::new();
    for (count, mode) in (1..).zip(MODES) {
        followers.push(Follower::start(target, &topic, mode).await?);
        let fresh = nonce(target, &topic).await?;
        let good = proof(target, "delta:count:v1", &write, &topic, &fresh);
        let answer = target.get(&path(&write, &fresh, &good), Vec::new()).await?;
        equal("the status of /subscribers", &answer.status, &200)?;
        equal("subscribers", &parse_json("/subscribers", &answer)?, &json!({ "subscribers": count }))?;
    }
    let fresh = nonce(target, &topic).await?;
    let good = proof(target, "delta:count:v1", &write, &topic, &fresh);
    for (what, path, status) in [
        ("another topic's key", path(&foreign, &fresh, &good), 400),
        ("no key", format!("/topic/{}/subscribers", topic.hex), 400),
        (
            "a proof of another key",
            path(&write, &fresh, &proof(target, "delta:count:v1", &foreign, &topic, &fresh)),
            401,
        ),
        (
            "a proof of reading",
            path(&write, &fresh, &proof(target, "delta:read:v1", &write, &topic, &fresh)),
            401,
        ),
        (
            "another nonce",
            path(&write, &[7; 32], &proof(target, "delta:count:v1", &write, &topic, &[7; 32])),
            401,
        ),
    ] {
        let got = target.get(&path, Vec::new()).await?.status;
        ensure(got == status, format!("the status with {what}"), status.to_string(), got.to_string())?;
    }
    Ok(())
}
