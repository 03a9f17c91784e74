//! An operator: its engine and its service, which follow the world with some delay.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axoneme_operator::engine::{Config, Engine, Handle, Input};
use axoneme_operator::object::Kind;
use axoneme_operator::publish::join::{Registrar, TokenVerdict, Vouch};
use axoneme_operator::publish::server::{Service, SessionMetrics};
use axoneme_operator::publish::tls::Authority;
use axoneme_proto::buckets::{self, Sums};
use axoneme_proto::nodesync::HeldScope;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::rng::Rng;
use crate::world::{Event, NODES, World, settings};

/// How many removed rows an operator of the simulation remembers: few, so that nodes fall behind.
const TOMBSTONES: usize = 12;
/// The engine gathers for a millisecond.
const COMMITTED: Duration = Duration::from_millis(3);

/// Vouches for every node.
#[derive(Debug)]
pub struct Trusting;

impl Vouch for Trusting {
    async fn token(&self, _token: &str) -> Result<TokenVerdict, kube::Error> {
        Ok(TokenVerdict::default())
    }

    async fn node_uid(&self, name: &str) -> Result<Option<String>, kube::Error> {
        Ok(Some(format!("uid-{name}")))
    }
}

/// What a node that has everything holds.
pub type View = Vec<HeldScope>;

/// An operator's journal, and a revision of it.
type Point = (Vec<u8>, u64);

/// By node; and how many steps that is the outcome of, at least.
type Views = (BTreeMap<&'static str, View>, usize);

/// What every node was to have at every revision.
#[derive(Debug, Default)]
pub struct Records(Mutex<BTreeMap<Point, Views>>);

impl Records {
    fn note(&self, epoch: [u8; 16], handle: &Handle, steps: usize) {
        handle.with_journal(|journal| {
            let mut views = BTreeMap::new();
            for node in NODES {
                let Some(grant) = journal.grant(node) else { continue };
                let view = grant.iter().map(|scope| {
                    let rows: Vec<_> = journal.rows_of(scope).collect();
                    let hash = rows.iter().fold(0, |all, (.., row)| all ^ row.hash);
                    let buckets = buckets::count(rows.len()).map(|count| {
                        let mut sums = Sums::new(count);
                        rows.iter().for_each(|(id, _, row)| sums.toggle(id.table.into(), &id.key, row.hash));
                        sums.into()
                    });
                    HeldScope { scope: scope.to_string(), hash, buckets: buckets.unwrap_or_default() }
                });
                views.insert(node, view.collect());
            }
            let mut records = self.0.lock().unwrap();
            // Steps of which nothing follows make no revision.
            records.entry((epoch.to_vec(), journal.revision())).or_insert((views, steps));
        });
    }

    /// How many steps a revision is the outcome of, at least.
    pub fn steps(&self, epoch: &[u8], revision: u64) -> Option<usize> {
        Some(self.0.lock().unwrap().get(&(epoch.to_vec(), revision))?.1)
    }

    /// What `node` was to have; `None` if that revision is not known, or the node was not.
    pub fn view(&self, epoch: &[u8], revision: u64, node: &str) -> Option<View> {
        self.0.lock().unwrap().get(&(epoch.to_vec(), revision))?.0.get(node).cloned()
    }
}

pub struct Replica {
    pub epoch: [u8; 16],
    pub service: Service<Trusting>,
    pub handle: Handle,
    pub stop: CancellationToken,
    /// Ends with the process.
    pub alive: CancellationToken,
    seen: Arc<AtomicUsize>,
    tasks: Vec<AbortHandle>,
}

impl Replica {
    /// How many steps it has followed.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }

    /// Starts one that has listed what was there `behind` steps ago.
    pub fn start(
        number: u8,
        authority: &Authority,
        world: &Arc<Mutex<World>>,
        happened: watch::Receiver<usize>,
        records: &Arc<Records>,
        behind: usize,
        mut rng: Rng,
    ) -> Arc<Self> {
        let mut epoch = [0; 16];
        epoch[0] = number;
        let config = Config { tombstones: TOMBSTONES, ..Config::new(settings()) };
        let (engine, handle, outputs) = Engine::new(config, epoch);
        let lifetime = Duration::from_secs(86_400);
        let registrar = Registrar::new(Trusting, authority.clone(), "kube-system", "axoneme-node", lifetime);
        let operators = watch::Sender::new(vec!["192.0.2.1:4246".to_owned()]);
        let (stop, alive) = (CancellationToken::new(), CancellationToken::new());
        let metrics = SessionMetrics::default();
        let service = Service::new(handle.clone(), registrar, operators.subscribe(), metrics, stop.clone());
        let seen = Arc::new(AtomicUsize::default());
        let follow = {
            let (world, records, handle) = (Arc::clone(world), Arc::clone(records), handle.clone());
            let (mut happened, seen) = (happened, Arc::clone(&seen));
            async move {
                // Both have to be there for as long as the process is.
                let _kept = (operators, outputs);
                let (mut at, objects, versions) = {
                    let world = world.lock().unwrap();
                    let at = world.log.len().saturating_sub(behind).max(1);
                    (at, world.log.list(at), world.log.versions(at))
                };
                for object in objects {
                    handle.send(Input::Upsert(object)).await.unwrap();
                }
                for kind in Kind::ALL {
                    handle.send(Input::Seen(kind, versions.of(kind))).await.unwrap();
                    handle.send(Input::Synced(kind)).await.unwrap();
                }
                sleep(COMMITTED).await;
                // Its watches lag, but not for as long as a node is held up.
                if behind > 0 && rng.permille(300) {
                    records.note(epoch, &handle, at);
                    sleep(rng.millis(500, 4_000)).await;
                }
                loop {
                    records.note(epoch, &handle, at);
                    seen.store(at, Ordering::Relaxed);
                    happened.wait_for(|steps| *steps > at).await.unwrap();
                    sleep(rng.millis(1, 60)).await;
                    let events = world.lock().unwrap().log.step(at);
                    at += 1;
                    let kinds: Vec<Kind> = events.iter().map(Event::kind).collect();
                    for event in events {
                        handle.send(event.into()).await.unwrap();
                    }
                    for kind in kinds {
                        handle.send(Input::Seen(kind, at as u64)).await.unwrap();
                    }
                    sleep(COMMITTED).await;
                }
            }
        };
        let tasks = vec![tokio::spawn(engine.run()).abort_handle(), tokio::spawn(follow).abort_handle()];
        Arc::new(Self { epoch, service, handle, stop, alive, seen, tasks })
    }

    /// The process is gone, and all its connections.
    pub fn crash(&self) {
        self.alive.cancel();
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}
