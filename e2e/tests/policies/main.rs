//! Whoever judges a packet says the same: the reference evaluator, compiled rows under the kernel's lookup in Rust, explanations,
//! and for pods and the host of one node its programs in this kernel, which have the rows as the node translates them.
//!
//! `PROPTEST_CASES` says in how many random worlds, `PROPTEST_RNG_SEED` in which.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../../bpf/tests/common/mod.rs"]
mod common;
mod flow;
mod node;
mod sequences;

use std::sync::atomic::{AtomicU64, Ordering};

use axoneme_bpf::inet::Direction as Way;
use axoneme_bpf::metrics::Reason;
use axoneme_operator::compile::policy::Because;
use axoneme_operator::compile::policy::agreement::{self, Compiled, Pair, Verdict};
use axoneme_operator::compile::policy::oracle::{Peer, Subject, World};
use axoneme_operator::compile::policy::worlds;
use axoneme_operator::object::Direction;
use proptest::prelude::*;

use self::flow::Flow;
use self::node::{Audits, HERE, Node, Outcome, is_here};

/// Of so many packets between two ends one is judged, which is another one for the next two: rather more worlds than more of each.
const JUDGED: usize = 6;
/// ... and of so many the kernel gets one.
const SENT: usize = 12;

/// How many verdicts agreed.
#[derive(Debug, Default)]
struct Counts {
    verdicts: AtomicU64,
    packets: AtomicU64,
    drops: AtomicU64,
}

privileged! {
    fn whoever_judges_a_packet_says_the_same() {
        let counts = Counts::default();
        let run = sequences::run(64, &worlds::world(), Node::new, |node, world| check(node, &world, &counts));
        let [verdicts, packets, drops] = [counts.verdicts, counts.packets, counts.drops].map(AtomicU64::into_inner);
        println!("policies agree in {run}: {verdicts} verdicts, {packets} of them also the kernel's, {drops} of these drops");
        // Where nothing is dropped, or everything, nothing is shown.
        assert!(drops > packets / 10 && drops < packets - packets / 10, "{drops} drops of {packets} packets");
    }
}

#[test]
fn a_difference_is_what_the_reference_evaluator_finds() {
    let run = sequences::run(
        16,
        &(worlds::world(), worlds::world()),
        || (),
        |(), (before, after)| agreement::difference(before, after),
    );
    println!("differences of policies agree in {run}");
}

fn check(node: &mut Node, world: &World, counts: &Counts) -> Result<(), TestCaseError> {
    let compiled = Compiled::of(world)?;
    node.hold(&compiled);
    let (mut verdicts, mut packets, mut drops) = (0, 0, 0);
    // Not the same ones in all worlds.
    let mut number = world.policies.len() + world.cilium.len() + world.tiered.len();
    for pair in compiled.pairs() {
        for (protocol, port) in worlds::packets() {
            number += 1;
            if !number.is_multiple_of(JUDGED) {
                continue;
            }
            let verdict = pair.verdict(protocol, port)?;
            verdicts += 1;
            if !number.is_multiple_of(SENT) {
                continue;
            }
            if let Some(outcome) = judge(node, &compiled, &pair, (protocol, port), verdict)? {
                packets += 1;
                drops += u64::from(outcome != Outcome::Passed);
            }
        }
    }
    for (count, more) in [(&counts.verdicts, verdicts), (&counts.packets, packets), (&counts.drops, drops)] {
        count.fetch_add(more, Ordering::Relaxed);
    }
    Ok(())
}

/// Sends a packet, if the node gets such, and holds what becomes of it to what should.
fn judge(
    node: &mut Node,
    compiled: &Compiled<'_>,
    pair: &Pair<'_>,
    (protocol, port): (u8, u16),
    verdict: Verdict,
) -> Result<Option<Outcome>, TestCaseError> {
    let other = pair.peer.address.unwrap();
    let own = pair.subject.addresses().iter().find(|ip| ip.is_ipv4() == other.is_ipv4());
    let Some(own) = own.copied() else { return Ok(None) };
    let (source, destination) = match pair.direction {
        Direction::Ingress => (other, own),
        Direction::Egress => (own, other),
    };
    let flow = Flow { source, destination, protocol, port };
    if !flow.exists() {
        return Ok(None);
    }
    let here = match pair.who {
        Peer::Pod(pod) => is_here(pod).then_some(Subject::Pod(pod)),
        Peer::Host => Some(compiled.node(HERE)),
        Peer::RemoteNode | Peer::World => None,
    };
    let (got, expected) = match (pair.subject, pair.direction) {
        (Subject::Pod(pod), _) if !is_here(pod) => return Ok(None),
        (Subject::Node(host), _) if *host.name != *HERE => return Ok(None),
        (Subject::Pod(_), Direction::Ingress) => (node.receive(flow, pair.who), judged(Way::INGRESS, verdict)),
        // What reaches a pod of this node, or its host, is judged for that one, too.
        (Subject::Pod(_), Direction::Egress) => match here.filter(|_| verdict.allowed) {
            Some(receiver) => {
                let received = compiled.pair(receiver, Direction::Ingress, own).verdict(protocol, port)?;
                let (outcome, audits) = judged(Way::INGRESS, received);
                (node.send(flow), (outcome, [audit(verdict, Way::EGRESS), audits].concat()))
            }
            None => (node.send(flow), judged(Way::EGRESS, verdict)),
        },
        // With its own pods the host is judged from their side, and reaches them always.
        (Subject::Node(_), _) if here.is_some() => return Ok(None),
        (Subject::Node(_), Direction::Ingress) => (node.host_receives(flow), judged(Way::INGRESS, verdict)),
        (Subject::Node(_), Direction::Egress) => (node.host_sends(flow), judged(Way::EGRESS, verdict)),
    };
    prop_assert_eq!(&got, &expected, "{:?} of {}: {:?}", pair.direction, pair.subject.name(), flow);
    Ok(Some(got.0))
}

fn judged(way: Way, verdict: Verdict) -> (Outcome, Audits) {
    (outcome(verdict, way), audit(verdict, way))
}

fn reason(because: Because) -> Reason {
    if because == Because::Rule { Reason::POLICY_DENY } else { Reason::POLICY_DEFAULT_DENY }
}

fn audit(verdict: Verdict, way: Way) -> Audits {
    verdict.audited.map(|because| (way, reason(because))).into_iter().collect()
}

fn outcome(verdict: Verdict, way: Way) -> Outcome {
    if verdict.allowed { Outcome::Passed } else { Outcome::Dropped(way, reason(verdict.because)) }
}
