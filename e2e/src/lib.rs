//! A real Kubernetes cluster on one machine, without a container engine: etcd and the control plane as processes, nodes as
//! network and mount namespaces with their own containerd and kubelet. On it: scenarios, upstream's conformance specs and
//! measurements. The command `axoneme-e2e` is a thin front; tests use the library.

pub mod address;
pub mod api;
pub mod api_server;
pub mod bench;
pub mod bridge_cni;
mod cargo;
pub mod cgroup;
pub mod ci;
pub mod cleanup;
pub mod cluster;
pub mod component;
pub mod conformance;
pub mod control_plane;
pub mod demo;
pub mod gobuild;
pub mod helm;
pub mod images;
pub mod kubectl;
pub mod leaks;
pub mod lifecycle;
pub mod link;
pub mod load;
pub mod machine;
pub mod metrics;
pub mod node;
pub mod node_config;
pub mod outside;
pub mod paths;
pub mod pki;
pub mod pod;
pub mod process;
pub mod progress;
pub mod reach;
pub mod sandbox;
pub mod state;
pub mod table;
mod thread;
pub mod traces;
pub mod version;
pub mod workload;
