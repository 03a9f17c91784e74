//! The engine without its task: inputs in, rows, demands and reports out; time is given.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axoneme_proto::nodesync::{RowFailure, Table};
use axoneme_proto::tables;
use tracing::info;

use super::barrier::{self, Barriers, Published};
use super::demands::Demands;
use super::input::{Input, SessionEvent};
use super::ledger::{self, LedgerView};
use super::policies::Policies;
use super::pools::PreAllocation;
use super::publication::Publication;
use super::release::{Released, Releases};
use super::reports::{Report, Reporter};
use crate::compile::policy::{Emergency, Owners};
use crate::compile::{cluster, endpoint, node, scopes, service};
use crate::config::IpamMode;
use crate::explain::Known;
use crate::identity::Reserved;
use crate::index::{Dirty, Index};
use crate::object::{Kind, Name, Versions};
use crate::publish::acks::Acks;
use crate::publish::journal::{Batch, Committed, Journal};
use crate::table::{EncodedRow, RowId};

/// What of the configuration the engine needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The settings row.
    pub settings: tables::Settings,
    /// Who gives pods their addresses.
    pub ipam: IpamMode,
    /// The ConfigMap `ip-masq-agent` counts.
    pub masquerade_agent: bool,
    /// Pods' limits of bandwidth count.
    pub bandwidth: bool,
    /// How long an identity without pods is kept.
    pub identity_grace: Duration,
    /// Label sets whose numbers are fixed.
    pub reserved: Arc<[Reserved]>,
    /// Addresses that nodes keep ready, in mode multi-pool.
    pub pre_allocation: Arc<PreAllocation>,
    /// Whose addresses CIDRs in Cilium's policies mean.
    pub cidrs_of: Owners,
    /// What stays open where policies of nodes hold; none: they do not.
    pub host_firewall: Option<Emergency>,
    /// How many removed rows are remembered for nodes that lag.
    pub tombstones: usize,
}

impl Config {
    /// A configuration with the usual bounds.
    #[must_use]
    pub fn new(settings: tables::Settings) -> Self {
        Self {
            settings,
            ipam: IpamMode::ClusterPool,
            masquerade_agent: false,
            bandwidth: false,
            identity_grace: Duration::from_secs(30 * 60),
            reserved: [].into(),
            pre_allocation: Arc::default(),
            cidrs_of: Owners::World,
            host_firewall: None,
            tombstones: 100_000,
        }
    }
}

/// The engine's state.
#[derive(Debug)]
pub struct Core {
    config: Config,
    index: Index,
    synced: BTreeSet<Kind>,
    /// The newest objects that were taken in, and what is as good as taken in.
    seen: Versions,
    listed: Versions,
    complete: bool,
    acks: Acks,
    /// Where each pod's rows were published: they move with identity and node.
    published: HashMap<Name, [Option<RowId>; 2]>,
    policies: Policies,
    barriers: Barriers,
    publication: Publication,
    ledgers: BTreeMap<Arc<str>, LedgerView>,
    releases: Releases,
    released: Released,
    reporter: Reporter,
    demands: Arc<Demands>,
    failures: Vec<Report>,
    demands_stale: bool,
}

/// What a commit has changed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// New demands.
    pub demands: Option<Arc<Demands>>,
    /// New reports.
    pub reports: Vec<Report>,
    /// What nodes are to be told of their pods.
    pub barriers: barrier::News,
    /// How long pods that have rows now waited for them since they were bound.
    pub published: Vec<Duration>,
}

impl Core {
    /// An engine that knows nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let index = Index::new(crate::index::Config {
            cluster: config.settings.cluster_name.as_str().into(),
            families: super::Families { v4: config.settings.ipv4, v6: config.settings.ipv6 },
            ipam: config.ipam,
            reserved: Arc::clone(&config.reserved),
            pre_allocation: Arc::clone(&config.pre_allocation),
            cidrs_of: config.cidrs_of,
            host_firewall: config.host_firewall.clone(),
        });
        Self {
            config,
            index,
            synced: BTreeSet::new(),
            seen: Versions::default(),
            listed: Versions::default(),
            complete: false,
            acks: Acks::default(),
            published: HashMap::new(),
            policies: Policies::default(),
            barriers: Barriers::default(),
            publication: Publication::default(),
            ledgers: BTreeMap::new(),
            releases: Releases::default(),
            released: Released::default(),
            reporter: Reporter::default(),
            demands: Arc::default(),
            failures: Vec::new(),
            demands_stale: false,
        }
    }

    /// Takes in one input. Nothing leaves before [`Core::commit`].
    pub fn apply(&mut self, input: Input, now: Instant) {
        match input {
            Input::Upsert(object) => self.index.upsert(object),
            Input::Delete(key) => self.index.delete(&key),
            Input::Synced(kind) => drop(self.synced.insert(kind)),
            Input::Seen(kind, version) => self.seen.raise(kind, version),
            Input::Listed(kind, version) => self.listed.raise(kind, version),
            Input::Observed { node, event } => self.index.observe(&node, &event),
            Input::Session { node, session, event } => {
                self.acks.event(&node, session, &event, now);
                match event {
                    SessionEvent::Opened { newest, .. } => self.barriers.session(&node, newest),
                    SessionEvent::Acked(_) => self.barriers.acked(&node, &self.acks, now),
                    SessionEvent::Closed => {}
                }
                if let SessionEvent::Acked(ack) = event
                    && !ack.failures.is_empty()
                {
                    let failures = ack.failures.into_iter().flat_map(|failure| self.causes(failure)).collect();
                    self.failures.push(Report::Failures(node, failures));
                }
            }
        }
    }

    /// Whether all inputs are complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// How new the inputs are, once they are committed.
    #[must_use]
    pub fn inputs(&self) -> Versions {
        self.seen.max(&self.listed)
    }

    /// The joined inputs.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Progress of nodes.
    #[must_use]
    pub fn acks(&self) -> &Acks {
        &self.acks
    }

    /// What explanations are made of; `journal` is the one that rows are published in.
    #[must_use]
    pub fn known<'a>(&'a self, journal: &'a Journal) -> Known<'a> {
        Known {
            index: &self.index,
            mode: self.config.settings.policy_mode(),
            journal,
            acks: &self.acks,
            published: &self.published,
        }
    }

    /// Compiles what the inputs since the last commit can have touched. The rows are ready when the journal is asked for, so
    /// `publish` should lock it for that moment only.
    pub fn commit(&mut self, now: Instant, publish: impl FnOnce(Batch) -> Committed) -> Outcome {
        let mut outcome = self.commit_rows(now, publish);
        outcome.barriers = self.barriers.take_news();
        outcome.published = self.publication.take();
        outcome
    }

    fn commit_rows(&mut self, now: Instant, publish: impl FnOnce(Batch) -> Committed) -> Outcome {
        let mut outcome = Outcome { reports: std::mem::take(&mut self.failures), ..Outcome::default() };
        let first = !self.complete && Kind::ALL.iter().all(|kind| self.synced.contains(kind));
        self.complete |= first;
        if !self.complete {
            return outcome;
        }
        let mut dirty = self.index.take_dirty();
        if dirty.is_empty() && !first {
            self.renew_demands(&mut outcome);
            return outcome;
        }
        let mut batch = Batch { inputs: self.seen, ..Batch::default() };
        if first || dirty.settings {
            let agent = self.config.masquerade_agent;
            let (id, row) = cluster::settings(&self.config.settings, &self.index, agent);
            batch.rows.insert(id, Some(row));
            dirty.node_settings.extend(self.index.nodes_with_configs().map(|node| Arc::clone(&node.name)));
        }
        self.compile(&mut dirty, &mut batch, now);
        let committed = publish(batch);
        for pod in barrier::published(&self.index, &committed.pods) {
            self.say(&pod);
            self.barriers.published(pod, &self.acks, now);
        }
        self.report(&dirty, &mut outcome);
        if first {
            outcome.reports.push(Report::Complete);
        }
        self.settle(&dirty, committed.revision, now);
        self.demands_stale |= first || !dirty.ledgers.is_empty() || !dirty.usage.is_empty() || !dirty.pods.is_empty();
        self.renew_demands(&mut outcome);
        outcome
    }

    /// Time has passed: what waited for acks or for silence may be free now. Gives back the revision that every session has to
    /// come to.
    pub fn tick(&mut self, now: Instant) -> (Outcome, u64) {
        let mut outcome = Outcome::default();
        if self.complete {
            let released = self.releases.evaluate(&self.index, &self.acks, self.config.identity_grace, now);
            if released != self.released {
                self.released = released;
                self.demands_stale = true;
            }
            self.renew_demands(&mut outcome);
            self.barriers.tick(&self.acks, now);
            outcome.barriers = self.barriers.take_news();
        }
        (outcome, self.releases.barrier())
    }

    fn compile(&mut self, dirty: &mut Dirty, batch: &mut Batch, now: Instant) {
        self.policies.compile(&self.index, self.config.settings.policy_mode(), dirty, batch);
        let index = &self.index;
        let options = endpoint::Options { bandwidth: self.config.bandwidth, excepted: self.policies.excepted() };
        for pod in &dirty.pods {
            let rows = endpoint::rows(index, pod, options);
            let ids = [0, 1].map(|i| rows.get(i).and_then(Option::as_ref).map(|(id, _)| id.clone()));
            let waits = index.pod(pod).is_some_and(|e| e.set.is_some() && e.pod.node.is_some() && !index.is_started(e));
            self.publication.compiled(pod, ids.iter().any(Option::is_some), waits, now);
            let old = match ids.iter().any(Option::is_some) {
                true => self.published.insert(pod.clone(), ids),
                false => self.published.remove(pod),
            };
            // Another pod may be about to publish under the id that this one leaves.
            for id in old.into_iter().flatten().flatten() {
                batch.rows.entry(id).or_insert(None);
            }
            batch.rows.extend(rows.into_iter().flatten().map(|(id, row)| (id, Some(row))));
        }
        for (id, _) in batch.rows.iter().filter(|(id, row)| id.table == Table::Endpoint && row.is_none()) {
            self.barriers.forget(&id.key);
        }
        let mut put = |id: RowId, row: Option<(RowId, EncodedRow)>| batch.rows.insert(id, row.map(|(_, row)| row));
        for name in &dirty.nodes {
            put(cluster::node_id(name), cluster::node(index, name));
            put(node::pool_id(name), node::pool(index, name));
        }
        for name in &dirty.node_settings {
            let Config { settings, masquerade_agent, .. } = &self.config;
            put(cluster::node_settings_id(name), cluster::node_settings(settings, index, *masquerade_agent, name));
        }
        for (name, namespace) in &dirty.namespaces {
            put(node::namespace_id(name, namespace), node::namespace(index, name, namespace));
        }
        for name in &dirty.services {
            put(service::service_id(name), service::service(index, name));
        }
        for name in &dirty.slices {
            put(service::backends_id(name), service::backends(index, name));
        }
        for name in &dirty.scopes {
            let grant = scopes::scopes(index, name, |identities| self.policies.listed_on(name, identities));
            match &grant {
                Some(_) => self.acks.expect(name, now),
                None => self.acks.forget(name),
            }
            self.barriers.grant(name, grant.as_ref(), now);
            batch.grants.insert(Arc::clone(name), grant);
        }
    }

    /// By what a person follows one pod: its node's daemon names the same pod, identity and revision.
    fn say(&self, published: &Published) {
        let Published { key, endpoint: Some((node, revision)), peers: Some((identity, _)), started: false } = published
        else {
            return;
        };
        let Some(entry) = self.index.holder(key) else { return };
        let Name { namespace, name: pod } = &entry.pod.name;
        info!(%namespace, %pod, %node, identity, revision, "pod published: its node and its peers are told");
    }

    fn report(&mut self, dirty: &Dirty, outcome: &mut Outcome) {
        for pod in dirty.pods.union(&dirty.reports) {
            outcome.reports.extend(self.reporter.endpoint(&self.index, self.policies.of_pods(), pod));
        }
        for policy in &dirty.policies {
            outcome.reports.extend(self.reporter.policy(&self.index, policy).into_iter().flatten());
        }
        for service in &dirty.services {
            outcome.reports.extend(self.reporter.service(&self.index, service));
        }
        for pool in &dirty.pools {
            outcome.reports.extend(self.reporter.pool(&self.index, pool));
        }
    }

    /// Notes what the ledgers lack and what came out of use.
    fn settle(&mut self, dirty: &Dirty, revision: u64, now: Instant) {
        for name in &dirty.ledgers {
            let view = ledger::view(&self.index, name);
            self.releases.set_entries(name, view.unowned.iter(), revision, now);
            let orphan = self.index.ledger(name).is_some() && self.index.node(name).is_none();
            self.releases.set_orphan(name, orphan, revision, now);
            if view == LedgerView::default() {
                self.ledgers.remove(name);
            } else {
                self.ledgers.insert(Arc::clone(name), view);
            }
        }
        for identity in &dirty.usage {
            let idle = self.index.identity(*identity).is_some() && !self.index.has_pods(*identity);
            self.releases.set_identity(*identity, idle, revision, now);
        }
        self.releases.withdraw(&mut self.released);
    }

    fn renew_demands(&mut self, outcome: &mut Outcome) {
        if !std::mem::take(&mut self.demands_stale) {
            return;
        }
        let demands = Demands::of(&self.index, &self.ledgers, &self.released);
        if demands != *self.demands {
            self.demands = Arc::new(demands);
            outcome.demands = Some(Arc::clone(&self.demands));
        }
    }

    /// The objects to which a row's failure belongs.
    fn causes(&self, failure: RowFailure) -> Vec<(Option<crate::object::ObjectKey>, RowFailure)> {
        let causes = super::reports::causes(&self.index, &failure);
        if causes.is_empty() {
            return vec![(None, failure)];
        }
        causes.into_iter().map(|cause| (Some(cause), failure.clone())).collect()
    }
}
