//! Spaces without a network: everything is done on the device, and waits in its outbox.

use serde_json::{Value, json};

use crate::support::{delta, text};

struct Device {
    folder: tempfile::TempDir,
    key: String,
}

impl Device {
    fn new() -> Self {
        let key = text(&delta(&["keygen", "--json"], b"").json(), "seed").to_owned();
        Self { folder: tempfile::tempdir().unwrap(), key }
    }

    /// What a command says, line by line.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Vec<Value> {
        let db = self.folder.path().join("a.db");
        let with = [arguments, &["--db", db.to_str().unwrap(), "--key", &self.key, "--json"]].concat();
        let done = delta(&with, b"");
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.err());
        done.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    fn one(&self, arguments: &[&str]) -> Value {
        let mut said = self.run(arguments);
        assert_eq!(said.len(), 1, "{said:?}");
        said.remove(0)
    }
}

#[test]
fn what_a_space_and_a_room_say_of_themselves_changes_and_the_rest_stays() {
    let device = Device::new();
    let texts = ["--description", "Beds", "--label", "Allotment", "--welcome", "Mind the hose"];
    let create = ["space", "create", "--name", "Garden", "--history"];
    let made = device.one(&[&create[..], &texts].concat());
    let space = text(&made, "space").to_owned();
    let about = |device: &Device| device.run(&["space", "show", "--space", &space]).remove(0);
    let row = about(&device);
    assert_eq!((&row["name"], &row["history"]), (&json!("Garden"), &json!(true)));
    assert_eq!((&row["label"], &row["welcome"]), (&json!("Allotment"), &json!("Mind the hose")));

    device.one(&["space", "update", "--space", &space, "--name", "Orchard"]);
    let row = about(&device);
    assert_eq!((&row["name"], &row["description"]), (&json!("Orchard"), &json!("Beds")));
    assert_eq!(row["history"], json!(true));
    device.one(&["space", "update", "--space", &space, "--description", "", "--history", "false"]);
    device.one(&["space", "update", "--space", &space, "--label", ""]);
    let row = about(&device);
    assert_eq!((&row["label"], &row["welcome"]), (&Value::Null, &json!("Mind the hose")));
    assert_eq!((&row["name"], &row["description"]), (&json!("Orchard"), &Value::Null));
    assert_eq!(row["history"], json!(false));

    let made = device.one(&["room", "create", "--space", &space, "--name", "Shed"]);
    let room = text(&made, "room").to_owned();
    device.one(&["room", "update", "--space", &space, "--room", &room, "--cooldown", "3600"]);
    let rooms = device.run(&["room", "list", "--space", &space]);
    assert_eq!(rooms[0]["name"], json!("Shed"), "what is not named stays");
    // A room's cooldown is kept by whoever sends; managers are asked for none.
    device.one(&["room", "update", "--space", &space, "--room", &room, "--name", "Barn", "--cooldown", "0"]);
    assert_eq!(device.run(&["room", "list", "--space", &space])[0]["name"], json!("Barn"));

    device.one(&["space", "delete", "--space", &space]);
    assert_eq!(about(&device)["state"], json!("deleted"));
}

#[test]
fn invitations_are_listed_and_taken_back() {
    let device = Device::new();
    let made = device.one(&["space", "create", "--name", "Garden"]);
    let space = text(&made, "space").to_owned();
    let once = device.one(&["invite", "create", "--space", &space, "--level", "read", "--once"]);
    let open = device.one(&["invite", "create", "--space", &space]);
    let ids = |device: &Device| -> Vec<String> {
        let rows = device.run(&["invite", "list", "--space", &space]);
        rows.iter().map(|row| text(row, "invite").to_owned()).collect()
    };
    let mut both = [text(&once, "invite"), text(&open, "invite")].map(str::to_owned).to_vec();
    both.sort();
    let mut listed = ids(&device);
    listed.sort();
    assert_eq!(listed, both);
    device.one(&["invite", "revoke", "--space", &space, "--invite", text(&once, "invite")]);
    assert_eq!(ids(&device), [text(&open, "invite")]);
}

#[test]
fn a_mute_with_an_end_and_without() {
    let device = Device::new();
    let made = device.one(&["space", "create", "--name", "Garden"]);
    let space = text(&made, "space").to_owned();
    let member = "7".repeat(64);
    device.one(&["member", "add", "--space", &space, "--member", &member, "--level", "write"]);
    let muted = |device: &Device| {
        let rows = device.run(&["member", "list", "--space", &space]);
        rows.iter().any(|row| row["member"] == json!(member) && row["muted"] == json!(true))
    };
    device.one(&["member", "mute", "--space", &space, "--member", &member, "--for", "86400"]);
    assert!(muted(&device));
    device.one(&["member", "unmute", "--space", &space, "--member", &member]);
    assert!(!muted(&device));
    device.one(&["member", "mute", "--space", &space, "--member", &member]);
    assert!(muted(&device));
}

#[test]
fn messages_are_changed_answered_and_deleted() {
    let device = Device::new();
    let made = device.one(&["space", "create", "--name", "Garden"]);
    let space = text(&made, "space").to_owned();
    let room = ["room", "create", "--space", &space, "--name", "Shed", "--cooldown", "3600"];
    let room = text(&device.one(&room), "room").to_owned();
    let say = |said: &str| {
        let sent = device.one(&["send", "--room", &room, "--no-wait", said]);
        text(&sent, "operation").to_owned()
    };
    let (one, two) = (say("leeks"), say("peas"));
    let found = |word: &str| device.run(&["search", word, "--room", &room]).len();
    assert_eq!(["leeks", "peas"].map(found), [1, 1]);
    let of = |verb: &str, id: &str, rest: &[&str]| {
        let arguments = [&["message", verb, "--room", &room, "--id", id][..], rest].concat();
        text(&device.one(&arguments), "operation").to_owned()
    };
    of("edit", &one, &["beans"]);
    of("react", &one, &["👍"]);
    of("unreact", &one, &["👍"]);
    of("delete", &two, &[]);
    assert_eq!(["beans", "leeks", "peas"].map(found), [1, 0, 0]);
}
