//! The host's nftables, over netlink: what others have there, and the one table of ours.

mod chains;
mod message;
pub mod untracked;

pub use chains::chains;
