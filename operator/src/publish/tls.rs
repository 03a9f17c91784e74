//! TLS of NodeSync: who the operator is to nodes, and who a node is to the operator.
//!
//! Only TLS 1.3. A client certificate is optional here, because a node that joins has none yet; what is presented is verified
//! against the CA, and `server` requires one for everything but `Join`.

mod authority;
mod listener;
mod peer;

pub use authority::{Authority, AuthorityError, SERVER_CERTIFICATE_LIFETIME};
pub use listener::{ServerTls, TlsConnection, accept};
pub use peer::{NodeName, Peer, PeerError};

#[cfg(test)]
pub(crate) mod testing;
