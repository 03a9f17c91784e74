//! A node: desired state, reconcilers and checkpoint as the daemon has them, over a kernel in memory that fails one operation of
//! ten; and the session, again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axoneme_bpf::address::AddressKey;
use axoneme_node::desired::Desired;
use axoneme_node::desired::checkpoint::Checkpoint;
use axoneme_node::reconcile::metrics::Metrics;
use axoneme_node::reconcile::state::Held;
use axoneme_node::reconcile::{Engine, State, Task, state};
use axoneme_node::sync::credentials::Credentials;
use axoneme_node::sync::session::{self, Me, Observer, SessionError};
use axoneme_proto::nodesync::Welcome;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::kernel::Machine;
use crate::link::{Link, Weather};
use crate::replica::{Records, Replica};
use crate::rng::Rng;
use crate::world::{LISTED, STABLE_SERVICE};

/// How long the daemon leaves the kernel alone when its checkpoint may be old.
const HOLD: Duration = Duration::from_secs(2);

/// What all nodes have in common.
pub struct Around {
    pub replicas: Mutex<Vec<Arc<Replica>>>,
    pub records: Arc<Records>,
    pub weather: Arc<Weather>,
    /// What must not have been: the first thing is enough.
    pub wrong: Mutex<Option<String>>,
    pub counts: Counts,
}

#[derive(Default)]
pub struct Counts {
    pub commits: AtomicU64,
    /// Sessions that the node or the operator ended because something did not fit.
    pub refused: AtomicU64,
}

impl Around {
    pub fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().get_or_insert(what);
    }
}

pub struct Node {
    pub name: &'static str,
    pub machine: Machine,
    around: Arc<Around>,
    folder: TempDir,
    rng: Rng,
    starts: u64,
    running: Option<(State, Vec<AbortHandle>)>,
}

impl Node {
    pub fn new(name: &'static str, around: &Arc<Around>, rng: Rng) -> Self {
        // Memory, where there is some: what is to be survived is the process, not the machine.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let machine = Machine::new(4096);
        Self { name, machine, around: Arc::clone(around), folder: folder.unwrap(), rng, starts: 0, running: None }
    }

    pub fn state(&self) -> &State {
        &self.running.as_ref().unwrap().0
    }

    /// The daemon's process starts, or ends at whatever it is and starts anew.
    pub fn start(&mut self) {
        self.stop();
        self.starts += 1;
        let checkpoint = Checkpoint::new(self.folder.path().join("checkpoint"));
        let restored = checkpoint.read(self.name).unwrap();
        let (desired, indexes) = match restored {
            Some((desired, header)) => (desired, header.policies.iter().map(|one| (one.identity, one.index)).collect()),
            None => (Desired::new(self.name), BTreeMap::new()),
        };
        let older = desired.cursor().is_some_and(|cursor| !checkpoint.is_newest(cursor));
        let hold = older.then(|| Instant::now() + HOLD);
        let (state, inbox) = state::channel();
        let kernel = self.machine.kernel(self.rng.below(1 << 40), 10);
        let engine = Engine::new(desired, indexes, kernel, Instant::now());
        let task = Task::new(inbox, engine, Some(checkpoint), Vec::new(), hold, Metrics::default());
        let committed = Arc::new(Notify::new());
        let sessions = Sessions {
            node: self.name,
            around: Arc::clone(&self.around),
            state: state.clone(),
            credentials: Credentials::load(self.folder.path()).unwrap(),
            committed: Arc::clone(&committed),
            rng: self.rng.part(),
        };
        let watch = Watch {
            node: self.name,
            machine: self.machine.clone(),
            around: Arc::clone(&self.around),
            state: state.clone(),
        };
        let tasks = vec![
            tokio::spawn(task.run()).abort_handle(),
            tokio::spawn(sessions.run()).abort_handle(),
            tokio::spawn(watch.run(committed)).abort_handle(),
        ];
        self.running = Some((state, tasks));
    }

    /// The process is gone.
    pub fn stop(&mut self) {
        if let Some((_, tasks)) = self.running.take() {
            tasks.iter().for_each(AbortHandle::abort);
        }
    }

    /// The disk is gone, too.
    pub fn lose_disk(&mut self) {
        self.stop();
        let _ = std::fs::remove_file(self.folder.path().join("checkpoint"));
    }
}

/// One session after the other.
struct Sessions {
    node: &'static str,
    around: Arc<Around>,
    state: State,
    credentials: Credentials,
    committed: Arc<Notify>,
    rng: Rng,
}

impl Sessions {
    async fn run(mut self) {
        let me = Me { node: self.node.into(), version: "1".into(), boot_id: "boot".into() };
        loop {
            let replica = {
                let replicas = self.around.replicas.lock().unwrap();
                Arc::clone(self.rng.pick(&replicas))
            };
            let weather = Arc::clone(&self.around.weather);
            let link = Link { node: self.node, replica, weather, rng: self.rng.part() };
            let mut seen = Seen { state: self.state.clone(), committed: Arc::clone(&self.committed) };
            let ended = session::run(link, &me, &self.state, &mut self.credentials, &mut seen).await;
            self.state.connected(false);
            match ended {
                SessionError::Stopped(_) => {
                    return self.around.wrong(format!("the task of {} has ended", self.node));
                }
                SessionError::Delta(_) | SessionError::Protocol(_) => {
                    self.around.counts.refused.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
            sleep(self.rng.millis(50, 1_500)).await;
        }
    }
}

struct Seen {
    state: State,
    committed: Arc<Notify>,
}

impl Observer for Seen {
    fn welcomed(&mut self, _welcome: &Welcome) {
        self.state.connected(true);
    }

    fn operators(&mut self, addresses: Vec<String>) {
        self.state.operators(addresses);
    }

    fn committed(&mut self) {
        self.committed.notify_one();
    }
}

/// Looks at a node after every commit, and now and then.
struct Watch {
    node: &'static str,
    machine: Machine,
    around: Arc<Around>,
    state: State,
}

impl Watch {
    async fn run(self, committed: Arc<Notify>) {
        let (mut there, mut steps) = (BTreeSet::new(), 0);
        loop {
            tokio::select! {
                biased;
                () = committed.notified() => {
                    self.around.counts.commits.fetch_add(1, Ordering::Relaxed);
                }
                () = sleep(Duration::from_millis(70)) => {}
            }
            let Ok(held) = self.state.held().await else { return };
            // Who serves notes a revision a moment after it is made.
            sleep(Duration::from_millis(10)).await;
            let checked = self.is_of_one_revision(&held).and_then(|()| self.keeps(&mut there));
            if let Err(what) = checked.and_then(|()| self.only_forward(&held, &mut steps)) {
                return self.around.wrong(format!("{}: {what}", self.node));
            }
        }
    }

    /// What is held is what one operator had for this node at one revision.
    fn is_of_one_revision(&self, held: &Held) -> Result<(), String> {
        let Some(cursor) = &held.cursor else {
            return if held.scopes.is_empty() { Ok(()) } else { Err("scopes without a cursor".into()) };
        };
        let view = self.around.records.view(&cursor.epoch, cursor.revision, self.node);
        let view = view.ok_or_else(|| format!("no operator had anything for it at {cursor:?}"))?;
        let short = |scopes: &[axoneme_proto::nodesync::HeldScope]| -> BTreeMap<String, u64> {
            scopes.iter().map(|scope| (scope.scope.clone(), scope.hash)).collect()
        };
        if view == held.scopes {
            return Ok(());
        }
        Err(format!("holds {:?} at {cursor:?} instead of {:?}", short(&held.scopes), short(&view)))
    }

    /// No operator takes it back to what was before.
    fn only_forward(&self, held: &Held, steps: &mut usize) -> Result<(), String> {
        let Some(cursor) = &held.cursor else { return Ok(()) };
        let now = self.around.records.steps(&cursor.epoch, cursor.revision).unwrap_or_default();
        if now < *steps {
            return Err(format!("is back from step {steps} to {now} at {cursor:?}"));
        }
        *steps = now;
        Ok(())
    }

    /// What exists all the time stays in the kernel once it is there.
    fn keeps(&self, there: &mut BTreeSet<String>) -> Result<(), String> {
        let addresses = self.machine.addresses.entries();
        let services = self.machine.services.entries();
        let has = |address: &str| addresses.contains_key(&AddressKey::from(address.parse::<IpAddr>().unwrap()));
        let service = AddressKey::from(STABLE_SERVICE.parse::<IpAddr>().unwrap());
        let mut now = BTreeSet::new();
        if self.node == LISTED.0 && has(LISTED.1) {
            now.insert(LISTED.1.to_owned());
        }
        if services.keys().any(|key| key.address == service.address) {
            now.insert(STABLE_SERVICE.into());
        }
        let lost: Vec<_> = there.difference(&now).collect();
        if !lost.is_empty() {
            return Err(format!("{lost:?} is gone from the kernel"));
        }
        there.extend(now);
        Ok(())
    }
}
