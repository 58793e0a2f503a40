//! Section 8: the JSON deliveries of version 2 relays.

use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, Engine as _};
use serde_json::{Value, json};

use super::{Check, check};
use crate::failure::{Checked, equal, equal_lists};
use crate::frame::{MAX_OP, number};
use crate::http::{Answer, Body};
use crate::socket::{Follower, Mode};
use crate::target::{Target, parse_json};
use crate::topic::{Topic, op, ops};

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        v2_is_refused_where_it_is_off,
        "8",
        NoV2,
        "JSON deliveries are answered 403 when version 2 is off, and nothing is stored.",
    ),
    check!(
        v2_deliveries_are_stored_before_they_are_answered,
        "8, 10",
        V2,
        "A JSON delivery is answered 200 {\"seq\": n} after the commit, and pushed like any other.",
    ),
    check!(
        v2_duplicates_answer_their_first_seq,
        "8, 10",
        V2,
        "A duplicate is answered with its first seq, and not pushed again.",
    ),
    check!(v2_takes_hex_of_either_case, "8", V2, "topic_hex may be of either case.",),
    check!(
        v2_refuses_what_is_malformed,
        "8",
        V2,
        "No JSON, missing fields, bad hex, unpadded or other base64, or an empty operation is answered 400.",
    ),
    check!(
        case_71_v2_takes_1_mib_and_refuses_more,
        "8, 16",
        V2,
        "A JSON delivery above 1 MiB is answered 413.",
    ),
    check!(
        v2_is_refused_for_topics_with_signed_writes,
        "8",
        V2,
        "A topic that ever had a signed write takes no JSON delivery: 403.",
    ),
    check!(case_49_v2_refuses_deep_nesting, "8", V2, "JSON of 10,000 nested arrays is answered 400.",),
];

fn seq(answer: &Answer) -> Checked<u64> {
    equal("the status of a JSON delivery", &answer.status, &200)?;
    number(&parse_json("the answer of a JSON delivery", answer)?, "seq")
}

async fn v2_is_refused_where_it_is_off(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let answer = target.post_v2(&Target::v2_body(&topic, &op(30))).await?;
    equal("the status", &answer.status, &403)?;
    super::packets::only_marker(target, "a JSON delivery", &topic).await
}

async fn v2_deliveries_are_stored_before_they_are_answered(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut follower = Follower::start(target, &topic, Mode::Json).await?;
    let given = ops(5, 40);
    for (at, operation) in given.iter().enumerate() {
        let expected = at as u64 + 1;
        equal("seq", &seq(&target.post_v2(&Target::v2_body(&topic, operation)).await?)?, &expected)?;
        equal("head right after the answer", &target.head(&topic).await?.head, &expected)?;
    }
    let came: Vec<Vec<u8>> = follower.until(5).await?.into_iter().map(|item| item.op).collect();
    equal_lists("what was pushed", &came, &given)
}

async fn v2_duplicates_answer_their_first_seq(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut follower = Follower::start(target, &topic, Mode::Binary).await?;
    let given = ops(3, 40);
    for (operation, expected) in [(0, 1), (1, 2), (0, 1), (1, 2), (1, 2), (2, 3)] {
        let answer = target.post_v2(&Target::v2_body(&topic, &given[operation])).await?;
        equal("seq", &seq(&answer)?, &expected)?;
    }
    let came: Vec<Vec<u8>> = follower.until(3).await?.into_iter().map(|item| item.op).collect();
    equal_lists("what was pushed", &came, &given)
}

async fn v2_takes_hex_of_either_case(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let given = ops(2, 40);
    let mut upper = Target::v2_body(&topic, &given[0]);
    upper["topic_hex"] = json!(topic.hex.to_uppercase());
    equal("seq", &seq(&target.post_v2(&upper).await?)?, &1)?;
    equal("seq", &seq(&target.post_v2(&Target::v2_body(&topic, &given[1])).await?)?, &2)?;
    equal_lists("the log", &target.log_ops(&topic).await?, &given)
}

async fn v2_refuses_what_is_malformed(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let hex = &topic.hex;
    // 0xfb 0xff … is "+/…" in standard base64 and "-_…" in the URL-safe alphabet; 31 bytes need padding.
    let bytes = [[0xfb, 0xff].as_slice(), &op(29)].concat();
    let data = BASE64_STANDARD.encode(&bytes);
    let bodies: Vec<Value> = vec![
        json!({}),
        json!([]),
        json!("x"),
        json!({ "topic_hex": hex }),
        json!({ "op_base64": data }),
        json!({ "topic_hex": hex, "op_base64": 1 }),
        json!({ "topic_hex": 1, "op_base64": data }),
        json!({ "topic_hex": hex[..63], "op_base64": data }),
        json!({ "topic_hex": format!("{hex}00"), "op_base64": data }),
        json!({ "topic_hex": format!("{}g", &hex[..63]), "op_base64": data }),
        json!({ "topic_hex": hex, "op_base64": "" }),
        json!({ "topic_hex": hex, "op_base64": "####" }),
        json!({ "topic_hex": hex, "op_base64": BASE64_STANDARD_NO_PAD.encode(&bytes) }),
        json!({ "topic_hex": hex, "op_base64": BASE64_URL_SAFE.encode(&bytes) }),
        json!({ "topic_hex": hex, "op_base64": format!("{data}\n") }),
    ];
    for body in bodies {
        let answer = target.post_v2(&body).await?;
        equal(format!("the status for {body}"), &answer.status, &400)?;
    }
    for text in ["", "{", "x", "{\"topic_hex\":"] {
        let answer = target.post("/deliver", "application/json", Body::Bytes(text.as_bytes())).await?;
        equal(format!("the status for {text:?}"), &answer.status, &400)?;
    }
    equal("head", &target.head(&topic).await?.head, &0)
}

async fn case_71_v2_takes_1_mib_and_refuses_more(target: &Target) -> Checked {
    let topic = Topic::fresh();
    for more in [1, 4096] {
        let answer = target.post_v2(&Target::v2_body(&topic, &op(MAX_OP + more))).await?;
        equal(format!("the status for 1 MiB and {more}"), &answer.status, &413)?;
    }
    equal("seq", &seq(&target.post_v2(&Target::v2_body(&topic, &op(MAX_OP))).await?)?, &1)
}

async fn v2_is_refused_for_topics_with_signed_writes(target: &Target) -> Checked {
    for list in [false, true] {
        let topic = Topic::fresh();
        let given = ops(3, 40);
        equal("seq", &seq(&target.post_v2(&Target::v2_body(&topic, &given[0])).await?)?, &1)?;
        if list {
            target.deliver_list(&topic, &given[1..]).await?;
        } else {
            target.deliver_op(&topic, &given[1]).await?;
            target.deliver_op(&topic, &given[2]).await?;
        }
        target.wait_head(&topic, 3).await?;
        for operation in [&given[0], &op(40)] {
            let answer = target.post_v2(&Target::v2_body(&topic, operation)).await?;
            equal("the status after a signed write", &answer.status, &403)?;
        }
        equal("head", &target.head(&topic).await?.head, &3)?;
    }
    Ok(())
}

async fn case_49_v2_refuses_deep_nesting(target: &Target) -> Checked {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let answer = target.post("/deliver", "application/json", Body::Bytes(deep.as_bytes())).await?;
    equal("the status", &answer.status, &400)
}
