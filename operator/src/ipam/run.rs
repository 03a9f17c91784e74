//! Meets demands: one write in flight per node, everything else is planned from the newest snapshot.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::metrics::IpamMetrics;
use super::plan::{Plan, empty, plan};
use super::{Cidrs, Ledgers, Orphans, Rotation, write};
use crate::engine::{Demands, NodeDemand};
use crate::leader::Tenure;
use crate::object::{CiliumNode, Kind, ObjectKey};
use crate::status::Notices;

/// Writes at the same time, over all nodes.
const CONCURRENT: usize = 64;

/// First and longest pause after an error of the API server.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What could not be done is tried again after this time at the latest.
const AGAIN: Duration = Duration::from_secs(10);

/// Reason of events about pods and nodes that get no address.
const SHORT: &str = "FailedAddressAllocation";

/// What is known of a ledger beyond the snapshot.
#[derive(Debug)]
enum Known {
    /// No more than the snapshot says.
    Nothing,
    /// This was written or read; it counts until the snapshot has a newer one.
    Ledger(Arc<CiliumNode>),
    /// It is gone, whatever a snapshot with this version says.
    Absent(Arc<str>),
}

#[derive(Debug)]
struct State {
    in_flight: bool,
    known: Known,
    failures: u32,
    not_before: Instant,
}

/// A request that has come back.
#[derive(Debug)]
struct Done {
    node: Arc<str>,
    plan: Option<Plan>,
    known: Result<Known, kube::Error>,
}

/// Assigns CIDRs and addresses while this process leads.
#[derive(Debug)]
pub struct Allocator<L> {
    ledgers: Arc<L>,
    cidrs: Cidrs,
    rotation: Rotation,
    orphans: Orphans,
    states: HashMap<Arc<str>, State>,
    tenure: Tenure,
    notices: Notices,
    metrics: IpamMetrics,
}

impl<L: Ledgers> Allocator<L> {
    /// Reads the ledger of CIDRs consistently; nothing is written before.
    ///
    /// # Errors
    /// When the ledgers cannot be read.
    pub async fn new(
        ledgers: L,
        mut cidrs: Cidrs,
        orphans: Orphans,
        tenure: Tenure,
        notices: Notices,
        metrics: IpamMetrics,
    ) -> Result<Self, kube::Error> {
        for ledger in ledgers.list().await? {
            metrics.used(&ledger.name, ledger.pool.len());
            for cidr in ledger.cidrs() {
                cidrs.pin(*cidr, &ledger.name);
            }
        }
        let (ledgers, rotation, states) = (Arc::new(ledgers), Rotation::default(), HashMap::new());
        Ok(Self { ledgers, cidrs, rotation, orphans, states, tenure, notices, metrics })
    }

    /// Meets demands for as long as there is an engine.
    pub async fn run(mut self, mut demands: watch::Receiver<Arc<Demands>>) {
        let mut tasks = JoinSet::new();
        loop {
            let snapshot = Arc::clone(&demands.borrow_and_update());
            let wake = self.begin(&snapshot, &mut tasks);
            tokio::select! {
                changed = demands.changed() => if changed.is_err() { return },
                Some(Ok(done)) = tasks.join_next() => self.end(done),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Starts what can be started; says when to look again.
    fn begin(&mut self, snapshot: &Demands, tasks: &mut JoinSet<Done>) -> Instant {
        let now = Instant::now();
        let mut wake = now + AGAIN;
        let demanded: BTreeSet<&str> = snapshot.nodes.iter().map(|demand| &*demand.node.name).collect();
        for (node, _) in self.states.extract_if(|node, state| !state.in_flight && !demanded.contains(&**node)) {
            self.metrics.needed(&node, 0);
        }
        if snapshot.nodes.iter().any(NodeDemand::lacks_cidrs) {
            self.cidrs.set_ledgers(&snapshot.used_cidrs);
        }
        for demand in &snapshot.nodes {
            if tasks.len() >= CONCURRENT || !self.tenure.holds() {
                return wake;
            }
            let state = self.states.entry(Arc::clone(&demand.node.name)).or_insert_with(|| State::new(now));
            if state.in_flight {
                continue;
            }
            if state.not_before > now {
                wake = wake.min(state.not_before);
                continue;
            }
            let ledger = state.known.newest(demand.ledger.as_ref());
            self.write(demand, ledger, tasks);
        }
        let (due, next) = self.orphans.due(&snapshot.orphans, now);
        wake = next.map_or(wake, |next| wake.min(next));
        for orphan in due {
            if tasks.len() < CONCURRENT && self.tenure.holds() {
                self.remove(orphan, tasks, now);
            }
        }
        wake
    }

    fn write(&mut self, demand: &NodeDemand, ledger: Option<Arc<CiliumNode>>, tasks: &mut JoinSet<Done>) {
        let node = Arc::clone(&demand.node.name);
        let old = ledger.as_deref().cloned().unwrap_or_else(|| empty(&demand.node));
        let mut cidrs = Vec::new();
        for (missing, v6) in [(demand.cidrs.v4, false), (demand.cidrs.v6, true)] {
            if missing && !old.pod_cidrs.iter().any(|cidr| cidr.addr().is_ipv6() == v6) {
                match self.cidrs.choose(v6, &node) {
                    Some(cidr) => cidrs.push(cidr),
                    None => self.no_cidr(&node, v6),
                }
            }
        }
        if let Some(multi) = &demand.multi {
            let growth = self.cidrs.grow(multi, &old, demand.node.max_pods);
            cidrs.extend(growth.cidrs);
            self.say_exhausted(&node, &growth.exhausted);
        }
        let plan = plan(&old, demand, &cidrs, &mut self.rotation);
        self.say_short(&node, &plan);
        let ledgers = Arc::clone(&self.ledgers);
        let request = match &ledger {
            None => Request::Create(Box::new(write::creation(&plan.ledger))),
            Some(old) => match write::patch(old, &plan.ledger) {
                Some(patch) => Request::Patch(patch),
                // The snapshot is older than what was written.
                None => return,
            },
        };
        if let Some(state) = self.states.get_mut(&node) {
            state.in_flight = true;
        }
        tasks.spawn(async move {
            let version = ledger.map(|ledger| Arc::clone(&ledger.resource_version)).unwrap_or_default();
            let known = send(&*ledgers, &node, request, &plan, version).await;
            Done { node, plan: Some(plan), known }
        });
    }

    fn remove(&mut self, orphan: &Arc<CiliumNode>, tasks: &mut JoinSet<Done>, now: Instant) {
        let node = Arc::clone(&orphan.name);
        let state = self.states.entry(Arc::clone(&node)).or_insert_with(|| State::new(now));
        let gone = matches!(&state.known, Known::Absent(version) if *version == orphan.resource_version);
        if state.in_flight || state.not_before > now || gone {
            return;
        }
        state.in_flight = true;
        let (ledgers, orphan) = (Arc::clone(&self.ledgers), Arc::clone(orphan));
        tasks.spawn(async move {
            let known = ledgers.delete(&orphan).await.map(|deleted| {
                info!(node = &*orphan.name, deleted, "the ledger of a Node that is gone");
                Known::Absent(Arc::clone(&orphan.resource_version))
            });
            Done { node, plan: None, known }
        });
    }

    fn end(&mut self, done: Done) {
        let now = Instant::now();
        let state = self.states.entry(Arc::clone(&done.node)).or_insert_with(|| State::new(now));
        state.in_flight = false;
        match done.known {
            Ok(known) => {
                state.failures = 0;
                let written = matches!((&known, &done.plan), (Known::Ledger(ledger), Some(plan)) if ledger.pool == plan.ledger.pool);
                state.known = known;
                match done.plan {
                    Some(plan) if written => self.written(&done.node, &plan),
                    Some(_) => {
                        debug!(node = &*done.node, "the ledger had changed; planned anew");
                        self.metrics.conflicts.inc();
                    }
                    None => self.rotation.forget(&done.node),
                }
            }
            Err(error) => {
                warn!(node = &*done.node, %error, "the ledger cannot be written");
                self.metrics.failed.inc();
                state.not_before = now + RETRY.0.saturating_mul(1 << state.failures.min(10)).min(RETRY.1);
                state.failures += 1;
            }
        }
    }

    fn written(&mut self, node: &Arc<str>, plan: &Plan) {
        debug!(node = &**node, assigned = plan.assigned, freed = plan.freed.len(), "ledger written");
        self.metrics.assigned.inc_by(plan.assigned);
        self.metrics.released.inc_by(plan.freed.len() as u64);
        self.metrics.used(node, plan.ledger.pool.len());
        for address in &plan.freed {
            self.rotation.freed(node, *address);
        }
    }

    fn say_short(&self, node: &Arc<str>, plan: &Plan) {
        self.metrics.needed(node, plan.short.len());
        for shortage in &plan.short {
            let pod = ObjectKey::namespaced(Kind::Pod, &shortage.pod);
            self.notices.warn(pod, SHORT, shortage.message.clone());
        }
        if let Some(first) = plan.short.first() {
            self.notices.warn(ObjectKey::cluster(Kind::CiliumNode, node), SHORT, first.message.clone());
        }
    }

    fn say_exhausted(&self, node: &Arc<str>, exhausted: &[(Arc<str>, bool)]) {
        for (pool, v6) in exhausted {
            let family = if *v6 { "ipv6" } else { "ipv4" };
            let message = format!(
                "CiliumPodIPPool {pool} has nothing left for node {node}; add a CIDR to its spec.{family}.cidrs"
            );
            self.notices.warn(ObjectKey::cluster(Kind::CiliumPodIPPool, pool), SHORT, message.clone());
            self.notices.warn(ObjectKey::cluster(Kind::Node, node), SHORT, message);
        }
    }

    fn no_cidr(&self, node: &Arc<str>, v6: bool) {
        let key = if v6 { "clusterPoolIPv6PodCIDRList" } else { "clusterPoolIPv4PodCIDRList" };
        let message = format!(
            "no pod CIDR is left for node {node} in {}; add one to ipam.operator.{key} or remove nodes",
            self.cidrs.pools(v6)
        );
        self.notices.warn(ObjectKey::cluster(Kind::Node, node), SHORT, message);
    }
}

impl State {
    fn new(now: Instant) -> Self {
        Self { in_flight: false, known: Known::Nothing, failures: 0, not_before: now }
    }
}

impl Known {
    /// The newer of what is known and what the snapshot has.
    fn newest(&self, snapshot: Option<&Arc<CiliumNode>>) -> Option<Arc<CiliumNode>> {
        match (self, snapshot) {
            (Self::Absent(version), Some(ledger)) if ledger.resource_version == *version => None,
            (Self::Nothing | Self::Absent(_), snapshot) => snapshot.cloned(),
            (Self::Ledger(known), Some(ledger)) if newer(ledger, known) => Some(Arc::clone(ledger)),
            (Self::Ledger(known), _) => Some(Arc::clone(known)),
        }
    }
}

/// Versions of one object can be compared as numbers; if they are none, the snapshot is believed and the API server decides.
fn newer(ledger: &CiliumNode, than: &CiliumNode) -> bool {
    let number = |version: &str| version.parse::<u64>().ok();
    match (number(&ledger.resource_version), number(&than.resource_version)) {
        (Some(a), Some(b)) => a >= b,
        _ => true,
    }
}

enum Request {
    Create(Box<axoneme_crds::v2::CiliumNode>),
    Patch(serde_json::Value),
}

/// Writes; after a conflict says what there is instead.
async fn send<L: Ledgers>(
    ledgers: &L,
    node: &Arc<str>,
    request: Request,
    plan: &Plan,
    old_version: Arc<str>,
) -> Result<Known, kube::Error> {
    let version = match request {
        Request::Create(ledger) => ledgers.create(*ledger).await?,
        Request::Patch(patch) => ledgers.patch(node, patch).await?,
    };
    if let Some(resource_version) = version {
        return Ok(Known::Ledger(Arc::new(CiliumNode { resource_version, ..plan.ledger.clone() })));
    }
    let found = ledgers.get(node).await?;
    Ok(found.map_or(Known::Absent(old_version), |ledger| Known::Ledger(Arc::new(ledger))))
}
