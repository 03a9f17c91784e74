//! Reads a story and tells it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use axoneme_bpf::address::{Address, AddressKey};
use axoneme_node::desired::checkpoint::{Checkpoint, PolicyIndex};
use axoneme_node::desired::pods::PodRef;
use axoneme_node::desired::{Change, Desired};
use axoneme_node::reconcile::ops::{AttachedEndpoint, Enforcement, MapOps, UplinkAddresses};
use axoneme_node::reconcile::{Engine, Status};
use axoneme_proto::nodesync::RowKey;
use serde::Deserialize;
use tokio::time::{Instant, advance};

use super::dump::dump;
use super::kernel::Machine;
use super::rows::RowYaml;

pub const NODE: &str = "n1";
/// Seeds of the faults; 0 stands for none.
const SEEDS: [u64; 5] = [0, 1, 2, 3, 4];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Story {
    /// What this is about.
    #[allow(dead_code)]
    about: String,
    /// How many policy rules the kernel has room for.
    #[serde(default = "many")]
    rules: u32,
    /// What is left of an earlier kernel user: addresses of pods.
    #[serde(default)]
    leftovers: Vec<IpAddr>,
    #[serde(with = "serde_yaml::with::singleton_map_recursive")]
    steps: Vec<Step>,
}

fn many() -> u32 {
    4096
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Step {
    /// The operator commits a delta.
    Commit(Commit),
    /// CNI ADD of a pod: it must be granted this identity.
    Attach { uid: String },
    /// CNI ADD that cannot be granted, and why.
    Refuse { uid: String, because: String },
    /// CNI DEL.
    Detach { uid: String },
    /// The daemon starts anew, with its checkpoint or without.
    Restart { checkpoint: bool },
    /// Addresses of the host become these.
    Host(Vec<IpAddr>),
    /// What is sent from by uplinks becomes this.
    Uplinks(BTreeMap<u32, Vec<IpAddr>>),
    /// Somebody does something to the host's devices, addresses or routes.
    Stir,
    /// A sysctl cannot be set.
    RefuseSysctl(Vec<String>),
    /// Somebody else removes an address from the kernel.
    Tamper(IpAddr),
    /// So long.
    Wait { seconds: u64 },
    /// What the maps hold when nothing is left to do. Sections that are not named are not looked at.
    Expect(BTreeMap<String, Vec<String>>),
    /// The kernel was not written since the last step of this kind or the last restart, or this often.
    Writes(usize),
    /// No entry of this map was deleted since the last step of the kind above, not even for a moment.
    Kept(String),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Commit {
    snapshots: Vec<String>,
    upsert: Vec<RowYaml>,
    /// "scope table-number key".
    remove: Vec<String>,
    drop: Vec<String>,
    /// The operator's inputs are not complete yet.
    incomplete: bool,
    /// Another operator's journal.
    epoch: u8,
}

/// Tells a story with and without faults.
pub async fn tell(text: &str) {
    for seed in SEEDS {
        let story: Story = serde_yaml::from_str(text).unwrap();
        Teller::new(&story, seed).tell(story.steps).await;
    }
}

struct Teller {
    machine: Machine,
    engine: Engine,
    checkpoint: Checkpoint,
    revision: u64,
    seed: u64,
    percent: u64,
    _folder: tempfile::TempDir,
}

impl Teller {
    fn new(story: &Story, seed: u64) -> Self {
        let machine = Machine::new(story.rules);
        let percent = if seed == 0 { 0 } else { 10 };
        for &address in &story.leftovers {
            let row = Address::pod(9, "192.168.0.99".parse().unwrap());
            machine.addresses.clone().update(&AddressKey::from(address), &row).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(folder.path().join("checkpoint"));
        let kernel = machine.kernel(seed * 1000, percent);
        let engine = Engine::new(Desired::new(NODE), BTreeMap::new(), kernel, Instant::now());
        Self { machine, engine, checkpoint, revision: 0, seed, percent, _folder: folder }
    }

    async fn tell(mut self, steps: Vec<Step>) {
        for (number, step) in steps.into_iter().enumerate() {
            let place = format!("step {} with seed {}", number + 1, self.seed);
            match step {
                Step::Commit(commit) => self.commit(commit),
                Step::Attach { uid } => self.attach(uid, &place).await,
                Step::Refuse { uid, because } => {
                    self.settle().await;
                    let answer = self.engine.grant(&pod(&uid), true, Instant::now());
                    let said = answer.as_ref().map_or_else(ToString::to_string, |_| "nothing".into());
                    // The last try may have failed by a fault, before it came to what is wrong.
                    let faulty = self.percent > 0 && said.contains("Device or resource busy");
                    assert!(said.contains(&because) || faulty, "{place}: {said}");
                }
                Step::Detach { uid } => {
                    let mut pods = self.machine.pods.0.lock().unwrap();
                    let gone = pods.iter().position(|pod| pod.pod_uid == uid).unwrap();
                    let gone = pods.remove(gone);
                    drop(pods);
                    for &address in &gone.addresses {
                        self.machine.addresses.clone().delete(&AddressKey::from(address)).unwrap();
                    }
                    self.engine.detached(&uid, &gone.addresses);
                }
                Step::Restart { checkpoint } => self.restart(checkpoint).await,
                Step::Host(addresses) => *self.machine.host_addresses.lock().unwrap() = addresses,
                Step::Uplinks(uplinks) => {
                    let addresses = |(device, addresses)| UplinkAddresses { device, addresses };
                    *self.machine.sources.lock().unwrap() = uplinks.into_iter().map(addresses).collect();
                    self.engine.devices_changed();
                }
                Step::Stir => self.engine.devices_changed(),
                Step::RefuseSysctl(refused) => *self.machine.refused.lock().unwrap() = refused,
                Step::Tamper(address) => self.machine.addresses.clone().delete(&AddressKey::from(address)).unwrap(),
                Step::Wait { seconds } => {
                    self.settle().await;
                    advance(Duration::from_secs(seconds)).await;
                }
                Step::Expect(mut sections) => {
                    sections.values_mut().for_each(|lines| lines.sort());
                    let found = self.find(&sections).await;
                    for (section, lines) in sections {
                        assert_eq!(found[section.as_str()], lines, "{section} at {place}");
                    }
                }
                Step::Kept(map) => {
                    self.settle().await;
                    let deleted = format!("{map} -");
                    let writes = self.machine.writes.lock().unwrap();
                    assert!(!writes.iter().any(|write| write.starts_with(&deleted)), "{place}: {writes:#?}");
                }
                Step::Writes(count) => {
                    self.settle().await;
                    let writes = std::mem::take(&mut *self.machine.writes.lock().unwrap());
                    // With faults, an entry may have been written more than once.
                    assert!(writes.len() == count || (self.percent > 0 && count > 0), "{place}: {writes:#?}");
                }
            }
        }
    }

    /// What there is when nothing is left to do. Of what fails for good, the last try may have failed by a fault: then it is tried
    /// again.
    async fn find(&mut self, wanted: &BTreeMap<String, Vec<String>>) -> BTreeMap<&'static str, Vec<String>> {
        let mut tries = if self.percent > 0 { 20 } else { 1 };
        loop {
            self.settle().await;
            let found = dump(&self.machine, &self.engine);
            tries -= 1;
            if tries == 0 || wanted.iter().all(|(section, lines)| found[section.as_str()] == *lines) {
                return found;
            }
            self.engine.devices_changed();
        }
    }

    fn commit(&mut self, commit: Commit) {
        let from = self.revision;
        let mut upserts = Vec::new();
        for row in commit.upsert {
            self.revision += 1;
            let row = row.row(NODE, self.revision);
            upserts.push(row);
        }
        let removals = commit.remove.iter().map(|text| {
            let words: Vec<&str> = text.splitn(3, ' ').collect();
            let [scope, table, key] = words[..] else { panic!("removal {text:?}") };
            RowKey { scope: scope.into(), table: table.parse().unwrap(), key: key.into() }
        });
        let removals = removals.collect();
        self.revision += 1;
        self.engine.commit(Change {
            epoch: vec![commit.epoch],
            from_revision: from,
            to_revision: self.revision,
            snapshots: commit.snapshots,
            upserts,
            removals,
            dropped_scopes: commit.drop,
            inputs_complete: !commit.incomplete,
            ..Change::default()
        });
        let status = self.engine.status();
        assert_eq!(status.received, self.revision);
    }

    async fn attach(&mut self, uid: String, place: &str) {
        self.settle().await;
        let spec = self.engine.grant(&pod(&uid), true, Instant::now()).unwrap_or_else(|err| panic!("{place}: {err}"));
        let mut pods = self.machine.pods.0.lock().unwrap();
        let ifindex = 100 + u32::try_from(pods.len()).unwrap();
        for &address in &spec.addresses {
            self.machine.addresses.clone().update(&AddressKey::from(address), &Address::endpoint(ifindex)).unwrap();
        }
        pods.push(AttachedEndpoint {
            pod_uid: uid.clone(),
            namespace: "ns".into(),
            name: uid.clone(),
            enforcement: Enforcement { identity: spec.identity, policy_index: spec.policy_index, limits: spec.limits },
            addresses: spec.addresses,
            from_reserve: false,
        });
        drop(pods);
        self.engine.attached(&uid, spec.identity);
    }

    async fn restart(&mut self, with_checkpoint: bool) {
        self.settle().await;
        let indexes = self.engine.indexes();
        let saved = indexes.iter().map(|(&identity, &index)| PolicyIndex { identity, index }).collect();
        let (mut desired, mut ids) = (Desired::new(NODE), BTreeMap::new());
        if with_checkpoint {
            self.checkpoint.write(self.engine.desired(), Vec::new(), saved).unwrap().finish().unwrap();
            let (restored, header) = self.checkpoint.read(NODE).unwrap().unwrap();
            assert_eq!(restored.store().held(), self.engine.desired().store().held());
            desired = restored;
            ids = header.policies.iter().map(|one| (one.identity, one.index)).collect();
        }
        self.seed += 100;
        self.machine.writes.lock().unwrap().clear();
        let kernel = self.machine.kernel(self.seed * 1000, self.percent);
        self.engine = Engine::new(desired, ids, kernel, Instant::now());
    }

    async fn settle(&mut self) {
        settle(&mut self.engine).await;
    }
}

/// Works until nothing is due for longer than any retry waits, or what fails has failed for good.
pub async fn settle(engine: &mut Engine) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(290) {
        let due = engine.next_due(Instant::now());
        if due.duration_since(Instant::now()) > Duration::from_secs(31) {
            return;
        }
        advance(due.saturating_duration_since(Instant::now())).await;
        engine.round(Instant::now()).await;
        let Status { received, attempted, retry_low_watermark, .. } = engine.status();
        assert!(attempted <= received && retry_low_watermark <= received, "what is acknowledged was sent");
    }
}

fn pod(uid: &str) -> PodRef {
    PodRef { uid: uid.into(), namespace: "ns".into(), name: uid.into(), chained: false }
}
