//! Which boot of the machine this is: while it stays the same, what was written to a file is still there.

/// Names one boot of the machine. Unknown where the platform does not tell: then only a clean stop is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId(Option<[u8; 16]>);

impl BootId {
    /// The boot id of this machine, from Linux's `/proc/sys/kernel/random/boot_id`.
    pub fn current() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self(parse_uuid(text.trim()))
    }

    /// A boot id given by the caller (tests; platforms with another source).
    pub const fn from_bytes(id: [u8; 16]) -> Self {
        Self(Some(id))
    }

    /// No boot id is known.
    pub const fn unknown() -> Self {
        Self(None)
    }

    /// Whether both are known and the same boot.
    pub fn same(&self, other: &Self) -> bool {
        self.0.is_some() && self.0 == other.0
    }

    /// 16 bytes, zero for an unknown one (the zero UUID is nobody's boot).
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.unwrap_or_default()
    }

    pub(crate) fn from_stored(bytes: [u8; 16]) -> Self {
        Self((bytes != [0; 16]).then_some(bytes))
    }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut digits = text.bytes().filter(|byte| *byte != b'-').map(|byte| char::from(byte).to_digit(16));
    let mut id = [0; 16];
    for byte in &mut id {
        *byte = u8::try_from(digits.next()?? << 4 | digits.next()??).ok()?;
    }
    (digits.next().is_none() && id != [0; 16]).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_and_anything_else_is_unknown() {
        let id = parse_uuid("0a0b0c0d-0102-0304-0506-070809101112").unwrap();
        assert_eq!(id, [10, 11, 12, 13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x10, 0x11, 0x12]);
        for bad in ["", "0a", "zz0b0c0d-0102-0304-0506-070809101112", "00000000-0000-0000-0000-000000000000"]
        {
            assert_eq!(parse_uuid(bad), None, "{bad}");
        }
        assert!(!BootId::unknown().same(&BootId::unknown()));
    }
}
