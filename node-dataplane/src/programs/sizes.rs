//! How many entries the maps have whose need grows with traffic and not with the cluster.

use std::fs;
use std::io;

use axoneme_bpf::maps::{CT_ANY, CT_TCP, NAT, SOCK_REVERSE};
use serde::{Deserialize, Serialize};

/// Entries as configured; what is absent follows from the node's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sizes {
    /// Tracked TCP connections' ends.
    pub ct_tcp: Option<u32>,
    /// Tracked flows' ends of other protocols.
    pub ct_any: Option<u32>,
    /// Masqueraded flows' directions.
    pub nat: Option<u32>,
    /// Sockets translated when they send.
    pub sock_reverse: Option<u32>,
}

/// Entries of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The map.
    pub map: &'static str,
    /// How many entries.
    pub entries: u32,
    /// Set by a person. If not, a pinned map of another size is kept: memory may differ from one look to the next.
    pub configured: bool,
}

/// Measured: 512k entries of connection tracking cost 105 MB.
const ENTRY_BYTES: u64 = 205;
/// A quarter of a percent of memory is for these maps together.
const MEMORY_SHARE: u64 = 400;
/// What each may have.
const BOUNDS: (u64, u64) = (16_384, 1 << 20);

impl Sizes {
    /// Sizes on a node with this memory.
    #[must_use]
    pub fn resolve(self, memory_bytes: u64) -> [Size; 4] {
        let budget = memory_bytes / MEMORY_SHARE / ENTRY_BYTES;
        let size = |map, configured: Option<u32>, eighths: u64| {
            let derived = (budget * eighths / 8).clamp(BOUNDS.0, BOUNDS.1);
            let entries = configured.unwrap_or_else(|| u32::try_from(derived).unwrap_or(u32::MAX));
            Size { map, entries, configured: configured.is_some() }
        };
        [
            size(CT_TCP, self.ct_tcp, 3),
            size(CT_ANY, self.ct_any, 2),
            size(NAT, self.nat, 2),
            size(SOCK_REVERSE, self.sock_reverse, 1),
        ]
    }
}

/// The node's memory in bytes.
///
/// # Errors
/// When /proc/meminfo cannot be read or does not tell.
pub fn memory_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|total| total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_memory_within_bounds_and_configuration_wins() {
        let entries = |memory: u64, sizes: Sizes| sizes.resolve(memory).map(|size| size.entries);
        assert_eq!(entries(1 << 30, Sizes::default()), [16_384; 4]);
        assert_eq!(entries(64 << 30, Sizes::default())[0], 314_265);
        assert_eq!(entries(4 << 40, Sizes::default())[0], 1 << 20);
        let configured = Sizes { nat: Some(5), ..Sizes::default() };
        assert_eq!(configured.resolve(1 << 30)[2], Size { map: NAT, entries: 5, configured: true });
    }
}
