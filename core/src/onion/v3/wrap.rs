//! Building packets.

use chacha20poly1305::AeadInPlace;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::keys::{LayerKeys, ZERO_NONCE};
use super::{
    AAD_LEN, BODY_AT, DELIVER, DROP, FORWARD, Hop, MAX_LAYERS, SLOT_LEN, Terminal, VERSION, WrapError,
};
use crate::entropy::{Entropy, SeededEntropy};
use crate::onion::PacketClass;
use crate::onion::curve::{is_canonical_u, public_of};

/// Builds a packet of the smallest class that carries the content. `hops` lists the relays in order and the sync
/// server last.
pub fn wrap(hops: &[Hop], terminal: Terminal<'_>, entropy: &mut dyn Entropy) -> Result<Vec<u8>, WrapError> {
    let len = content(terminal).len();
    let class = PacketClass::for_content(len)
        .ok_or(WrapError::TooLarge { len, capacity: PacketClass::LARGEST.capacity() })?;
    wrap_in(class, hops, terminal, entropy)
}

/// Builds a packet of a given class, for instance cover traffic of the size of real packets.
pub fn wrap_in(
    class: PacketClass,
    hops: &[Hop],
    terminal: Terminal<'_>,
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>, WrapError> {
    // One draw per packet: a key per layer, and a seed that is expanded into the padding.
    let mut drawn = Zeroizing::new([[0; 32]; MAX_LAYERS + 1]);
    let [seed, ephemerals @ ..] = &mut *drawn;
    let ephemerals = ephemerals.get_mut(..hops.len()).ok_or(WrapError::Layers(hops.len()))?;
    entropy.fill(seed)?;
    entropy.fill(ephemerals.as_flattened_mut())?;
    let mut padding = SeededEntropy::new(*seed);
    build(class, hops, terminal, ephemerals, |place| Ok(padding.fill(place)?))
}

/// Ephemeral secrets and padding chosen by the caller, to reproduce a packet byte for byte.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// One X25519 secret per hop.
    pub ephemerals: &'a [[u8; 32]],
    /// The bytes between the content and the tail of the innermost layer.
    pub padding: &'a [u8],
}

/// Builds the packet that `given` determines. For test vectors only: a packet whose ephemeral secrets were used
/// before, or whose padding is not random, protects nothing.
pub fn wrap_with(
    class: PacketClass,
    hops: &[Hop],
    terminal: Terminal<'_>,
    given: Given<'_>,
) -> Result<Vec<u8>, WrapError> {
    if given.ephemerals.len() != hops.len() {
        return Err(WrapError::Given("ephemerals"));
    }
    build(class, hops, terminal, given.ephemerals, |place| {
        if place.len() != given.padding.len() {
            return Err(WrapError::Given("padding"));
        }
        place.copy_from_slice(given.padding);
        Ok(())
    })
}

const fn content<'a>(terminal: Terminal<'a>) -> &'a [u8] {
    match terminal {
        Terminal::Deliver(content) => content,
        Terminal::Drop => &[],
    }
}

/// One layer while the packet is built.
struct Layer {
    header: [u8; AAD_LEN],
    keys: LayerKeys,
}

/// Builds from the inside out in one buffer. Every layer's body starts one slot before the next inner one and is as
/// long, so nothing is ever moved: what an outer layer does not cover falls off the end.
fn build(
    class: PacketClass,
    hops: &[Hop],
    terminal: Terminal<'_>,
    ephemerals: &[[u8; 32]],
    pad: impl FnOnce(&mut [u8]) -> Result<(), WrapError>,
) -> Result<Vec<u8>, WrapError> {
    if hops.len() > MAX_LAYERS {
        return Err(WrapError::Layers(hops.len()));
    }
    let mut layers = Vec::with_capacity(MAX_LAYERS);
    for (index, (hop, ephemeral)) in hops.iter().zip(ephemerals).enumerate() {
        layers.push(layer(class, hop, ephemeral).ok_or(WrapError::HopKey(index))?);
    }
    let (Some(first), Some(last)) = (layers.first(), layers.last()) else {
        return Err(WrapError::Layers(0));
    };

    let body_len = class.size() - BODY_AT;
    let tail = tail(&layers, body_len);
    let mut buffer = vec![0; class.size() + tail.len()];
    let body = &mut buffer[BODY_AT + tail.len()..];
    write_terminal(body, class, terminal, &tail, pad)?;
    last.keys.apply_body_keystream(body_len - tail.len(), &mut body[body_len - tail.len()..]);
    let mut tag = seal(last, body);

    for (index, (layer, inner)) in layers.iter().zip(layers.iter().skip(1)).enumerate().rev() {
        let body = &mut buffer[BODY_AT + index * SLOT_LEN..][..body_len];
        write_forward(&mut body[..SLOT_LEN], hops[index].delay, &hops[index + 1], inner, &tag);
        tag = seal(layer, body);
    }
    buffer[..AAD_LEN].copy_from_slice(&first.header);
    buffer[AAD_LEN..BODY_AT].copy_from_slice(&tag);
    buffer.truncate(class.size());
    Ok(buffer)
}

fn layer(class: PacketClass, hop: &Hop, ephemeral: &[u8; 32]) -> Option<Layer> {
    if !is_canonical_u(&hop.key.public) {
        return None;
    }
    let ephemeral = StaticSecret::from(*ephemeral);
    let mut header = [0; AAD_LEN];
    header[0] = VERSION;
    header[1] = class as u8;
    header[2..4].copy_from_slice(&hop.key.kid.to_be_bytes());
    header[4..].copy_from_slice(public_of(&ephemeral).as_bytes());
    let node = PublicKey::from(hop.key.public);
    let keys = LayerKeys::derive(&ephemeral, &node, &header, &hop.key.public)?;
    Some(Layer { header, keys })
}

/// The bytes the innermost ciphertext must end in: what the nodes before it will have appended, each one's part
/// run through the ciphers of those after it.
fn tail(layers: &[Layer], body_len: usize) -> Vec<u8> {
    let mut tail = Vec::with_capacity((MAX_LAYERS - 1) * SLOT_LEN);
    for layer in layers.iter().take(layers.len() - 1) {
        layer.keys.apply_body_keystream(body_len - tail.len(), &mut tail);
        tail.extend_from_slice(&layer.keys.fill());
    }
    tail
}

/// Slot, content and random padding of the innermost body, and the tail as it stands.
fn write_terminal(
    body: &mut [u8],
    class: PacketClass,
    terminal: Terminal<'_>,
    tail: &[u8],
    pad: impl FnOnce(&mut [u8]) -> Result<(), WrapError>,
) -> Result<(), WrapError> {
    let content = content(terminal);
    if content.len() > class.capacity() {
        return Err(WrapError::TooLarge { len: content.len(), capacity: class.capacity() });
    }
    let (slot, rest) = body.split_at_mut(SLOT_LEN);
    slot[0] = if matches!(terminal, Terminal::Drop) { DROP } else { DELIVER };
    slot[4..8].copy_from_slice(&(content.len() as u32).to_be_bytes());
    let (place, rest) = rest.split_at_mut(content.len());
    place.copy_from_slice(content);
    let (padding, end) = rest.split_at_mut(rest.len() - tail.len());
    end.copy_from_slice(tail);
    pad(padding)
}

fn write_forward(slot: &mut [u8], delay: u16, next: &Hop, inner: &Layer, tag: &[u8; 16]) {
    slot[0] = FORWARD;
    slot[2..4].copy_from_slice(&delay.to_be_bytes());
    slot[4..6].copy_from_slice(&next.key.kid.to_be_bytes());
    slot[16..48].copy_from_slice(&next.node.0);
    slot[48..80].copy_from_slice(&inner.header[4..]);
    slot[80..].copy_from_slice(tag);
}

fn seal(layer: &Layer, body: &mut [u8]) -> [u8; 16] {
    layer
        .keys
        .aead()
        .encrypt_in_place_detached(&ZERO_NONCE.into(), &layer.header, body)
        .expect("a packet is far shorter than the 256 GiB ChaCha20-Poly1305 seals")
        .into()
}
