//! Addresses and prefixes as rows carry them: 4 or 16 bytes in network order.

use std::net::IpAddr;

use crate::tables::{AddressRange, Prefix};

/// Bytes that are not an address or prefix.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidAddress {
    /// Neither 4 nor 16 bytes.
    #[error("an address has 4 or 16 bytes, not {0}")]
    Length(usize),
    /// A prefix longer than its address, or with bits set behind its end.
    #[error("{address}/{length} is not a prefix")]
    Prefix {
        /// The prefix's address.
        address: IpAddr,
        /// Its length in bits.
        length: u32,
    },
}

/// The bytes of an address.
#[must_use]
pub fn to_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address in `bytes`.
///
/// # Errors
/// When there are neither 4 nor 16 of them.
pub fn from_bytes(bytes: &[u8]) -> Result<IpAddr, InvalidAddress> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).map(IpAddr::from).map_err(|_| InvalidAddress::Length(bytes.len()))
}

impl Prefix {
    /// A prefix; bits behind `length` must be zero.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Self {
        Self { address: to_bytes(address), length: length.into() }
    }

    /// Address and length in bits, checked.
    ///
    /// # Errors
    /// When the bytes are no address, the length exceeds it, or bits behind the length are set.
    pub fn parse(&self) -> Result<(IpAddr, u8), InvalidAddress> {
        let address = from_bytes(&self.address)?;
        let invalid = InvalidAddress::Prefix { address, length: self.length };
        let length = u8::try_from(self.length).ok().filter(|&l| usize::from(l) <= self.address.len() * 8);
        match length {
            Some(length) if host_bits_are_zero(&self.address, length) => Ok((address, length)),
            _ => Err(invalid),
        }
    }
}

impl AddressRange {
    /// All addresses from `first` to `last`, both included.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Self {
        Self { first: to_bytes(first), last: to_bytes(last) }
    }
}

fn host_bits_are_zero(address: &[u8], length: u8) -> bool {
    let (full, rest) = (usize::from(length / 8), length % 8);
    let mask = if rest == 0 { 0 } else { 0xff_u8 << (8 - rest) };
    address.iter().enumerate().all(|(i, byte)| match i.cmp(&full) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => byte & !mask == 0,
        std::cmp::Ordering::Greater => *byte == 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["10.0.0.1", "::ffff:1.2.3.4", "fd00::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(from_bytes(&to_bytes(address)), Ok(address));
        }
        assert_eq!(from_bytes(&[1, 2, 3]), Err(InvalidAddress::Length(3)));
    }

    #[test]
    fn prefixes_are_checked() {
        let ip: IpAddr = "10.1.0.0".parse().unwrap();
        assert_eq!(Prefix::new(ip, 16).parse(), Ok((ip, 16)));
        assert_eq!(Prefix::new(ip, 0).parse(), Err(InvalidAddress::Prefix { address: ip, length: 0 }));
        assert_eq!(Prefix::new(ip, 33).parse(), Err(InvalidAddress::Prefix { address: ip, length: 33 }));
        assert_eq!(Prefix::new(ip, 15).parse(), Err(InvalidAddress::Prefix { address: ip, length: 15 }));
    }
}
