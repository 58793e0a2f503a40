//! Whether a database is the one this device wrote last, or an older or another copy of it.
//!
//! Database and keystore both hold an instance id and how often the device was opened. Each open raises the
//! database's count, then the keystore's. A backup of the database that is put back has a count below the keystore's;
//! a copy on another device meets a keystore with another id, or none. Both would fork this device's log, should they
//! publish with its key: they take a new one.

use crate::codec::Reader;

/// Which database, and how often it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Drawn with the device key.
    pub id: [u8; 16],
    /// Opens so far.
    pub opens: u64,
}

/// What database and keystore say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Neither knows of a device: a fresh one.
    Fresh,
    /// The database this device wrote last: go on with its key. Both counts become this.
    Same(Instance),
    /// A restored or copied database, or a keystore that was emptied: take a new device key before publishing.
    Copied,
}

impl Standing {
    /// Judges. A database ahead of the keystore is one whose last opens ended before the keystore was written.
    pub fn of(database: Option<Instance>, keystore: Option<Instance>) -> Self {
        match (database, keystore) {
            (None, None) => Self::Fresh,
            (Some(database), Some(keystore))
                if database.id == keystore.id && database.opens >= keystore.opens =>
            {
                Self::Same(Instance { opens: database.opens.saturating_add(1), ..database })
            }
            _ => Self::Copied,
        }
    }
}

impl Instance {
    /// Equal to none that was drawn and counted: of a copy, and of a database whose own cannot be read.
    pub const NOBODYS: Self = Self { id: [0; 16], opens: 0 };
    /// Length in bytes.
    pub const LEN: usize = 24;
    /// Under which name the database keeps it.
    pub const SETTING: &'static str = "instance";

    /// `id[16] | opens u64`.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let (id, opens) = out.split_at_mut(16);
        id.copy_from_slice(&self.id);
        opens.copy_from_slice(&self.opens.to_be_bytes());
        out
    }

    /// The inverse of [`Instance::to_bytes`]; `None` for other lengths.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let instance = Self { id: reader.array("id").ok()?, opens: reader.u64("opens").ok()? };
        reader.finish().ok().map(|()| instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: u8, opens: u64) -> Instance {
        Instance { id: [id; 16], opens }
    }

    #[test]
    fn copies_restores_and_crashes_are_told_apart() {
        for (database, keystore, expected) in [
            (None, None, Standing::Fresh),
            // The ordinary open, and the opens after crashes between the two counts.
            (Some(instance(1, 5)), Some(instance(1, 5)), Standing::Same(instance(1, 6))),
            (Some(instance(1, 6)), Some(instance(1, 5)), Standing::Same(instance(1, 7))),
            (Some(instance(1, 9)), Some(instance(1, 5)), Standing::Same(instance(1, 10))),
            // A backup put back.
            (Some(instance(1, 4)), Some(instance(1, 5)), Standing::Copied),
            // A copy on a device that has a database, or none, or whose keystore is empty.
            (Some(instance(2, 5)), Some(instance(1, 5)), Standing::Copied),
            (Some(instance(1, 5)), None, Standing::Copied),
            (None, Some(instance(1, 5)), Standing::Copied),
        ] {
            assert_eq!(Standing::of(database, keystore), expected, "{database:?} {keystore:?}");
        }
    }

    #[test]
    fn bytes_read_back() {
        let it = instance(3, u64::MAX);
        assert_eq!(Instance::from_bytes(&it.to_bytes()), Some(it));
        assert_eq!(Instance::from_bytes(&it.to_bytes()[..23]), None);
        assert_eq!(Instance::from_bytes(&[0; 25]), None);
        assert_eq!(Standing::of(Some(it), Some(it)), Standing::Same(it), "the last count stays");
    }
}
