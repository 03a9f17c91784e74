//! Mirror of `lib/bandwidth.h`.

use crate::inet::Direction;
use crate::numbers::pod;

/// Key of `ax_bandwidth`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BandwidthKey {
    /// Key in `ax_endpoints`.
    pub ifindex: u32,
    pub direction: Direction,
    pub reserved: [u8; 3],
}

/// Value of `ax_bandwidth`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    pub bytes_per_second: u64,
    /// CLOCK_MONOTONIC in ns at which the line is free again. Written by programs only; 0 at first.
    pub free_at: u64,
    pub reserved: u64,
}

pod!(BandwidthKey, Bandwidth);
