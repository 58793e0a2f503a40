//! The suite fails where it must: each lie of a proxy in front of a good server is caught by the check that is for it,
//! and by an honest proxy none is.

use std::path::PathBuf;

use delta_conformance::http::{Answer, Base};
use delta_conformance::liar::{Liar, Lie};
use delta_conformance::spawn::Spawned;
use delta_conformance::{Options, Report, Settings, run};

/// The server program lies beside the folder of the test programs.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path =
        own.parent().unwrap().parent().unwrap().join(format!("delta-sync{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is missing: run `cargo build -p delta-sync` first", path.display());
    path
}

/// Changes the JSON answers of a path.
fn json(path: &str, part: &str, answer: &mut Answer, change: impl FnOnce(&mut serde_json::Value)) {
    if path.contains(part) && answer.body.starts_with(b"{") {
        let mut value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        change(&mut value);
        answer.body = value.to_string().into_bytes();
    }
}

async fn report(server: &Spawned, lie: Lie, filter: &str) -> Report {
    let liar = Liar::start(Base::parse(&server.url).unwrap(), lie).await.unwrap();
    let options = Options {
        url: liar.url.clone(),
        settings: Settings::default(),
        filter: Some(filter.to_owned()),
        jobs: 4,
    };
    run(&options).await.unwrap()
}

const fn answer(answer: fn(&str, &mut Answer)) -> Lie {
    Lie { answer, ..Lie::NONE }
}

const fn frame(frame: fn(Vec<u8>) -> Vec<Vec<u8>>) -> Lie {
    Lie { frame, ..Lie::NONE }
}

/// Changes frames of one type.
fn of_type(kind: u8, mut frame: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<Vec<u8>> {
    if frame.first() == Some(&kind) {
        change(&mut frame);
    }
    vec![frame]
}

fn flip_last(frame: &mut [u8]) {
    if let Some(byte) = frame.last_mut() {
        *byte ^= 1;
    }
}

/// An `ops` frame as one frame per operation, in reverse.
fn reversed(frame: Vec<u8>) -> Vec<Vec<u8>> {
    if frame.first() != Some(&2) {
        return vec![frame];
    }
    let (mut rest, mut singles) = (&frame[3..], Vec::new());
    while !rest.is_empty() {
        let len = u32::from_be_bytes(rest[16..20].try_into().unwrap()) as usize;
        singles.push([&[2, 0, 1], &rest[..20 + len]].concat());
        rest = &rest[20 + len..];
    }
    singles.reverse();
    singles
}

const LIES: [(&str, &str, Lie); 32] = [
    ("an operation is changed", "replay_starts_behind_since", frame(|f| of_type(2, f, |f| flip_last(f)))),
    ("operations are swapped", "replay_starts_behind_since", frame(reversed)),
    (
        "operations come twice",
        "all_subscribers_get_one_order",
        frame(|f| if f[0] == 2 { vec![f.clone(), f] } else { vec![f] }),
    ),
    (
        "operations are left out",
        "case_52_operations_accepted",
        frame(|f| if f[0] == 2 && f[2] == 1 { Vec::new() } else { vec![f] }),
    ),
    ("a signature is wrong", "ready_head_is_the_last_seq", frame(|f| of_type(3, f, |f| flip_last(f)))),
    ("a chain is wrong", "ready_head_is_the_last_seq", frame(|f| of_type(3, f, |f| f[9] ^= 1))),
    ("ready names another head", "ready_head_is_the_last_seq", frame(|f| of_type(3, f, |f| f[8] ^= 1))),
    ("a live head is wrong", "a_head_follows_256", frame(|f| of_type(8, f, |f| flip_last(f)))),
    ("there is no live head", "a_head_follows_256", frame(|f| if f[0] == 8 { Vec::new() } else { vec![f] })),
    ("there is no hello", "hello_comes_first", frame(|f| if f[0] == 1 { Vec::new() } else { vec![f] })),
    ("hello has bytes left over", "hello_comes_first", frame(|f| of_type(1, f, |f| f.push(0)))),
    (
        "there is no reset",
        "another_generation_is_reset",
        frame(|f| if f[0] == 5 { Vec::new() } else { vec![f] }),
    ),
    ("a reset names another head", "another_chain_is_reset", frame(|f| of_type(5, f, |f| flip_last(f)))),
    (
        "bad packets get another answer",
        "case_01_good_and_bad",
        answer(|path, answer| {
            if path == "/deliver" {
                answer.headers.push(("x-number".to_owned(), format!("{:?}", std::thread::current().id())));
                answer.body = delta_conformance::random::bytes(3);
            }
        }),
    ),
    (
        "a wrong length is taken",
        "case_07_only_class_sizes",
        answer(|_, answer| {
            if answer.status == 400 {
                answer.status = 202;
            }
        }),
    ),
    (
        "a page lacks its last operation",
        "ops_pages_hold_100",
        answer(|path, answer| {
            if path.contains("/ops") && answer.body.starts_with(b"{") {
                let mut page: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                page["ops"].as_array_mut().unwrap().pop();
                answer.body = page.to_string().into_bytes();
            }
        }),
    ),
    (
        "has forgets",
        "has_answers_in_request_order",
        answer(|path, answer| {
            if path.contains("/has") {
                answer.body.fill(0);
            }
        }),
    ),
    (
        "has answers anything",
        "has_takes_1_to_256",
        answer(|path, answer| {
            if path.contains("/has") {
                answer.status = 200;
            }
        }),
    ),
    (
        "an unknown topic is not found",
        "case_72_unknown_and_empty",
        answer(|path, answer| {
            if path.contains("/head") && answer.text().contains("\"head\":0") {
                answer.status = 404;
            }
        }),
    ),
    (
        "a description is forgotten",
        "control_describes_a_topic",
        answer(|path, answer| {
            json(path, "/about", answer, |about| about["metadata"] = serde_json::Value::Null)
        }),
    ),
    (
        "a description is cut",
        "control_messages_keep",
        answer(|path, answer| {
            json(path, "/about", answer, |about| about["metadata"]["name"] = "short".into())
        }),
    ),
    (
        "a private topic is deleted",
        "a_topic_that_began_with_an_operation",
        answer(|path, answer| {
            if path.contains("/about") {
                answer.status = 410;
            }
        }),
    ),
    (
        "a deleted topic is shown",
        "a_deleted_topic_is_gone",
        answer(|path, answer| {
            if path.contains("/ops") && answer.status == 410 {
                answer.status = 200;
            }
        }),
    ),
    (
        "a proof is asked for where none is needed",
        "read_keys_count_only",
        answer(|path, answer| {
            if path.contains("/has") {
                answer.status = 401;
            }
        }),
    ),
    (
        "one subscriber too many is told",
        "the_number_of_subscribers",
        answer(|path, answer| json(path, "/subscribers", answer, |told| told["subscribers"] = 3.into())),
    ),
    ("signals are changed", "signals_reach_binary", frame(|f| of_type(6, f, |f| flip_last(f)))),
    (
        "a search names another author",
        "a_public_channel_is_searched",
        answer(|path, answer| {
            json(path, "/search", answer, |page| {
                for op in page["ops"].as_array_mut().unwrap() {
                    op["author"] = "ab".repeat(32).into();
                }
            });
        }),
    ),
    (
        "a search finds what was not asked for",
        "what_is_searched_for_is_words",
        answer(|path, answer| {
            json(path, "/search", answer, |page| {
                if let Some(op) = page["ops"].as_array().unwrap().first().cloned() {
                    page["ops"].as_array_mut().unwrap().push(op);
                }
            });
        }),
    ),
    (
        "a search tells how long a private topic is",
        "case_72_a_search",
        answer(|path, answer| json(path, "/search", answer, |page| page["indexed"] = 3.into())),
    ),
    (
        "a search takes any question",
        "search_refuses_bad",
        answer(|path, answer| {
            if path.contains("/search") {
                answer.status = 200;
            }
        }),
    ),
    (
        "what a slow reader does not take is hoarded for it",
        "case_70_a_slow_reader",
        Lie { hoard: true, ..Lie::NONE },
    ),
    (
        "v2 is taken where it is off",
        "v2_is_refused_where_it_is_off",
        answer(|_, answer| {
            if answer.status == 403 {
                answer.status = 200;
            }
        }),
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_caught_and_honesty_is_not_punished() {
    let server = Spawned::start(&program(), Settings::default()).await.unwrap();
    for (what, filter, lie) in LIES {
        let honest = report(&server, Lie::NONE, filter).await;
        assert_eq!((honest.passed(), honest.failed()), (1, 0), "an honest proxy: {honest}");
        let caught = report(&server, lie, filter).await;
        assert_eq!(caught.failed(), 1, "nobody noticed that {what}: {caught}");
    }
    server.stop().await.unwrap();
}

/// A server that asks for proofs, and a proxy that lets everyone in.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_look_at_proofs_is_caught() {
    let settings = Settings { read_proof: true, ..Settings::default() };
    let server = Spawned::start(&program(), settings).await.unwrap();
    let filter = "a_read_key_must_be_proved";
    let honest = report(&server, Lie::NONE, filter).await;
    assert_eq!((honest.passed(), honest.failed()), (1, 0), "an honest proxy: {honest}");
    let lie = answer(|_, answer| {
        if answer.status == 401 {
            answer.status = 200;
        }
    });
    let caught = report(&server, lie, filter).await;
    assert_eq!(caught.failed(), 1, "nobody noticed: {caught}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_not_signed_stops_the_suite() {
    let server = Spawned::start(&program(), Settings::default()).await.unwrap();
    let lie = answer(|path, answer| {
        if path == "/info" {
            answer.body = answer.text().replace("t=sync", "t=sync;q=1").into_bytes();
        }
    });
    let liar = Liar::start(Base::parse(&server.url).unwrap(), lie).await.unwrap();
    let options = Options { url: liar.url.clone(), settings: Settings::default(), filter: None, jobs: 4 };
    let failure = run(&options).await.unwrap_err();
    assert_eq!(failure.what, "the record's signature");
    server.stop().await.unwrap();
}
