//! A node: the built programs in this kernel. It holds one world after the other, by rows that the node's own code translates, and
//! is sent packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use axoneme_bpf::address::Address;
use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::endpoint::Endpoint;
use axoneme_bpf::event::{Event, EventKind};
use axoneme_bpf::inet::Direction;
use axoneme_bpf::maps;
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::{Policy, PolicyClassKey, PolicyIndex, PolicyRuleKey};
use axoneme_bpf::programs::{FROM_POD, FROM_UPLINK, TO_POD, TO_UPLINK};
use axoneme_node::reconcile::policy::translate;
use axoneme_operator::compile::policy::agreement::Compiled;
use axoneme_operator::compile::policy::listed;
use axoneme_operator::compile::policy::oracle::Peer;
use axoneme_operator::object::Pod;
use aya::maps::{MapData, RingBuf};

use crate::common::kernel::{Kernel, Verdict};
use crate::common::{netns, node as usual, packet};
use crate::flow::Flow;

/// Of the worlds' nodes. Pods that are bound to none are here, too.
pub const HERE: &str = "node-1";
/// The address of a node that has all pods that are not here.
const THERE: &str = "172.18.0.2";
/// Not those of pods: what comes from other nodes' pods, and from everybody else.
const OVERLAY: u32 = 77;
const UPLINK: u32 = 2;
/// The device that programs run on in tests; its endpoint is whose packets are judged.
const DEVICE: u32 = 1;
/// The device of the first pod of a world.
const FIRST_DEVICE: u32 = 1000;

/// What became of a packet, and who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// By the policy for this direction.
    Dropped(Direction, Reason),
}

/// What policies that only audit would have dropped, had they been enforced: for which direction, and why.
pub type Audits = Vec<(Direction, Reason)>;

pub struct Node {
    kernel: Kernel,
    events: RingBuf<MapData>,
    /// The last number that was given to a slot or a generation.
    last: u32,
    rules: Vec<PolicyRuleKey>,
    classes: Vec<PolicyClassKey>,
    addresses: Vec<IpAddr>,
    /// By any of their addresses: the device, and what stands in its row.
    pods: BTreeMap<IpAddr, (u32, Endpoint)>,
}

pub fn is_here(pod: &Pod) -> bool {
    pod.node.as_deref().is_none_or(|node| node == HERE)
}

impl Node {
    /// A node without pods, on the calling thread.
    pub fn new() -> Self {
        netns::isolate();
        let mut kernel = Kernel::with(&[FROM_POD, TO_POD, FROM_UPLINK, TO_UPLINK]);
        kernel.config(Config {
            flags: ConfigFlags::default(),
            tunnel_ifindex: OVERLAY,
            uplink_ifindex: UPLINK,
            node_ipv4: address("172.18.0.1").into(),
            ..usual::config()
        });
        kernel.address(address("172.18.0.1"), Address::host());
        for node in [THERE, "fd00::1"] {
            kernel.address(address(node), Address::node());
        }
        // Where pods are known that nobody names; 10.0.1.200 is the world's.
        for net in 1..=3 {
            kernel.cidr(IpAddr::from([10, 0, net, 0]), 28, Address::pod(0, address(THERE)));
            kernel.cidr(address(&format!("fd00:0:{net}::")), 64, Address::pod(0, address(THERE)));
        }
        let events = RingBuf::try_from(kernel.ebpf.take_map(maps::EVENTS).unwrap()).unwrap();
        Self {
            kernel,
            events,
            last: 0,
            rules: Vec::new(),
            classes: Vec::new(),
            addresses: Vec::new(),
            pods: BTreeMap::new(),
        }
    }

    /// Takes a world in the place of the one before.
    pub fn hold(&mut self, world: &Compiled<'_>) {
        self.clear();
        let here: BTreeMap<u32, u32> =
            world.pods().filter(|(pod, _)| is_here(pod)).map(|(_, id)| id).zip(1..).collect();
        let mut known = BTreeSet::new();
        for (identity, index) in &here {
            let row = &world.rows()[identity];
            known.extend(listed(row));
            self.write(*index, &translate::compile(row).unwrap());
        }
        match world.row_of_node(HERE) {
            Some(row) => {
                known.extend(listed(row));
                self.write(PolicyIndex::HOST.0, &translate::compile(row).unwrap());
            }
            None => self.kernel.policy(PolicyIndex::HOST.0, Policy::default()),
        }
        for (number, (pod, identity)) in (0..).zip(world.pods()) {
            if let Some(policy) = here.get(&identity).filter(|_| is_here(pod)) {
                self.add_pod(number, pod, identity, *policy);
            } else if known.contains(&identity) {
                pod.ips.iter().for_each(|ip| self.add_address(*ip, Address::pod(identity, address(THERE))));
            }
        }
    }

    fn write(&mut self, index: u32, compiled: &translate::Compiled) {
        let slot = self.unused();
        for (key, verdicts) in &compiled.rules {
            let key = PolicyRuleKey { slot, ..*key };
            self.kernel.rule(key, *verdicts);
            self.rules.push(key);
        }
        for (key, class) in &compiled.classes {
            let key = PolicyClassKey { slot, ..*key };
            self.kernel.class(key, *class);
            self.classes.push(key);
        }
        let generation = self.unused();
        self.kernel.policy(index, compiled.policy(slot, generation));
    }

    fn add_pod(&mut self, number: u8, pod: &Pod, identity: u32, policy: u32) {
        let ifindex = FIRST_DEVICE + u32::from(number);
        let of_family = |v4: bool| pod.ips.iter().find(|ip| ip.is_ipv4() == v4).copied().unwrap().into();
        let endpoint = Endpoint {
            identity,
            policy,
            id: ifindex,
            ipv4: of_family(true),
            ipv6: of_family(false),
            pod_mac: packet::SOURCE_MAC,
            host_mac: [2, 0, 0, 0, 0xff, number],
            ..Endpoint::default()
        };
        self.kernel.endpoint(ifindex, endpoint);
        for ip in &pod.ips {
            self.add_address(*ip, Address::endpoint(ifindex));
            self.pods.insert(*ip, (ifindex, endpoint));
        }
    }

    fn add_address(&mut self, ip: IpAddr, row: Address) {
        self.kernel.address(ip, row);
        self.addresses.push(ip);
    }

    fn clear(&mut self) {
        self.rules.drain(..).for_each(|key| self.kernel.delete_rule(key));
        self.classes.drain(..).for_each(|key| self.kernel.delete_class(key));
        self.addresses.drain(..).for_each(|ip| self.kernel.delete_address(ip));
        self.pods.clear();
    }

    /// A slot or a generation.
    fn unused(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    /// The pod `flow.source` sends a packet.
    pub fn send(&mut self, flow: Flow) -> (Outcome, Audits) {
        let (_, endpoint) = self.pods[&flow.source];
        self.kernel.endpoint(DEVICE, endpoint);
        self.judge(FROM_POD, flow, 0)
    }

    /// The stack brings the pod `flow.destination` a packet from whoever this is.
    pub fn receive(&mut self, flow: Flow, from: Peer<'_>) -> (Outcome, Audits) {
        let (_, endpoint) = self.pods[&flow.destination];
        self.kernel.endpoint(DEVICE, endpoint);
        let device = match from {
            Peer::Host => 0,
            Peer::Pod(_) => self.pods.get(&flow.source).map_or(OVERLAY, |(ifindex, _)| *ifindex),
            Peer::RemoteNode | Peer::World => UPLINK,
        };
        self.judge(TO_POD, flow, device)
    }

    /// The host sends a packet to somebody who is no pod of its own.
    pub fn host_sends(&mut self, flow: Flow) -> (Outcome, Audits) {
        self.judge(TO_UPLINK, flow, 0)
    }

    /// The host gets a packet from somebody who is no pod of its own.
    pub fn host_receives(&mut self, flow: Flow) -> (Outcome, Audits) {
        self.judge(FROM_UPLINK, flow, 0)
    }

    fn judge(&mut self, program: &str, flow: Flow, from: u32) -> (Outcome, Audits) {
        let bytes = flow.packet();
        let (verdict, _) = self.kernel.run_from(program, &bytes, from);
        let (drops, audits): (Vec<Event>, Vec<Event>) =
            self.told().into_iter().partition(|event| event.kind == EventKind::DROP);
        assert!(audits.iter().all(|event| event.kind == EventKind::AUDIT), "{audits:?}");
        self.forget(flow);
        let outcome = match (verdict, &*drops) {
            (Verdict::Drop, [drop]) => Outcome::Dropped(drop.direction, drop.reason),
            (Verdict::Pass | Verdict::Redirect, []) => Outcome::Passed,
            other => panic!("{program}, {flow:?}: {other:?}"),
        };
        (outcome, audits.iter().map(|event| (event.direction, event.reason)).collect())
    }

    fn told(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(record) = self.events.next() {
            events.extend(Event::read(&record));
        }
        events
    }

    /// Else the next packet of these ends would be this one's answer, or of the same flow.
    fn forget(&mut self, flow: Flow) {
        for direction in [Direction::INGRESS, Direction::EGRESS] {
            self.kernel.forget(flow.tuple(direction));
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
