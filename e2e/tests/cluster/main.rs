//! Scenarios on a real cluster with this project as its network: real API server, kubelets and containerd, pods that send
//! packets, and a check on what arrived. They share one cluster and run one after the other:
//!
//!     make cluster VALUES=e2e/tests/cluster/values.yaml && AXONEME_E2E_CLUSTER=dev cargo test -p axoneme-e2e --test cluster -- --test-threads 1
//!
//! `make test` does that with a cluster of its own, and once more on a dual-stack one with native routing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod addresses;
mod bad_input;
mod bandwidth;
mod barrier;
mod command;
mod host;
mod host_network;
mod lab;
mod lies;
mod lifecycle;
mod namespaces;
mod neighbours;
mod operators;
mod outside;
mod packets;
mod pods;
mod policy;
mod resources;
mod services;
