//! What the operator wants of this node.
//!
//! [`Desired`] holds the rows of all held scopes and the cursor that names them. A delta is committed as one and yields the keys
//! of the kernel that it may have changed ([`Dirty`]); what they should be now is asked of `Desired` when each is reconciled.
//! A row that this build cannot apply is rejected: it stays reported, and what its key had stays in force. But what a row that
//! restricts had does not, when that row needs a feature that this build lacks: pods are closed then, a service is gone, and the
//! node itself is open, because it could not be repaired otherwise.

pub mod checkpoint;
pub mod commit;
pub mod index;
pub mod pods;
pub mod rows;
pub mod store;

use std::collections::BTreeMap;
use std::net::IpAddr;

use axoneme_bpf::identity::Identity;
use axoneme_proto::nodesync::{Cursor, FailureCode, Feature, InputVersion};
use axoneme_proto::tables::{self, PolicyDirection};
use axoneme_proto::{Scope, Table};
use prost::Message;

pub use commit::{Change, Dirty};
pub use index::{Index, NodeAddress};
pub use rows::{Content, InvalidRow};
pub use store::{RowId, Store, Stored};

use rows::{Backends, Endpoint, Node, Pool, Service, Settings};

/// Bits of `Feature` that this build understands.
pub const FEATURES: u64 = Feature::Tiers as u64 | Feature::IcmpTypes as u64 | Feature::HostPolicy as u64;

/// The node's own identity.
pub const HOST: u32 = Identity::HOST.0;

/// By whom a pod is isolated whose policy this build does not understand.
const UNSUPPORTED: &str = "unsupported";

/// A row that could not be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Of the rejected row.
    pub revision: u64,
    /// UNSUPPORTED or INVALID.
    pub code: FailureCode,
    /// Why, in words.
    pub message: String,
}

/// All that is desired.
#[derive(Debug)]
pub struct Desired {
    node_name: String,
    store: Store,
    index: Index,
    rejected: BTreeMap<RowId, Rejection>,
    cursor: Option<Cursor>,
    /// Newest resourceVersions that rows were made of, by kind.
    inputs: BTreeMap<String, u64>,
    complete: bool,
}

impl Desired {
    /// Nothing is desired yet of the node `node_name`.
    #[must_use]
    pub fn new(node_name: impl Into<String>) -> Self {
        Self {
            node_name: node_name.into(),
            store: Store::default(),
            index: Index::default(),
            rejected: BTreeMap::new(),
            cursor: None,
            inputs: BTreeMap::new(),
            complete: false,
        }
    }

    /// Name of this node.
    #[must_use]
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// What has been committed. None: nothing, or nothing that a journal could continue.
    #[must_use]
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// The last committed revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.cursor.as_ref().map_or(0, |cursor| cursor.revision)
    }

    /// What the rows were made of, as operators have told: another one that knows less is to catch up first.
    #[must_use]
    pub fn inputs(&self) -> Vec<InputVersion> {
        self.inputs.iter().map(|(kind, &version)| InputVersion { kind: kind.clone(), version }).collect()
    }

    /// Whether the operator's inputs were complete for what is held: only then does absence mean anything.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Rows that this build cannot apply.
    #[must_use]
    pub fn rejected(&self) -> &BTreeMap<RowId, Rejection> {
        &self.rejected
    }

    /// The rejection of a row that restricts and needs what this build lacks: nothing of it is in force, nor of what was before.
    #[must_use]
    pub fn withheld(&self, id: &RowId) -> Option<&Rejection> {
        self.rejected.get(id).filter(|rejection| is_withheld(id, rejection.code))
    }

    /// All accepted rows.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The secondary indexes.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    fn scope(&self) -> Scope {
        Scope::Node(self.node_name.clone())
    }

    /// Accepted rows decode: they did when they were accepted.
    fn content(id: &RowId, stored: &Stored) -> Option<Content> {
        rows::decode(&id.scope, id.table, &id.key, &stored.payload).ok()
    }

    fn lookup(&self, id: &RowId) -> Option<Content> {
        Self::content(id, self.store.get(id)?)
    }

    /// The settings that count here.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        self.index.settings()
    }

    /// This node's own row.
    #[must_use]
    pub fn own_node(&self) -> Option<&Node> {
        self.index.node(&self.node_name)
    }

    /// This node's zone; empty: not known. Of others nobody asks, so that it is not kept.
    #[must_use]
    pub fn zone(&self) -> String {
        let row = self.store.get(&RowId::new(Scope::Cluster, Table::Node, &self.node_name));
        row.and_then(|row| tables::Node::decode(&*row.payload).ok()).unwrap_or_default().zone
    }

    /// The row of an identity's policy.
    #[must_use]
    pub fn policy_row(&self, identity: u32) -> RowId {
        let scope = if identity == HOST { self.scope() } else { Scope::Policy(identity) };
        RowId::new(scope, Table::Policy, &identity.to_string())
    }

    /// What is enforced on pods of `identity`, or on the node itself; of pods a closed policy where that cannot be understood.
    #[must_use]
    pub fn policy(&self, identity: u32) -> Option<(tables::Policy, u64)> {
        let id = self.policy_row(identity);
        if let Some(rejection) = self.withheld(&id).filter(|_| identity != HOST) {
            return Some((closed(identity), rejection.revision));
        }
        let stored = self.store.get(&id)?;
        match Self::content(&id, stored)? {
            Content::Policy(policy) => Some((policy, stored.revision)),
            _ => None,
        }
    }

    /// Whether there is something to be enforced on pods of `identity`, or on the node itself.
    #[must_use]
    pub fn has_policy(&self, identity: u32) -> bool {
        let id = self.policy_row(identity);
        self.store.get(&id).is_some() || (identity != HOST && self.withheld(&id).is_some())
    }

    /// Identities of which that is so.
    pub fn policies(&self) -> impl Iterator<Item = u32> {
        let pods = self.store.scopes().filter_map(|scope| match scope {
            Scope::Policy(identity) => Some(*identity),
            _ => None,
        });
        pods.chain([HOST]).filter(|identity| self.has_policy(*identity))
    }

    /// A pod of this node.
    #[must_use]
    pub fn endpoint(&self, pod_uid: &str) -> Option<Endpoint> {
        match self.lookup(&RowId::new(self.scope(), Table::Endpoint, pod_uid))? {
            Content::Endpoint(endpoint) => Some(endpoint),
            _ => None,
        }
    }

    /// This node's pools.
    pub fn pools(&self) -> impl Iterator<Item = Pool> {
        self.store.table(&self.scope(), Table::Pool).filter_map(|(id, stored)| match Self::content(id, stored)? {
            Content::Pool(pool) => Some(pool),
            _ => None,
        })
    }

    /// Whether a namespace has a policy, if that is known.
    #[must_use]
    pub fn namespace_has_policy(&self, name: &str) -> Option<bool> {
        match self.lookup(&RowId::new(self.scope(), Table::Namespace, name))? {
            Content::Namespace(has_policy) => Some(has_policy),
            _ => None,
        }
    }

    /// A service by "namespace/name".
    #[must_use]
    pub fn service(&self, key: &str) -> Option<Service> {
        match self.lookup(&RowId::new(Scope::Services, Table::Service, key))? {
            Content::Service(service) => Some(service),
            _ => None,
        }
    }

    /// Keys of all services.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.store.table(&Scope::Services, Table::Service).map(|(id, _)| &*id.key)
    }

    /// The slices of a service.
    pub fn backends<'a>(&'a self, service: &'a str) -> impl Iterator<Item = Backends> {
        self.index.slices(service).filter_map(|slice| {
            match self.lookup(&RowId::new(Scope::Services, Table::Backends, slice))? {
                Content::Backends(backends) => Some(backends),
                _ => None,
            }
        })
    }

    /// The row of the pod of `identity` that has this address. Looks at all pods of that identity.
    #[must_use]
    pub fn peer_row(&self, identity: u32, address: IpAddr) -> Option<RowId> {
        let has = |content| matches!(content, Content::Peer(peer) if peer.addresses.contains(&address));
        let mut rows = self.store.table(&Scope::Peers(identity), Table::Peer);
        rows.find(|(id, stored)| Self::content(id, stored).is_some_and(has)).map(|(id, _)| id.clone())
    }

    /// The pod of `identity` that has this address, as `namespace/name`.
    #[must_use]
    pub fn peer_name(&self, identity: u32, address: IpAddr) -> Option<String> {
        let stored = self.store.get(&self.peer_row(identity, address)?)?;
        let peer: tables::Peer = prost::Message::decode(&*stored.payload).ok()?;
        Some(format!("{}/{}", peer.namespace, peer.name))
    }

    /// Revision of an accepted row.
    #[must_use]
    pub fn row_revision(&self, id: &RowId) -> Option<u64> {
        self.store.get(id).map(|stored| stored.revision)
    }
}

/// Rows of these tables say what is allowed or who is reached; others say what is.
fn is_withheld(id: &RowId, code: FailureCode) -> bool {
    let restricts = [Table::Policy, Table::Endpoint, Table::Service, Table::Backends];
    code == FailureCode::Unsupported && restricts.iter().any(|table| i32::from(*table) == id.table)
}

fn closed(identity: u32) -> tables::Policy {
    let direction = || Some(PolicyDirection { enforced: true, isolated_by: 1, ..PolicyDirection::default() });
    tables::Policy {
        identity,
        ingress: direction(),
        egress: direction(),
        policies: vec![UNSUPPORTED.into()],
        ..tables::Policy::default()
    }
}
