//! Version `v2alpha1` of the `cilium.io` group, one file a kind. The habits are those of [`crate::v2`].

pub mod pod_ip_pool;

pub use pod_ip_pool::{CiliumPodIPPool, PodIpPoolSpec, PoolCidrs};
