//! Mirror of `lib/identity.h`.

use crate::numbers::numbers;

numbers! {
    /// Reserved security identities; the numbers are Cilium's.
    Identity: u32 = "identity", "IDENTITY_" {
        UNKNOWN = 0,
        HOST = 1,
        WORLD = 2,
        REMOTE_NODE = 6,
        /// From here on identities mean something on one node only and are refused on the wire.
        LOCAL_MIN = 1 << 24,
    }
}
