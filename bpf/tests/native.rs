//! Two nodes with real devices and native routing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use axoneme_bpf::inet::{Direction, Tuple};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::{Action, RulePeer};
use common::cluster::{Cluster, Routing};
use common::node::{self, Net, at, isolating, normal, port_rule};
use common::packet::{TCP, UDP};
use common::traffic::{datagrams, tcp, udp};

const MEGABYTE: usize = 1 << 20;
const NATIVE: [Routing; 2] = [Routing::Direct, Routing::Routed];

privileged! {
    fn pods_of_two_nodes_talk_past_both_hosts_stacks() {
        for routing in NATIVE {
            let mut cluster = Cluster::routed(routing);
            for net in Net::BOTH {
                let (client, remote) = (&cluster.client.netns, &cluster.remote.netns);
                let seen = udp(client, remote, 53, at(net.remote(), 53)).expect("UDP");
                assert_eq!((seen.client.ip(), seen.server), (net.client(), at(net.remote(), 53)));
                let flow = Tuple::new(Direction::INGRESS, UDP, (seen.client.ip(), seen.client.port()), (net.remote(), 53));
                let ct = cluster.there.kernel.ct(flow).expect("judged at the other node");
                assert_eq!(ct.peer_identity, node::CLIENT_IDENTITY);
                let seen = tcp(client, remote, 80, at(net.remote(), 80), MEGABYTE).expect("TCP");
                assert_eq!(seen.client.ip(), net.client());
                datagrams(client, remote, 53, at(net.remote(), 53), 5000).expect("in fragments");
            }
            assert_eq!((cluster.here.kernel.drops(), cluster.there.kernel.drops()), (vec![], vec![]));
        }
    }
}

privileged! {
    fn the_other_nodes_policy_judges_by_the_address() {
        let mut cluster = Cluster::routed(Routing::Direct);
        cluster.there.kernel.policy(3, isolating(3, 5));
        let client = RulePeer::identity(node::CLIENT_IDENTITY);
        cluster.there.kernel.rule(port_rule(3, client, Direction::INGRESS, TCP, 80), normal(Action::ALLOW, 1));
        for net in Net::BOTH {
            let (client, server, remote) = (&cluster.client.netns, &cluster.server.netns, &cluster.remote.netns);
            assert!(tcp(client, remote, 80, at(net.remote(), 80), 10).is_some());
            assert!(tcp(client, remote, 81, at(net.remote(), 81), 10).is_none());
            assert!(tcp(server, remote, 80, at(net.remote(), 80), 10).is_none());
            let event = *cluster.there.kernel.events().last().expect("an event");
            assert_eq!((event.reason, event.source_identity), (Reason::POLICY_DEFAULT_DENY, node::SERVER_IDENTITY));
        }
    }
}

privileged! {
    fn services_translate_on_the_way() {
        let mut cluster = Cluster::routed(Routing::Direct);
        for net in Net::BOTH {
            let frontend = at(net.cluster_ip(), 80);
            for protocol in [TCP, UDP] {
                cluster.here.kernel.service(frontend, protocol, u32::from(protocol), 1, &[at(net.remote(), 8080)]);
            }
            let seen = tcp(&cluster.client.netns, &cluster.remote.netns, 8080, frontend, MEGABYTE).expect("TCP");
            assert_eq!(seen.server, frontend);
            let seen = udp(&cluster.client.netns, &cluster.remote.netns, 8080, frontend).expect("UDP");
            assert_eq!(seen.server, frontend);
        }
        assert_eq!(cluster.here.kernel.drops(), []);
    }
}

privileged! {
    fn another_node_sees_pods_own_addresses_and_hosts_reach_pods_of_others() {
        let mut cluster = Cluster::routed(Routing::Routed);
        for net in Net::BOTH {
            // The way back from the other node's host is by its stack's routes.
            let seen = tcp(&cluster.client.netns, &cluster.there.netns, 80, at(net.node(), 80), MEGABYTE).expect("TCP");
            assert_eq!(seen.client.ip(), net.client());
            let seen = tcp(&cluster.here.netns, &cluster.remote.netns, 80, at(net.remote(), 80), MEGABYTE).expect("TCP");
            assert_eq!(seen.client.ip(), net.host());
        }
        assert_eq!((cluster.here.kernel.drops(), cluster.there.kernel.drops()), (vec![], vec![]));
    }
}
