//! Every call of the exported objects and every function is in each language's facade and is made by a test in that language, or
//! is named here with the reason why it is not. What is exported is read from docs/api.md, which `cargo xtask bindings` writes and CI compares.

use std::collections::BTreeSet;
use std::path::Path;

/// A facade: where its sources lie, and what a call of `Delta` looks like in them.
struct Facade {
    name: &'static str,
    sources: &'static [&'static str],
    /// Before the name of the call.
    calls: &'static [&'static str],
    camel: bool,
    /// Where its tests lie.
    tests: &'static [&'static str],
}

const FACADES: [Facade; 4] = [
    Facade {
        name: "kotlin",
        sources: &["bindings/kotlin/src/delta/Device.kt"],
        calls: &["inner.", "Delta."],
        camel: true,
        tests: &["bindings/kotlin/test"],
    },
    Facade {
        name: "swift",
        sources: &["bindings/swift/Sources/DeltaKit"],
        calls: &["inner.", "Delta."],
        camel: true,
        tests: &["bindings/swift/Tests/DeltaScenario"],
    },
    Facade {
        name: "python",
        sources: &["bindings/python/delta/device.py"],
        calls: &["_inner.", "Delta."],
        camel: false,
        tests: &["bindings/python/tests"],
    },
    Facade {
        name: "react-native",
        sources: &["bindings/react-native/src/device.ts"],
        calls: &["Native."],
        camel: true,
        // Over the real module. The others' is a mock.
        tests: &["bindings/react-native/tests/scenario.test.ts"],
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

/// Calls that what is named last makes, which a test has to use.
const THROUGH: [(&str, &str, &str); 2] =
    [("react-native", "subscribe", "listen"), ("kotlin", "Subscription.next_events", "events")];

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
            let excepted = facade.excepted(call);
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
fn every_call_is_made_by_a_test_of_every_language() {
    let (calls, functions) = exported();
    let mut untested = Vec::new();
    for facade in &FACADES {
        let text = facade.sources.iter().map(|path| sources(path)).collect::<String>();
        let tests = facade.tests.iter().map(|path| sources(path)).collect::<String>();
        for call in calls.iter().chain(&functions).filter(|call| !facade.excepted(call)) {
            let names = facade.wrappers(&text, call);
            let method = !functions.contains(call);
            if !names.iter().any(|name| called(&tests, name, method)) {
                untested.push(format!("{} {call} ({})", facade.name, names.join(", ")));
            }
        }
    }
    assert!(untested.is_empty(), "no test makes these calls: {untested:#?}");
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
    fn excepted(&self, call: &str) -> bool {
        EXCEPTIONS.iter().any(|(name, what, _)| {
            *name == self.name
                && (call == *what || call.strip_prefix(what).is_some_and(|rest| rest.starts_with('.')))
        })
    }

    /// What the functions of the facade are called that make this call; its own name where it is used as it is generated.
    fn wrappers(&self, text: &str, call: &str) -> Vec<String> {
        if let Some((.., name)) = THROUGH.iter().find(|(name, what, _)| *name == self.name && *what == call) {
            return vec![(*name).to_owned()];
        }
        let plain = call.rsplit('.').next().unwrap_or(call);
        let own = if self.camel { camel(plain) } else { plain.to_owned() };
        let named = NAMES.iter().find(|(name, what, _)| *name == self.name && *what == call);
        let inner = named.map_or(own.clone(), |(.., name)| (*name).to_owned());
        let (mut function, mut found) = (String::new(), Vec::new());
        for line in text.lines() {
            if let Some(name) = declared(line) {
                function = name;
            }
            if self.calls.iter().any(|before| line.contains(&format!("{before}{inner}(")))
                && !found.contains(&function)
            {
                found.push(function.clone());
            }
        }
        if found.is_empty() || call != plain {
            found.push(own);
        }
        found
    }

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

/// The function or property that a line of a facade declares.
fn declared(line: &str) -> Option<String> {
    let words = line.trim_start();
    let rest =
        ["func ", "fun ", "def ", "val ", "var "].iter().find_map(|word| Some(words.split_once(word)?.1));
    // TypeScript: a method at the first indentation, or a function.
    let rest = rest.or_else(|| {
        line.strip_prefix("export function ").or_else(|| line.strip_prefix("export async function "))
    });
    let rest = rest.or_else(|| {
        let method = line
            .strip_prefix("  ")
            .filter(|rest| !rest.starts_with([' ', '/', '*', '}']) && !rest.starts_with("return "))?;
        Some(method.trim_start_matches("static ").trim_start_matches("async "))
    })?;
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Whether a text calls this function, or calls or reads what is a method or a property of something.
fn called(text: &str, name: &str, method: bool) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + name.len()..].chars().next());
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(before) && !part(after) && if method { before == Some('.') } else { after == Some('(') }
    })
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
