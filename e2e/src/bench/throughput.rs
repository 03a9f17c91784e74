//! One TCP stream and TCP ping-pong, pod to pod across nodes, against two hosts without programs and against the least that
//! any data path can do, all in one run.

use anyhow::{Context, Result};

use super::lane::{self, End, Kind, Lane};
use super::limit::Yardsticks;
use super::programs::Programs;
use super::{Goal, Options, Report, Row, Set, routing};
use crate::api::Api;
use crate::cgroup::Hierarchies;
use crate::cluster::Cluster;
use crate::images::TOOLS;
use crate::progress::step;
use crate::state::Routing;
use crate::workload::{Workload, pod_ip};

const ROUNDS: usize = 22;

/// The figures for one way of routing: stream and ping-pong against the host, and Cilium's.
struct Figures {
    stream: (f64, f64),
    ping_pong: (f64, f64),
}

const TUNNEL: Figures = Figures { stream: (0.72, 0.56), ping_pong: (1.05, 1.19) };
const NATIVE: Figures = Figures { stream: (0.97, 0.87), ping_pong: (1.07, 1.19) };
/// What shall be reached of the limit.
const STREAM_OF_LIMIT: f64 = 0.93;
const PING_PONG_OF_LIMIT: f64 = 1.06;

pub(super) fn measure(cluster: &Cluster, api: &Api, options: &Options) -> Result<Report> {
    let routing = routing(cluster, api)?;
    let programs = Programs::new(&cluster.paths)?;
    let workload = Workload::new(api, "bench-net")?;
    let pods = pods(cluster, api, &workload)?;
    let yardsticks =
        step("two plain nodes, and two with the least that forwards", || Yardsticks::new(cluster, &programs, routing))?;
    let lanes = [pods, yardsticks.limit(cluster)?, yardsticks.host(cluster)?, nodes(cluster)?];
    let kinds = [Kind::Stream, Kind::PingPong];
    let samples = lane::measure(&lanes, &kinds, options.rounds(ROUNDS), &programs)?;

    let figures = if routing == Routing::Tunnel { TUNNEL } else { NATIVE };
    let mut report = Report::routed(Set::Throughput, routing);
    for (kind, what, unit) in [(Kind::Stream, "one TCP stream", "Gbit/s"), (Kind::PingPong, "TCP ping-pong", "us")] {
        let (against_host, against_limit) = match kind {
            Kind::Stream => ((Goal::AtLeast(figures.stream.0), figures.stream.1), Goal::AtLeast(STREAM_OF_LIMIT)),
            _ => ((Goal::AtMost(figures.ping_pong.0), figures.ping_pong.1), Goal::AtMost(PING_PONG_OF_LIMIT)),
        };
        for lane in &lanes {
            report.add(Row::median(format!("{what}, {}", lane.name), samples.of(lane.name, kind), unit));
        }
        let ratio = |ours, theirs| samples.ratios(ours, theirs, kind);
        let row = Row::median(format!("{what}, pod / host"), &ratio("pod to pod", "host to host"), "");
        report.add(row.reach(against_host.0).baseline(against_host.1));
        let row = Row::median(format!("{what}, pod / limit"), &ratio("pod to pod", "limit"), "");
        report.add(row.reach(against_limit));
        report.add(Row::median(format!("{what}, limit / host"), &ratio("limit", "host to host"), ""));
        let row = Row::median(format!("{what}, node / host"), &ratio("node to node", "host to host"), "");
        report.add(row);
    }
    Ok(report)
}

/// From a pod on the first node to one on the second, made in `workload` as `client` and `server`.
pub(super) fn pods(cluster: &Cluster, api: &Api, workload: &Workload<'_>) -> Result<Lane> {
    let (from, to) = two_nodes(cluster)?;
    let start = |name, node| workload.pod(name, &cluster.folder.node_name(node), TOOLS, &["infinity"]);
    start("client", from)?;
    start("server", to)?;
    step("a pod on each of two nodes", || {
        workload.ready("client")?;
        workload.ready("server")
    })?;
    lane_of_pods(cluster, api, workload, "pod to pod", ("client", from), ("server", to))
}

/// From one pod to another, with their nodes.
pub(super) fn lane_of_pods(
    cluster: &Cluster,
    api: &Api,
    workload: &Workload<'_>,
    name: &'static str,
    client: (&str, u8),
    server: (&str, u8),
) -> Result<Lane> {
    let get = |pod: &str| api.get(&format!("{}/{pod}", workload.path("", "pods")));
    let end = |(pod, node): (&str, u8)| -> Result<End> {
        // The node's cgroup, not the pod's: the same programs at the socket, and nobody is in the way of limits.
        let cgroup = Hierarchies::find()?.system(&cluster.folder.node_name(node));
        Ok(End { network: cluster.pod_network(&get(pod)?)?, cgroup })
    };
    Ok(Lane { name, address: pod_ip(&get(server.0)?)?, client: end(client)?, server: end(server)? })
}

/// Between the same nodes themselves: what our programs on the uplinks take from hosts.
fn nodes(cluster: &Cluster) -> Result<Lane> {
    let (from, to) = two_nodes(cluster)?;
    let state = cluster.folder.expect()?;
    let end = |index: u8| -> Result<End> {
        let init = state.nodes.get(&index).with_context(|| format!("there is no node {index}"))?.init;
        let network = std::fs::File::open(format!("/proc/{}/ns/net", init.pid)).context("the node is gone")?;
        Ok(End { network, cgroup: Hierarchies::find()?.system(&cluster.folder.node_name(index)) })
    };
    let address = state.addresses().node(to)[0].addr();
    Ok(Lane { name: "node to node", client: end(from)?, server: end(to)?, address })
}

/// The first two nodes.
pub(super) fn two_nodes(cluster: &Cluster) -> Result<(u8, u8)> {
    let nodes = cluster.nodes()?;
    let (from, to) = nodes.first().zip(nodes.get(1)).context("this needs two nodes")?;
    Ok((*from, *to))
}
