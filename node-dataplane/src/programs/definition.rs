//! Whether a pinned map may be used as if this version had made it.
//!
//! The loader's library would take any map of the right name, and then read and write by the sizes of the object's definition
//! while the kernel copies by those of the map.

use std::fmt;

use crate::maps::bpf::MapInfo;

/// A map as the object defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// How many entries fit.
    pub max_entries: u32,
    /// Another number of entries is a difference.
    pub exact_entries: bool,
}

/// One number that is not as defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is of.
    pub what: &'static str,
    /// As pinned.
    pub pinned: u32,
    /// As defined.
    pub wanted: u32,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} where {} is wanted", self.what, self.pinned, self.wanted)
    }
}

impl Definition {
    /// In what the pinned map differs; empty when it may be used.
    #[must_use]
    pub fn differences(&self, pinned: &MapInfo) -> Vec<Difference> {
        let mut wanted = vec![
            ("type", pinned.kind, self.kind),
            ("key size", pinned.key_size, self.key_size),
            ("value size", pinned.value_size, self.value_size),
            ("flags", pinned.flags, self.flags),
        ];
        if self.exact_entries {
            wanted.push(("entries", pinned.max_entries, self.max_entries));
        }
        let differs = wanted.into_iter().filter(|(_, pinned, wanted)| pinned != wanted);
        differs.map(|(what, pinned, wanted)| Difference { what, pinned, wanted }).collect()
    }

    /// Whether entries mean the same in both, so that they can be carried over.
    #[must_use]
    pub fn same_entries(&self, pinned: &MapInfo) -> bool {
        (self.kind, self.key_size, self.value_size) == (pinned.kind, pinned.key_size, pinned.value_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFINED: Definition =
        Definition { kind: 1, key_size: 4, value_size: 96, flags: 1, max_entries: 4096, exact_entries: true };

    #[test]
    fn every_number_of_the_definition_counts() {
        let pinned = MapInfo { kind: 1, id: 7, key_size: 4, value_size: 96, max_entries: 4096, flags: 1 };
        assert_eq!(DEFINED.differences(&pinned), vec![]);
        let cases = [
            (MapInfo { kind: 9, ..pinned }, "type 9 where 1 is wanted"),
            (MapInfo { key_size: 8, ..pinned }, "key size 8 where 4 is wanted"),
            (MapInfo { value_size: 80, ..pinned }, "value size 80 where 96 is wanted"),
            (MapInfo { flags: 0, ..pinned }, "flags 0 where 1 is wanted"),
            (MapInfo { max_entries: 1, ..pinned }, "entries 1 where 4096 is wanted"),
        ];
        for (pinned, text) in cases {
            let found: Vec<_> = DEFINED.differences(&pinned).iter().map(ToString::to_string).collect();
            assert_eq!(found, [text]);
        }
        let derived = Definition { exact_entries: false, ..DEFINED };
        assert_eq!(derived.differences(&MapInfo { max_entries: 1, ..pinned }), vec![]);
        assert!(!derived.same_entries(&MapInfo { value_size: 80, ..pinned }));
    }
}
