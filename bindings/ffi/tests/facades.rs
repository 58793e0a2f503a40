//! Every call of the exported objects and every function is in each language's facade, or named here with the reason why it
//! is not. What is exported is read from docs/api.md, which `cargo xtask bindings` writes and CI compares.

use std::collections::BTreeSet;
use std::path::Path;

/// A facade: where its sources lie, and what a call of `Delta` looks like in them.
struct Facade {
    name: &'static str,
    sources: &'static [&'static str],
    /// Before the name of the call.
    calls: &'static [&'static str],
    camel: bool,
}

const FACADES: [Facade; 4] = [
    Facade {
        name: "kotlin",
        sources: &["bindings/kotlin/src/delta/Device.kt"],
        calls: &["inner.", "Delta."],
        camel: true,
    },
    Facade {
        name: "swift",
        sources: &["bindings/swift/Sources/DeltaKit"],
        calls: &["inner.", "Delta."],
        camel: true,
    },
    Facade {
        name: "python",
        sources: &["bindings/python/delta/device.py"],
        calls: &["_inner.", "Delta."],
        camel: false,
    },
    Facade {
        name: "react-native",
        sources: &["bindings/react-native/src/device.ts"],
        calls: &["Native."],
        camel: true,
    },
];

/// What a facade does not pass on, and why.
const EXCEPTIONS: [(&str, &str, &str); 11] = [
    ("kotlin", "next_events", "`events` is a flow of one topic; a listener hears each of its own"),
    ("swift", "next_events", "`events` is a sequence of one topic; a listener hears each of its own"),
    ("react-native", "next_events", "events are pushed to `listen`"),
    ("react-native", "author", "in what `open` answers"),
    ("react-native", "renewed", "in what `open` answers"),
    // Functions beside `Delta`: the generated Kotlin, Swift and Python have all of them.
    (
        "react-native",
        "decrypt_push",
        "a notification extension runs no JavaScript: docs/notification-extensions.md",
    ),
    ("react-native", "KeySnapshot", "as decrypt_push"),
    ("react-native", "build_onion_packet", "for tests and tools; an app publishes"),
    ("react-native", "peel_onion_layer", "for tests and tools; an app publishes"),
    ("react-native", "Subscription.topic", "a listener is given per topic"),
    ("react-native", "Subscription.next_events", "events are pushed to `listen`"),
];

/// Calls that a facade has under another name.
const NAMES: [(&str, &str, &str); 13] = [
    ("kotlin", "close", "shutdown"),
    ("react-native", "export", "exportTo"),
    ("react-native", "Subscription.cancel", "unsubscribe"),
    ("react-native", "PairingHost.text", "pair"),
    ("react-native", "PairingHost.asked", "pairingAsked"),
    ("react-native", "PairingHost.cancel", "pairingCancel"),
    ("react-native", "PairingRequest.device", "pairingAsked"),
    ("react-native", "PairingRequest.code", "pairingAsked"),
    ("react-native", "PairingRequest.accept", "pairingAccept"),
    ("react-native", "PairingRequest.refuse", "pairingRefuse"),
    ("react-native", "PairingGuest.code", "pairingCode"),
    ("react-native", "PairingGuest.joined", "pairingJoined"),
    ("react-native", "PairingGuest.cancel", "pairingCancel"),
];

#[test]
fn every_call_is_in_every_facade_or_has_a_reason_not_to_be() {
    let (calls, functions) = exported();
    assert!(calls.contains("publish") && calls.contains("PairingHost.asked"), "{calls:?}");
    assert!(functions.contains("generate_ticket") && functions.contains("decrypt_push"), "{functions:?}");
    let mut missing = Vec::new();
    for facade in &FACADES {
        let text = facade.sources.iter().map(|path| sources(path)).collect::<String>();
        for call in calls.iter().chain(&functions) {
            // Objects beside `Delta`, and functions, are used as they are generated; not so over React Native's bridge.
            let generated = call.contains('.') || functions.contains(call);
            if generated && facade.name != "react-native" {
                continue;
            }
            let excepted = EXCEPTIONS.iter().any(|(name, what, _)| {
                *name == facade.name
                    && (call == what || call.strip_prefix(what).is_some_and(|rest| rest.starts_with('.')))
            });
            if facade.has(&text, call) == excepted {
                missing.push(format!(
                    "{} {call}{}",
                    facade.name,
                    if excepted { " (an exception, and there)" } else { "" }
                ));
            }
        }
    }
    assert!(missing.is_empty(), "not passed on: {missing:?}");
}

#[test]
fn every_exception_and_name_is_of_something_exported() {
    let (calls, functions) = exported();
    let objects: BTreeSet<_> = calls.iter().filter_map(|call| Some(call.split_once('.')?.0)).collect();
    for (_, call, _) in EXCEPTIONS.iter().chain(&NAMES) {
        assert!(calls.contains(*call) || functions.contains(*call) || objects.contains(call), "{call}");
    }
}

#[test]
fn python_gives_everything_that_is_generated() {
    let module = sources("bindings/python/delta/__init__.py");
    assert!(module.contains("from .delta_ffi import *"));
}

impl Facade {
    fn has(&self, text: &str, call: &str) -> bool {
        let named = NAMES.iter().find(|(name, what, _)| *name == self.name && *what == call);
        let plain = call.rsplit('.').next().unwrap_or(call);
        let name = match named {
            Some((.., name)) => (*name).to_owned(),
            // A name of another object's call may be one of `Delta`'s.
            None if call != plain => return false,
            None if self.camel => camel(plain),
            None => plain.to_owned(),
        };
        self.calls.iter().any(|before| text.contains(&format!("{before}{name}(")))
    }
}

/// The calls of `Delta` by their names, those of other objects as `Object.call`; and the functions.
fn exported() -> (BTreeSet<String>, BTreeSet<String>) {
    let page = sources("docs/api.md");
    let (mut part, mut object) = ("", "");
    let (mut calls, mut functions) = (BTreeSet::new(), BTreeSet::new());
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            part = title;
        } else if let Some(name) = line.strip_prefix("### ") {
            object = name;
            if part == "Functions" {
                functions.insert(name.to_owned());
            }
        } else if let Some(call) = line.strip_prefix("#### `")
            && part == "Objects"
        {
            let name = call.trim_start_matches("async ").split('(').next().unwrap_or_default();
            calls.insert(if object == "Delta" { name.to_owned() } else { format!("{object}.{name}") });
        }
    }
    (calls, functions)
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (head, tail) = word.split_at(word.len().min(1));
        name + &head.to_uppercase() + tail
    })
}

/// A file of the repository, or all of a folder's.
fn sources(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &Path| {
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let path = root.join(path);
    match path.is_dir() {
        true => std::fs::read_dir(path).unwrap().map(|entry| read(&entry.unwrap().path())).collect(),
        false => read(&path),
    }
}
