//! Scenarios on a real cluster with this project as its network: real API server, kubelets and containerd, pods that send
//! packets, and a check on what arrived. They share one cluster and run one after the other:
//!
//!     make cluster VALUES=e2e/tests/cluster/values.yaml && AXONEME_E2E_CLUSTER=dev cargo test -p axoneme-e2e --test cluster -- --test-threads 1
//!
//! `make test` does that with a cluster of its own, and once more on a dual-stack one with native routing and several pools of
//! addresses (`make cluster FAMILY=dual ROUTING=native VALUES=e2e/tests/cluster/multi-pool.yaml`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod addresses;
mod bad_input;
mod bandwidth;
mod barrier;
mod command;
mod host;
mod host_network;
mod host_policy;
mod lab;
mod lies;
mod lifecycle;
mod marks;
mod namespaces;
mod neighbours;
mod node_config;
mod operators;
mod outside;
mod packets;
mod pods;
mod policy;
mod pools;
mod resources;
mod services;
mod verdicts;
