//! Two people in a space, over real relays and a real server.

use serde_json::Value;

use crate::support::{Device, Network, json_lines, texts};

fn one(device: &Device, arguments: &[&str]) -> Value {
    let lines = json_lines(&mut device.command(arguments));
    lines.into_iter().next().unwrap_or_else(|| panic!("{arguments:?} printed nothing"))
}

#[track_caller]
fn id(device: &Device, what: &str, arguments: &[&str]) -> String {
    one(device, arguments)[what].as_str().unwrap().to_owned()
}

#[track_caller]
fn levels(device: &Device, space: &str) -> Vec<String> {
    let members = json_lines(&mut device.command(&["member", "list", "--space", space]));
    members.iter().map(|member| member["level"].as_str().unwrap_or("-").to_owned()).collect()
}

#[track_caller]
fn room_texts(device: &Device, room: &str) -> Vec<String> {
    let messages = json_lines(&mut device.command(&["tail", "--once", "--last", "100", "--room", room]));
    texts(&messages).into_iter().map(str::to_owned).collect()
}

/// What one puts, the other gets; what it deletes is gone for both.
fn values_are_shared(a: &Device, b: &Device, room: &str) {
    let at = ["--room", room, "plants"];
    let kv = |device: &Device, verb: &str, rest: &[&str]| {
        json_lines(&mut device.command(&[&["kv", verb], &at[..], rest].concat()))
    };
    kv(a, "put", &["bed/1", "beans"]);
    kv(b, "put", &["bed/2", "peas"]);
    kv(b, "put", &["bed/1", "leeks"]);
    assert_eq!(kv(a, "get", &["bed/1"])[0]["value"], "leeks");
    let listed = kv(a, "list", &["--prefix", "bed/"]);
    let pairs: Vec<_> = listed.iter().map(|row| (row["key"].clone(), row["value"].clone())).collect();
    assert_eq!(pairs, [("bed/1".into(), "leeks".into()), ("bed/2".into(), "peas".into())]);
    assert_eq!(kv(a, "list", &["--after", "bed/1"])[0]["key"], "bed/2");
    kv(a, "delete", &["bed/1"]);
    let mut gone = b.command(&[&["kv", "get"], &at[..], &["bed/1"]].concat());
    assert_eq!(gone.output().unwrap().status.code(), Some(1));
}

#[test]
fn somebody_comes_by_invitation_writes_and_is_removed() {
    let network = Network::start();
    let (a, b) = (network.stranger("a"), network.stranger("b"));
    let space = id(&a, "space", &["space", "create", "--name", "Garden"]);
    let room = id(&a, "room", &["room", "create", "--space", &space, "--name", "Shed"]);
    let invite = ["invite", "create", "--space", &space, "--once"];
    let invitation = id(&a, "invitation", &invite);
    json_lines(&mut a.command(&["send", "--room", &room, "hello"]));

    assert_eq!(id(&b, "space", &["invite", "accept", &invitation]), space);
    let mut early = b.command(&["send", "--room", &room, "too early"]);
    assert!(!early.output().unwrap().status.success(), "no member yet, and no room");
    // The one who made the invitation comes online; the claim is on its way.
    let looks = (0..200).find(|_| levels(&a, &space).len() == 2);
    assert!(looks.is_some(), "the claim is answered");
    let mut seen = levels(&b, &space);
    seen.sort_unstable();
    assert_eq!(seen, ["manage", "write"]);
    let shown = json_lines(&mut b.command(&["space", "show", "--space", &space]));
    assert_eq!((&shown[0]["name"], &shown[1]["name"]), (&"Garden".into(), &"Shed".into()));

    json_lines(&mut b.command(&["send", "--room", &room, "hi"]));
    assert_eq!(room_texts(&a, &room), ["hello", "hi"]);
    assert_eq!(room_texts(&b, &room), ["hello", "hi"]);
    let listed = json_lines(&mut b.command(&["room", "list"]));
    assert_eq!((&listed[0]["room"], &listed[0]["has_key"]), (&room.as_str().into(), &true.into()));
    let you = json_lines(&mut b.command(&["member", "list", "--space", &space]));
    let you: Vec<_> =
        you.iter().filter(|member| member["you"] == true).map(|it| it["level"].clone()).collect();
    assert_eq!(you, ["write"]);
    let found = json_lines(&mut a.command(&["search", "HI", "--room", &room]));
    assert_eq!(texts(&found), ["hi"]);
    crate::documents::are_written_together(&a, &b, &room);
    values_are_shared(&a, &b, &room);
    let refused = b.command(&["room", "create", "--space", &space, "--name", "Mine"]).output().unwrap();
    assert!(String::from_utf8(refused.stderr).unwrap().contains("no right"), "a writer manages nothing");

    let members = json_lines(&mut a.command(&["member", "list", "--space", &space]));
    let writer = members.iter().find(|member| member["level"] == "write").unwrap();
    let key = writer["member"].as_str().unwrap();
    json_lines(&mut a.command(&["member", "remove", "--space", &space, "--member", key]));
    assert_eq!(levels(&b, &space), ["manage"]);
    let gone = b.command(&["send", "--room", &room, "now?"]).output().unwrap();
    let stderr = String::from_utf8(gone.stderr).unwrap();
    assert!(stderr.contains("may not write"), "{stderr}");
    assert_eq!(room_texts(&a, &room), ["hello", "hi"]);
    let audit = json_lines(&mut a.command(&["space", "audit", "--space", &space]));
    let kinds: Vec<_> = audit.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["member.remove", "member.add", "invite.create", "room.create", "space.create"]);
    // The invitation was for one; and the space has moved on since.
    let c = network.stranger("c");
    let late = c.command(&["invite", "accept", &invitation]).output().unwrap();
    let stderr = String::from_utf8(late.stderr).unwrap();
    assert!(stderr.contains("ask a manager for a new invitation"), "{stderr}");
    assert_eq!(levels(&a, &space), ["manage"]);
}

#[test]
fn somebody_asks_to_be_added_and_is() {
    let network = Network::start();
    let (a, b) = (network.stranger("a"), network.stranger("b"));
    let space = id(&a, "space", &["space", "create", "--name", "Garden"]);
    let room = id(&a, "room", &["room", "create", "--space", &space, "--name", "Shed"]);
    let contact = id(&a, "contact", &["dm", "contact"]);
    id(&b, "request", &["member", "request", "--space", &space, &contact, "--text", "let me in"]);
    let unknown = b.command(&["space", "show", "--space", &space]).output().unwrap();
    assert!(!unknown.status.success(), "nobody has added it");
    let asks = one(&a, &["member", "requests", "--space", &space]);
    assert_eq!(asks["text"], "let me in");
    let member = asks["member"].as_str().unwrap();
    json_lines(&mut a.command(&["member", "add", "--space", &space, "--member", member, "--level", "write"]));
    assert!(json_lines(&mut a.command(&["member", "requests", "--space", &space])).is_empty());
    let shown = json_lines(&mut b.command(&["space", "show", "--space", &space]));
    assert_eq!((&shown[0]["name"], &shown[1]["name"]), (&"Garden".into(), &"Shed".into()));
    json_lines(&mut b.command(&["send", "--room", &room, "thank you"]));
    assert_eq!(room_texts(&a, &room), ["thank you"]);
}
