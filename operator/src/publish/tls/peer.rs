//! The node that a client certificate names.

use axoneme_proto::NODE_URI_PREFIX;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// A node as its certificate names it: a Node object that was deleted and created again is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeName {
    /// Name of the Node.
    pub name: String,
    /// UID of the Node.
    pub uid: String,
}

impl NodeName {
    /// The URI that stands in the certificate.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{NODE_URI_PREFIX}{}/{}", self.name, self.uid)
    }

    fn from_uri(uri: &str) -> Option<Self> {
        let (name, uid) = uri.strip_prefix(NODE_URI_PREFIX)?.split_once('/')?;
        let plain = |text: &str| !text.is_empty() && !text.contains('/');
        (plain(name) && plain(uid)).then(|| Self { name: name.to_owned(), uid: uid.to_owned() })
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// No certificate: may only join.
    Anonymous,
    /// A certificate of the CA that names this node.
    Node(NodeName),
}

/// A certificate of the CA that names no node.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It cannot be read.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// It has no name, or several, of the form `axoneme://node/<name>/<uid>`.
    #[error("the client certificate does not name one node")]
    NoNode,
}

impl Peer {
    /// Reads a chain that TLS has verified.
    ///
    /// # Errors
    /// When its leaf does not name exactly one node: such a certificate is for something else.
    pub fn of(chain: Option<&[CertificateDer<'_>]>) -> Result<Self, PeerError> {
        let Some(leaf) = chain.and_then(<[_]>::first) else { return Ok(Self::Anonymous) };
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf).map_err(|_| PeerError::Unreadable)?;
        let names = leaf.subject_alternative_name().map_err(|_| PeerError::Unreadable)?.ok_or(PeerError::NoNode)?;
        match names.value.general_names.as_slice() {
            [GeneralName::URI(uri)] => NodeName::from_uri(uri).map(Self::Node).ok_or(PeerError::NoNode),
            _ => Err(PeerError::NoNode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_round_trip_and_others_are_refused() {
        let node = NodeName { name: "worker-1".into(), uid: "8a2c".into() };
        assert_eq!(NodeName::from_uri(&node.uri()), Some(node));
        for uri in [
            "axoneme://node/",
            "axoneme://node/a",
            "axoneme://node/a/",
            "axoneme://node//u",
            "axoneme://node/a/b/c",
            "x",
        ] {
            assert_eq!(NodeName::from_uri(uri), None, "{uri}");
        }
    }
}
