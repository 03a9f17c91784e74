//! Version `v2alpha1` of the `cilium.io` group: kinds that have no later version, one file each, and those of which an
//! earlier version differs from [`v2`](crate::v2).

pub mod bgp;
pub mod datapath_plugin;
pub mod endpoint_slice;
pub mod gateway_class_config;
pub mod l2_announcement_policy;
pub mod pod_ip_pool;

pub use bgp::{CiliumBGPAdvertisement, CiliumBGPClusterConfig, CiliumBGPNodeConfig, CiliumBGPPeerConfig};
pub use datapath_plugin::CiliumDatapathPlugin;
pub use endpoint_slice::CiliumEndpointSlice;
pub use gateway_class_config::CiliumGatewayClassConfig;
pub use l2_announcement_policy::CiliumL2AnnouncementPolicy;
pub use pod_ip_pool::{CiliumPodIPPool, PodIpPoolSpec, PoolCidrs};
