//! Documents that two people write at the same time, merged by Automerge.

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjType, ReadDoc, ScalarValue};
use serde_json::Value;

use crate::support::{Device, json_lines};

/// Somebody's copy of a document, and how far it has read.
struct Copy {
    merged: AutoCommit,
    after: u64,
}

impl Copy {
    /// Merges what others wrote since.
    fn read(&mut self, device: &Device, room: &str, document: &str) {
        let folder = tempfile::tempdir().unwrap();
        let (to, after) = (folder.path().to_str().unwrap(), self.after.to_string());
        let read = ["document", "read", "--room", room, document, "--after", &after, "--to", to];
        for part in json_lines(&mut device.command(&read)) {
            let bytes = std::fs::read(part["file"].as_str().unwrap()).unwrap();
            assert_eq!(bytes.len() as u64, part["length"]);
            self.merged.load_incremental(&bytes).unwrap();
            self.after = part["number"].as_u64().unwrap();
        }
    }

    /// Writes what was changed here since the last time.
    fn write(&mut self, device: &Device, room: &str, document: &str) {
        let bytes = self.merged.save_incremental();
        write(device, room, document, &bytes, &[]);
    }

    fn items(&self) -> Vec<String> {
        let Some((_, list)) = self.merged.get(automerge::ROOT, "items").unwrap() else { return Vec::new() };
        let item = |at| self.merged.get(&list, at).unwrap().unwrap().0.into_string().unwrap();
        (0..self.merged.length(&list)).map(item).collect()
    }

    fn push(&mut self, text: &str) {
        let (_, list) = self.merged.get(automerge::ROOT, "items").unwrap().unwrap();
        let end = self.merged.length(&list);
        self.merged.insert(&list, end, ScalarValue::from(text)).unwrap();
    }
}

fn write(device: &Device, room: &str, document: &str, bytes: &[u8], more: &[&str]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let file = file.path().to_str().unwrap();
    let write = ["document", "write", "--room", room, document, file];
    json_lines(&mut device.command(&[&write[..], more].concat()));
}

fn paths(device: &Device, room: &str, more: &[&str]) -> Vec<Value> {
    let rows = json_lines(&mut device.command(&[&["document", "list", "--room", room], more].concat()));
    rows.into_iter().map(|row| row["path"].clone()).collect()
}

/// Each changes it without a word of the other; both end with the same.
pub fn are_written_together(a: &Device, b: &Device, room: &str) {
    let made = json_lines(&mut a.command(&["document", "create", "--room", room, "lists/shopping"]));
    let document = made[0]["document"].as_str().unwrap();
    json_lines(&mut b.command(&["document", "create", "--room", room, "plans"]));
    assert_eq!(paths(a, room, &[]), ["lists/shopping", "plans"]);
    assert_eq!(paths(b, room, &["--prefix", "lists/"]), ["lists/shopping"]);
    assert_eq!(paths(b, room, &["--after", document]), ["plans"]);

    let mut ours = Copy { merged: AutoCommit::new(), after: 0 };
    ours.merged.put_object(automerge::ROOT, "items", ObjType::List).unwrap();
    ours.push("beans");
    ours.write(a, room, document);
    let mut theirs = Copy { merged: AutoCommit::new(), after: 0 };
    theirs.read(b, room, document);
    assert_eq!(theirs.items(), ["beans"]);

    ours.push("peas");
    theirs.push("leeks");
    ours.write(a, room, document);
    theirs.write(b, room, document);
    ours.read(a, room, document);
    theirs.read(b, room, document);
    let mut items = ours.items();
    assert_eq!(items, theirs.items());
    items.sort();
    assert_eq!(items, ["beans", "leeks", "peas"]);
    // Whoever comes later needs nothing but all of it.
    let whole = ours.merged.save();
    write(a, room, document, &whole, &["--snapshot"]);
    let read = json_lines(&mut b.command(&["document", "read", "--room", room, document]));
    let last = read.last().unwrap();
    assert_eq!((&last["kind"], &last["length"]), (&"snapshot".into(), &whole.len().into()));
    let refused = a.command(&["document", "create", "--room", room, "lists//shopping"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
}
