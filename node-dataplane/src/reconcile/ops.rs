//! What the reconcilers need from the kernel. `maps`, `link` and `endpoint` implement it; tests do with memory and faults.

use std::fmt;
use std::hash::Hash;
use std::io;
use std::net::IpAddr;

use futures::future::BoxFuture;
use ipnet::IpNet;

use crate::desired::pods::Limits;

/// What can be a key of a map: plain bytes, as in the kernel.
pub trait MapKey: Copy + Eq + Hash + fmt::Debug + Send + 'static {}
impl<T: Copy + Eq + Hash + fmt::Debug + Send + 'static> MapKey for T {}

/// What can be a value of a map.
pub trait MapValue: Copy + Eq + fmt::Debug + Send + 'static {}
impl<T: Copy + Eq + fmt::Debug + Send + 'static> MapValue for T {}

/// What is done with a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapOperation {
    /// Read one entry.
    Get,
    /// Write one entry.
    Update,
    /// Remove one entry.
    Delete,
    /// Read all entries.
    Dump,
}

impl fmt::Display for MapOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "read",
            Self::Update => "write",
            Self::Delete => "delete",
            Self::Dump => "dump",
        })
    }
}

/// Why an operation on a map failed.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The map has no room for another entry (E2BIG or ENOSPC, and ENOMEM on a map without preallocation).
    #[error("map {map} is full at {capacity} entries")]
    Capacity {
        /// Name of the map.
        map: &'static str,
        /// How many entries it was made for.
        capacity: u32,
    },
    /// The kernel refused for another reason.
    #[error("cannot {operation} in map {map}")]
    Kernel {
        /// Name of the map.
        map: &'static str,
        /// What was tried.
        operation: MapOperation,
        /// What the kernel said.
        source: io::Error,
    },
}

/// One map of the kernel.
///
/// All operations are idempotent. An array has all its entries always: deleting one writes zeros. Nothing here blocks for
/// longer than a system call, except [`MapOps::dump`], which makes one or two per entry.
pub trait MapOps<K: MapKey, V: MapValue>: Send {
    /// Name of the map, as pinned.
    fn name(&self) -> &'static str;

    /// How many entries fit.
    fn capacity(&self) -> u32;

    /// The value at `key`; `None` when there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn get(&self, key: &K) -> Result<Option<V>, MapError>;

    /// Writes an entry, whether or not there is one.
    ///
    /// # Errors
    /// [`MapError::Capacity`] when the map is full, else when the kernel refuses.
    fn update(&mut self, key: &K, value: &V) -> Result<(), MapError>;

    /// Removes an entry; one that does not exist is removed already.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn delete(&mut self, key: &K) -> Result<(), MapError>;

    /// Shows every entry, in no order. Entries that others write meanwhile may be missed or shown twice.
    ///
    /// # Errors
    /// When the kernel refuses; what was shown until then is incomplete.
    fn dump(&self, visit: &mut dyn FnMut(K, V)) -> Result<(), MapError>;
}

/// Why the network devices or routes could not be set as desired.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct DeviceError {
    /// What could not be done, with which device.
    pub what: String,
    /// What the kernel said.
    #[source]
    pub source: Option<io::Error>,
}

/// How pods reach other nodes' pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// Encapsulated, to this UDP port (host order).
    Vxlan {
        /// UDP, host order.
        port: u16,
    },
    /// By the underlay's routes.
    Native,
}

/// What the node's own devices shall be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// How pods reach other nodes' pods.
    pub routing: Routing,
    /// This node's addresses as Kubernetes knows them: they name the uplinks. May be empty until the node's row is known.
    pub node_addresses: Vec<IpAddr>,
    /// The one of them that tunnel packets come from and go to; none in native routing.
    pub tunnel_end: Option<IpAddr>,
    /// This node's overlay addresses: what the host sends from towards other nodes' pods where those are tunnelled. In native
    /// routing they are on no device: the host sends from its own address, and pods' gateway is link-local.
    pub overlay_addresses: Vec<IpAddr>,
    /// This node's pod CIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// MTU of pods; 0: derived from uplink and routing.
    pub mtu: u32,
}

/// What the node's devices are like: what programs and CNI need to know of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkState {
    /// Interface of the VXLAN device; 0: none.
    pub tunnel_ifindex: u32,
    /// Interface that holds the node's address.
    pub uplink_ifindex: u32,
    /// Its MTU.
    pub uplink_mtu: u32,
    /// MTU of pods.
    pub pod_mtu: u32,
    /// All global addresses of the host, but the overlay's.
    pub host_addresses: Vec<IpAddr>,
    /// What traffic leaves with by uplinks that have addresses of their own.
    pub uplinks: Vec<UplinkAddresses>,
    /// Prefixes whose addresses are neighbours, longest first.
    pub on_link: Vec<OnLink>,
    /// The routers of default routes.
    pub gateways: Vec<NextHop>,
    /// What had to be and could not be set, in words: the node's network does not work without.
    pub refused: Vec<String>,
    /// What is not as it should be, in words, and can be lived with.
    pub warnings: Vec<String>,
}

/// What traffic leaves with by an uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkAddresses {
    /// Index of the uplink.
    pub device: u32,
    /// One of a family at most; the node's own where the device holds it.
    pub addresses: Vec<IpAddr>,
}

/// A prefix whose addresses are neighbours on an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnLink {
    /// The prefix.
    pub prefix: IpNet,
    /// Index of the uplink.
    pub device: u32,
}

/// The uplink on which this address is a neighbour.
#[must_use]
pub fn neighbour(on_link: &[OnLink], address: IpAddr) -> Option<NextHop> {
    let found = on_link.iter().find(|on_link| on_link.prefix.contains(&address))?;
    Some(NextHop { address, device: found.device })
}

/// A neighbour that packets are given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHop {
    /// Its address.
    pub address: IpAddr,
    /// Index of the device on which it is a neighbour.
    pub device: u32,
}

/// A route from the host to pods of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Pods of that node.
    pub cidr: IpNet,
    /// Native: that node. None: through the overlay device, from the overlay address.
    pub via: Option<NextHop>,
}

/// The node's own devices and routes.
pub trait DeviceOps: Send {
    /// Makes devices, addresses, sysctls and the programs on them as `spec` says, and tells what came out. Idempotent; what is
    /// already so is left alone.
    fn apply<'a>(&'a mut self, spec: &'a NetworkSpec) -> BoxFuture<'a, Result<NetworkState, DeviceError>>;

    /// Makes the routes to other nodes' pods exactly these: adds what is missing, then removes what this daemon once added and
    /// is not in the list. Returns the routes that could not be set.
    fn routes<'a>(&'a mut self, routes: &'a [Route]) -> BoxFuture<'a, Vec<(Route, DeviceError)>>;

    /// Keeps exactly these next hops resolved, so that no packet waits for an answer to who has their address, and none is
    /// asked for by shouting while it answers.
    fn neighbours<'a>(&'a mut self, next_hops: &'a [NextHop]) -> BoxFuture<'a, Result<(), DeviceError>>;
}

/// What an endpoint is enforced with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// Its identity.
    pub identity: u32,
    /// Index into `ax_policies`; written there already.
    pub policy_index: u32,
    /// How fast it may send and get.
    pub limits: Limits,
}

/// Why an endpoint could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum EndpointApplyError {
    /// Its map refused.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Its devices refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The attachment could not be persisted.
    #[error("cannot persist the attachment")]
    Persist(#[source] io::Error),
}

/// What is known of an attached pod, as `endpoint` persists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedEndpoint {
    /// Key of its endpoint row.
    pub pod_uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it was last enforced with.
    pub enforcement: Enforcement,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its address was taken from the node's reserve, without an operator.
    pub from_reserve: bool,
}

/// The pods attached to this node. Shared with the CNI server, hence `&self`.
pub trait EndpointOps: Send + Sync {
    /// All that are attached, by pod UID.
    fn attached(&self) -> Vec<AttachedEndpoint>;

    /// Writes `ax_endpoints` and `ax_bandwidth` of an attached pod as `enforcement` says, and persists it. A pod that is not
    /// attached (any more) is no error. Called on relabels and once per attached pod after a restart.
    ///
    /// # Errors
    /// When a map or the disk refuses; it is called again later.
    fn enforce(&self, pod_uid: &str, enforcement: &Enforcement) -> Result<(), EndpointApplyError>;

    /// The node's network was looked at and has this MTU for pods: devices and routes of attached pods follow, soon after.
    fn follow(&self, pod_mtu: u32);
}
