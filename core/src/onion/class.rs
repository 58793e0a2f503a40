//! The five sizes of a v3 packet.

/// Size class of a packet. Packets of one class look alike in length at every hop and for every route length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketClass {
    /// 4 KiB: a text message or a few.
    C0 = 0,
    /// 16 KiB.
    C1 = 1,
    /// 64 KiB.
    C2 = 2,
    /// 256 KiB.
    C3 = 3,
    /// 1 MiB and 4 KiB: the largest operation.
    C4 = 4,
}

impl PacketClass {
    /// All classes, smallest first.
    pub const ALL: [Self; 5] = [Self::C0, Self::C1, Self::C2, Self::C3, Self::C4];

    /// The largest class there is.
    pub const LARGEST: Self = Self::C4;

    /// Bytes of a packet that are not content: its header, the innermost slot and room for five more slots, kept
    /// free for every route length so that the length of a route does not show in what fits.
    pub const OVERHEAD: usize = 628;

    /// Length of a packet, bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::C0 => 4096,
            Self::C1 => 16_384,
            Self::C2 => 65_536,
            Self::C3 => 262_144,
            Self::C4 => 1_052_672,
        }
    }

    /// Largest content a packet carries, bytes.
    pub const fn capacity(self) -> usize {
        self.size() - Self::OVERHEAD
    }

    /// The class of a packet of exactly `len` bytes; `None` when no class has that size.
    pub fn from_len(len: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.size() == len)
    }

    /// The smallest class that carries `len` bytes of content; `None` when none does.
    pub fn for_content(len: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|class| len <= class.capacity())
    }
}

impl TryFrom<u8> for PacketClass {
    type Error = u8;

    /// From the number on the wire; gives the number back when no class has it.
    fn try_from(number: u8) -> Result<Self, u8> {
        Self::ALL.into_iter().find(|class| *class as u8 == number).ok_or(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `docs/wire.md`.
    #[test]
    fn sizes_and_capacities_are_those_of_the_format() {
        let table =
            [(4096, 3468), (16_384, 15_756), (65_536, 64_908), (262_144, 261_516), (1_052_672, 1_052_044)];
        for (class, (size, capacity)) in PacketClass::ALL.into_iter().zip(table) {
            assert_eq!((class.size(), class.capacity()), (size, capacity));
            assert_eq!(PacketClass::from_len(size), Some(class));
            assert_eq!(PacketClass::from_len(size - 1), None);
            assert_eq!(PacketClass::from_len(size + 1), None);
            assert_eq!(PacketClass::for_content(capacity), Some(class));
            let above = PacketClass::ALL.into_iter().find(|other| *other > class);
            assert_eq!(PacketClass::for_content(capacity + 1), above);
            assert_eq!(PacketClass::try_from(class as u8), Ok(class));
        }
        assert_eq!(PacketClass::from_len(0), None);
        assert_eq!(PacketClass::for_content(0), Some(PacketClass::C0));
        assert_eq!(PacketClass::try_from(5), Err(5));
    }

    #[test]
    fn the_largest_operation_fits_into_the_largest_class() {
        let content = crate::onion::deliver::OVERHEAD + crate::limits::MAX_ENVELOPE;
        assert_eq!(PacketClass::for_content(content), Some(PacketClass::C4));
    }
}
