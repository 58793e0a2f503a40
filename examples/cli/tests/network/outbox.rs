//! What a device has not sent yet: listed, taken back, across processes.

use serde_json::Value;

use crate::support::{Network, json_lines, texts, ticket};

#[test]
fn what_waits_is_listed_and_taken_back_and_the_rest_arrives() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let offline = |arguments: &[&str]| json_lines(a.command(arguments).env_remove("DELTA_SYNC"));
    let sent = offline(&["send", "--no-wait", "first", "second", "a slip"]);
    let ids: Vec<&str> = sent.iter().map(|sent| sent["operation"].as_str().unwrap()).collect();
    let listed = offline(&["outbox", "list"]);
    let operations: Vec<&Value> = listed.iter().map(|row| &row["operation"]).collect();
    assert_eq!(operations, ids);
    assert!(listed.iter().all(|row| row["state"] == "queued" && row["tries"] == 0), "{listed:?}");
    assert_eq!(offline(&["outbox", "cancel", ids[2]])[0]["removed"], true);
    assert_eq!(offline(&["outbox", "cancel", ids[0]])[0]["removed"], false);
    assert_eq!(offline(&["outbox", "list"]).len(), 3, "one is gone, a delete has come");
    let output = a.command(&["outbox", "cancel", ids[2]]).env_remove("DELTA_SYNC").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    json_lines(&mut a.command(&["send", "third"]));
    assert!(offline(&["outbox", "list"]).is_empty());
    let shown = b.messages();
    let left: Vec<&Value> = shown.iter().filter(|message| !message["text"].is_null()).collect();
    let left: Vec<Value> = left.into_iter().cloned().collect();
    assert_eq!(texts(&left), ["second", "third"]);
    assert_eq!(offline(&["outbox", "retry"])[0]["retried"], 0);
}
