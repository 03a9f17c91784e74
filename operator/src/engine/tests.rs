//! The engine as a whole: incremental is the same as from scratch, in any order of events.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axoneme_proto::nodesync::{AllAttached, Attached};
use axoneme_proto::tables::Settings;
use axoneme_proto::{Scope, address};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index as Pick, select};

use super::*;
use crate::compile::policy::Emergency;
use crate::config::IpamMode;
use crate::object::{
    CiliumIdentity, CiliumNode, Endpoint, EndpointSlice, Kind, LedgerAddress, Name, NodePool, Object, ObjectKey,
    PodIpPool, PoolCidrs, PoolEntry, Service, arbitrary,
};
use crate::publish::journal::Journal;
use crate::publish::session::SessionState;
use crate::publish::session::tests::TestNode;
use crate::table::{EncodedRow, RowId};

mod events;
mod hosts;
mod identities;

use events::{Event, event, ipam};

/// Objects and attachments as they are in the end.
#[derive(Clone, Debug, Default)]
struct State {
    objects: BTreeMap<ObjectKey, Object>,
    attached: BTreeMap<&'static str, Vec<Attached>>,
}

impl State {
    fn upsert(&mut self, object: &Object) {
        if let Object::Node(node) = object
            && let Some(Object::Node(old)) = self.objects.get(&object.key())
            && old.uid != node.uid
        {
            self.attached.remove(&*node.name);
        }
        self.objects.insert(object.key(), object.clone());
    }

    fn delete(&mut self, key: &ObjectKey) {
        self.objects.remove(key);
        if key.kind == Kind::Node {
            self.attached.remove(&*key.name.name);
        }
    }
}

/// An engine with its journal, and everything that it has told so far.
struct Run {
    core: Core,
    journal: Journal,
    now: Instant,
    reports: BTreeMap<Name, Option<Arc<EndpointReport>>>,
    diagnostics: BTreeMap<ObjectKey, Arc<[Diagnostic]>>,
    demands: Arc<Demands>,
}

impl Run {
    fn new(epoch: u8, ipam: IpamMode) -> Self {
        let settings = Settings { cluster_name: "default".into(), ipv4: true, ..Settings::default() };
        let host_firewall = Some(Emergency { ports: [22].into(), nodesync: 4246, server: None });
        Self {
            core: Core::new(Config { ipam, host_firewall, ..Config::new(settings) }),
            journal: Journal::new([epoch; 16], 20),
            now: Instant::now(),
            reports: BTreeMap::new(),
            diagnostics: BTreeMap::new(),
            demands: Arc::default(),
        }
    }

    fn apply(&mut self, input: Input) {
        self.core.apply(input, self.now);
    }

    fn synced(&mut self) {
        Kind::ALL.into_iter().for_each(|kind| self.apply(Input::Synced(kind)));
    }

    fn observe(&mut self, node: &str, pods: &[Attached]) {
        let event = Observed::AllAttached(AllAttached { attached: pods.to_vec() });
        self.apply(Input::Observed { node: node.into(), event });
    }

    fn commit(&mut self) {
        let journal = &mut self.journal;
        let outcome = self.core.commit(self.now, |batch| journal.commit(batch));
        for report in outcome.reports {
            match report {
                Report::Endpoint(name, report) => drop(self.reports.insert(name, report)),
                Report::Diagnostics(key, diagnostics) => drop(self.diagnostics.insert(key, diagnostics)),
                Report::Validity(..) | Report::Failures(..) | Report::Complete => {}
            }
        }
        if let Some(demands) = outcome.demands {
            self.demands = demands;
        }
    }

    /// Everything that may depend on nothing but the objects.
    fn result(&self) -> Comparable {
        let release_free = |mut demand: NodeDemand| {
            demand.release.clear();
            let empty = !demand.addresses_differ
                && demand.cidrs.is_empty()
                && demand.assign.is_empty()
                && !demand.owned
                && demand.adopt.is_empty();
            (!(empty && demand.ledger.is_some())).then_some(demand)
        };
        let decided = |unmet: &&Unmet| !matches!(unmet.reason, UnmetReason::NotForgotten { .. });
        let mut demands = Demands::clone(&self.demands);
        demands.nodes = demands.nodes.into_iter().filter_map(release_free).collect();
        demands.unmet = demands.unmet.iter().filter(decided).cloned().collect();
        let rows: BTreeMap<RowId, EncodedRow> =
            self.journal.rows().map(|(id, _, row)| (id.clone(), row.clone())).collect();
        let hashes = rows.keys().map(|id| (id.scope.clone(), self.journal.scope_hash(&id.scope))).collect();
        Comparable {
            rows,
            hashes,
            grants: arbitrary::NODES.map(|node| self.journal.grant(node).map(|grant| BTreeSet::clone(grant))),
            reports: self.reports.iter().filter_map(|(name, report)| Some((name.clone(), report.clone()?))).collect(),
            diagnostics: self.diagnostics.clone().into_iter().filter(|(_, d)| !d.is_empty()).collect(),
            demands,
        }
    }
}

#[derive(Debug, PartialEq)]
struct Comparable {
    rows: BTreeMap<RowId, EncodedRow>,
    hashes: BTreeMap<Scope, u64>,
    grants: [Option<BTreeSet<Scope>>; 3],
    reports: BTreeMap<Name, Arc<EndpointReport>>,
    diagnostics: BTreeMap<ObjectKey, Arc<[Diagnostic]>>,
    demands: Demands,
}

/// A node that follows the incremental journal all the way.
struct Follower {
    name: &'static str,
    node: TestNode,
    session: Option<SessionState>,
}

impl Follower {
    fn follow(&mut self, journal: &Journal) {
        if journal.grant(self.name).is_none() {
            self.session = None;
            return;
        }
        let session = self.session.get_or_insert_with(|| {
            let (session, welcome, _) =
                SessionState::open(journal, &self.name.into(), &self.node.hello(self.name)).unwrap();
            self.node.welcome(&welcome);
            session
        });
        while let Some(chunk) = session.next(journal).unwrap() {
            if let Some(revision) = self.node.receive(chunk) {
                session.acked(revision);
            }
        }
        self.node.assert_equals(journal, self.name);
    }
}

fn attached(pods: Vec<(String, IpAddr, bool)>) -> Vec<Attached> {
    let unique: BTreeMap<_, _> = pods.into_iter().map(|(uid, ip, reserve)| (uid, (ip, reserve))).collect();
    let attached = |(uid, (ip, from_reserve))| Attached {
        pod_uid: uid,
        pod_namespace: "red".into(),
        pod_name: "pod".into(),
        addresses: vec![address::to_bytes(ip)],
        from_reserve,
        endpoint_id: 7,
        ..Attached::default()
    };
    unique.into_iter().map(attached).collect()
}

/// Plays events, of which the inputs are complete from one on; gives back what is there in the end.
fn play(run: &mut Run, events: Vec<Event>, complete_at: usize) -> State {
    let mut state = State::default();
    let mut followers = arbitrary::NODES.map(|name| Follower { name, node: TestNode::default(), session: None });
    for (i, event) in events.into_iter().enumerate() {
        if i == complete_at {
            assert_eq!(run.journal.revision(), 0, "nothing is published before all inputs are complete");
            run.synced();
        }
        match event {
            Event::Upsert(object) => {
                state.upsert(&object);
                run.apply(Input::Upsert(object));
            }
            Event::Delete(pick) => {
                if !state.objects.is_empty() {
                    let key = state.objects.keys().nth(pick.index(state.objects.len())).unwrap().clone();
                    state.delete(&key);
                    run.apply(Input::Delete(key));
                }
            }
            Event::Number(id, pick) => {
                let unnumbered: Vec<_> = run.core.index().unnumbered().map(|one| Arc::clone(one.labels)).collect();
                if !unnumbered.is_empty() {
                    let labels = Arc::clone(&unnumbered[pick.index(unnumbered.len())]);
                    let (uid, resource_version) = ("u".into(), "1".into());
                    let object = Object::CiliumIdentity(Arc::new(CiliumIdentity { id, labels, uid, resource_version }));
                    state.upsert(&object);
                    run.apply(Input::Upsert(object));
                }
            }
            Event::Attached(node, pods) => {
                let pods = attached(pods);
                run.observe(node, &pods);
                state.attached.insert(node, pods);
            }
            Event::Commit => {
                run.commit();
                for follower in &mut followers {
                    follower.follow(&run.journal);
                }
            }
        }
    }
    // What a pod was before it was relabelled, or before its identity was deleted, counts until there is another one; a fresh
    // engine does not know it.
    for id in 264.. {
        let index = run.core.index();
        let due = index.unnumbered().find(|one| one.lost.is_some() || index.is_changing());
        let Some((labels, id)) = due.map(|one| (Arc::clone(one.labels), one.lost.unwrap_or(id))) else { break };
        let (uid, resource_version) = ("u".into(), "1".into());
        let object = Object::CiliumIdentity(Arc::new(CiliumIdentity { id, labels, uid, resource_version }));
        state.upsert(&object);
        run.apply(Input::Upsert(object));
    }
    run.commit();
    for follower in &mut followers {
        follower.follow(&run.journal);
    }
    state
}

/// A fresh engine that is told the state in this order.
fn from_scratch(state: &State, order: &[usize], ipam: IpamMode) -> Comparable {
    let mut run = Run::new(9, ipam);
    let mut objects: Vec<(usize, &Object)> = order.iter().copied().cycle().zip(state.objects.values()).collect();
    objects.sort_by_key(|(place, _)| *place);
    let late = order.first().is_some_and(|first| first % 2 == 0);
    if late {
        state.attached.iter().for_each(|(node, pods)| run.observe(node, pods));
    }
    for (_, object) in objects {
        run.apply(Input::Upsert(object.clone()));
    }
    if !late {
        state.attached.iter().for_each(|(node, pods)| run.observe(node, pods));
    }
    run.synced();
    run.commit();
    run.result()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn incremental_is_the_same_as_from_scratch_in_any_order(
        events in vec(event(), 20..150),
        complete_at in any::<Pick>(),
        orders in vec(vec(0..1000_usize, 40), 2),
        ipam in ipam(),
    ) {
        let mut run = Run::new(1, ipam);
        let complete_at = complete_at.index(events.len());
        let state = play(&mut run, events, complete_at);
        let incremental = run.result();
        for order in orders {
            let scratch = from_scratch(&state, &order, ipam);
            prop_assert_eq!(&scratch.rows, &incremental.rows);
            prop_assert_eq!(&scratch, &incremental);
        }
    }
}
