//! Control messages (section 4), written byte by byte in deterministic CBOR (RFC 8949 §4.2.1), so that any of it can be
//! wrong.

/// The head of a data item: major type and argument in the shortest form.
fn head(major: u8, argument: u64) -> Vec<u8> {
    let kind = major << 5;
    match argument {
        0..=23 => vec![kind | argument as u8],
        24..=0xff => vec![kind | 24, argument as u8],
        0x100..=0xffff => [&[kind | 25], &(argument as u16).to_be_bytes()[..]].concat(),
        0x1_0000..=0xffff_ffff => [&[kind | 26], &(argument as u32).to_be_bytes()[..]].concat(),
        _ => [&[kind | 27], &argument.to_be_bytes()[..]].concat(),
    }
}

/// An unsigned integer.
pub fn uint(number: u64) -> Vec<u8> {
    head(0, number)
}

/// A text string.
pub fn text(text: &str) -> Vec<u8> {
    [head(3, text.len() as u64), text.as_bytes().to_vec()].concat()
}

/// A map whose keys are 0, 1, 2 … in this order.
pub fn map(values: &[Vec<u8>]) -> Vec<u8> {
    let pairs = (0..).zip(values).flat_map(|(key, value)| [uint(key), value.clone()].concat());
    head(5, values.len() as u64).into_iter().chain(pairs).collect()
}

/// A description.
pub fn metadata(counter: u64, name: &str, description: Option<&str>) -> Vec<u8> {
    let about: Vec<Vec<u8>> = [Some(name), description].into_iter().flatten().map(text).collect();
    map(&[uint(counter), text("metadata"), map(&about)])
}

/// The key readers must prove; `None` is null.
pub fn read_key(counter: u64, key: Option<&[u8; 32]>) -> Vec<u8> {
    let value = key.map_or_else(|| vec![0xf6], |key| [head(2, 32), key.to_vec()].concat());
    map(&[uint(counter), text("read_key"), value])
}

/// The end of a topic.
pub fn delete(counter: u64) -> Vec<u8> {
    map(&[uint(counter), text("delete")])
}

#[cfg(test)]
mod tests {
    use delta_core::onion::control::{Action, Control, Metadata};

    use super::*;

    /// The project's own encoder is the second implementation here.
    #[test]
    fn control_messages_are_what_the_core_makes() {
        let described = |description: Option<&str>| {
            Action::Metadata(Metadata {
                name: "Garten".to_owned(),
                description: description.map(str::to_owned),
            })
        };
        let long = "x".repeat(300);
        for (bytes, counter, action) in [
            (metadata(1, "Garten", None), 1, described(None)),
            (metadata(24, "Garten", Some(&long)), 24, described(Some(&long))),
            (read_key(300, Some(&[7; 32])), 300, Action::ReadKey(Some([7; 32]))),
            (read_key(70_000, None), 70_000, Action::ReadKey(None)),
            (delete(i64::MAX as u64), i64::MAX as u64, Action::Delete),
        ] {
            assert_eq!(bytes, Control { counter, action }.encode().unwrap());
        }
    }
}
