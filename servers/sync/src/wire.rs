//! WebSocket messages of a server, ready to be written: header and payload (RFC 6455 §5.2). A server's frames are
//! not masked, so the same bytes serve every subscriber.

use bytes::Bytes;

const FIN_TEXT: u8 = 0x81;
const FIN_BINARY: u8 = 0x82;

/// One or more whole messages.
#[derive(Clone, Debug)]
pub struct Wire {
    header: [u8; 10],
    header_len: u8,
    payload: Bytes,
}

impl Wire {
    /// The bytes before the payload.
    pub fn header(&self) -> &[u8] {
        self.header.get(..usize::from(self.header_len)).unwrap_or_default()
    }

    /// The payload, shared by all copies.
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }
}

/// A binary message.
pub fn binary(payload: impl Into<Bytes>) -> Wire {
    let payload = payload.into();
    let (header, header_len) = header(FIN_BINARY, payload.len());
    Wire { header, header_len, payload }
}

/// A text message.
pub fn text(payload: String) -> Wire {
    let (header, header_len) = header(FIN_TEXT, payload.len());
    Wire { header, header_len, payload: payload.into() }
}

/// Several text messages in one piece.
#[derive(Debug, Default)]
pub struct Texts(Vec<u8>);

impl Texts {
    /// Adds a message.
    pub fn push(&mut self, text: &str) {
        let (header, len) = header(FIN_TEXT, text.len());
        self.0.extend_from_slice(header.get(..usize::from(len)).unwrap_or_default());
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Bytes so far.
    pub const fn size(&self) -> usize {
        self.0.len()
    }

    /// The messages.
    pub fn finish(self) -> Wire {
        Wire { header: [0; 10], header_len: 0, payload: self.0.into() }
    }
}

fn header(kind: u8, len: usize) -> ([u8; 10], u8) {
    let mut header = [kind, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let used = match len {
        0..=125 => {
            header[1] = len as u8;
            2
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&(len as u64).to_be_bytes());
            10
        }
    };
    (header, used)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 §5.7: unmasked "Hello", 256 bytes and 64 KiB of binary.
    #[test]
    fn headers_are_those_of_the_rfc() {
        let hello = text("Hello".to_owned());
        assert_eq!((hello.header(), hello.payload().as_ref()), (&[0x81, 0x05][..], &b"Hello"[..]));
        assert_eq!(binary(vec![0; 125]).header(), [0x82, 125]);
        assert_eq!(binary(vec![0; 126]).header(), [0x82, 126, 0, 126]);
        assert_eq!(binary(vec![0; 256]).header(), [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(binary(vec![0; 65536]).header(), [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
        let mut texts = Texts::default();
        texts.push("a");
        texts.push("bc");
        assert_eq!(texts.finish().payload().as_ref(), b"\x81\x01a\x81\x02bc");
    }
}
