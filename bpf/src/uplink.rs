//! Mirror of `lib/uplink.h`.

use crate::inet::Inet;
use crate::numbers::pod;

/// Value of `ax_uplinks`, whose keys are ifindexes of underlay devices: what pods' packets leave with there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// Zero: the device has none of its own in this family, the node's serves.
    pub ipv4: Inet,
    pub ipv6: Inet,
    pub reserved: [u32; 4],
}

pod!(Uplink);
