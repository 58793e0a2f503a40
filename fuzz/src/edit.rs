//! Edits of valid examples, so that random inputs get past the first length check.

use std::borrow::Cow;

/// The bytes an input stands for: after a first byte 0 the rest of the input, otherwise one of the examples with the
/// rest as edits.
pub fn pick<'a>(input: &'a [u8], examples: &[Vec<u8>]) -> Cow<'a, [u8]> {
    match input.split_first() {
        None => Cow::Borrowed(input),
        Some((0, rest)) => Cow::Borrowed(rest),
        Some((choice, edits)) => match examples.get(usize::from(*choice - 1) % examples.len().max(1)) {
            Some(example) => Cow::Owned(edited(example.clone(), edits)),
            None => Cow::Borrowed(edits),
        },
    }
}

/// How many edits a first byte asks for: mostly few, because after many nothing is left of the example.
const HOW_MANY: [usize; 8] = [0, 1, 1, 1, 2, 2, 3, 8];

/// Applies edits of four bytes each (what, where u16, value), as many as the first byte says; an incomplete one is
/// ignored. No edits leave the example valid.
pub fn edited(mut bytes: Vec<u8>, edits: &[u8]) -> Vec<u8> {
    let Some((count, edits)) = edits.split_first() else { return bytes };
    let count = HOW_MANY[usize::from(count % 8)];
    for [what, high, low, value] in edits.as_chunks::<4>().0.iter().take(count).copied() {
        let at = usize::from(u16::from_be_bytes([high, low])) % (bytes.len() + 1);
        match what % 8 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, value),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.push(value),
            4 => bytes.splice(at..at, std::iter::repeat_n(value, usize::from(high) + 1)).for_each(drop),
            5 => {
                let from = bytes[at..].to_vec();
                bytes.extend_from_slice(&from[..from.len().min(usize::from(value))]);
            }
            6 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
            _ if at < bytes.len() => bytes[at] = value,
            _ => {}
        }
    }
    bytes
}
