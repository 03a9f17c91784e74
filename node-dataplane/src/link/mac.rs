//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

/// Text that is not an Ethernet address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an Ethernet address: {0:?}")]
pub struct InvalidMac(pub String);

impl Mac {
    /// A locally administered unicast address that depends on `name` only: an interrupted ADD that is repeated gets the same.
    #[must_use]
    pub fn derived_from(name: &str) -> Self {
        let [a, b, c, d, e, f, ..] = xxh3_64(name.as_bytes()).to_le_bytes();
        Self([(a & 0xfc) | 0x02, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| InvalidMac(text.to_owned()))
    }
}

impl TryFrom<String> for Mac {
    type Error = InvalidMac;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_derived_addresses_are_local_unicast() {
        let mac = Mac::derived_from("a container");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!(mac.0[0] & 0x03, 0x02);
        assert_ne!(mac, Mac::derived_from("another"));
        assert!("02:00".parse::<Mac>().is_err());
    }
}
