//! One run: a world, two operators, three nodes, and what befalls them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axoneme_node::desired::{Change, Desired};
use axoneme_node::reconcile::Engine;
use axoneme_operator::publish::tls::Authority;
use axoneme_proto::nodesync::Row;
use prost::Message;
use tokio::sync::watch;
use tokio::time::{Instant, advance, sleep};

use crate::dump::dump;
use crate::kernel::Machine;
use crate::link::Weather;
use crate::node::{Around, Counts, Node};
use crate::replica::{Records, Replica};
use crate::rng::Rng;
use crate::world::{NODES, World};

/// How long nodes have to come to rest, once nothing breaks any more.
const REST: Duration = Duration::from_secs(120);

/// What happened in a run, or in all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub steps: u64,
    pub commits: u64,
    pub crashes: u64,
    pub broken: u64,
    pub refused: u64,
    /// Sessions by how they began.
    pub deltas: u64,
    pub scopes: u64,
    pub partial: u64,
    pub snapshots: u64,
}

impl Summary {
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.commits += other.commits;
        self.crashes += other.crashes;
        self.broken += other.broken;
        self.refused += other.refused;
        self.deltas += other.deltas;
        self.scopes += other.scopes;
        self.partial += other.partial;
        self.snapshots += other.snapshots;
    }
}

struct Run {
    world: Arc<Mutex<World>>,
    happened: watch::Sender<usize>,
    authority: Authority,
    around: Arc<Around>,
    nodes: Vec<Node>,
    epochs: u8,
    rng: Rng,
    summary: Summary,
}

pub async fn run(seed: u64) -> Summary {
    let mut rng = Rng::new(seed);
    let world = World::new(rng.part(), seed.is_multiple_of(4)).await;
    let happened = watch::Sender::new(world.log.len());
    let (certificate, key) = Authority::generate().unwrap();
    let around = Arc::new(Around {
        replicas: Mutex::default(),
        records: Arc::<Records>::default(),
        weather: Arc::<Weather>::default(),
        wrong: Mutex::default(),
        counts: Counts::default(),
    });
    let nodes = NODES.map(|name| Node::new(name, &around, rng.part())).into();
    let mut run = Run {
        world: Arc::new(Mutex::new(world)),
        happened,
        authority: Authority::from_pem(&certificate, &key).unwrap(),
        around,
        nodes,
        epochs: 0,
        rng,
        summary: Summary::default(),
    };
    for place in 0..2 {
        run.replica(place, 0);
    }
    run.nodes.iter_mut().for_each(Node::start);
    run.trouble().await;
    run.rest().await;
    run.finish()
}

impl Run {
    /// A new operator in this place; who was there is gone.
    fn replica(&mut self, place: usize, behind: usize) {
        self.epochs += 1;
        let (around, rng) = (&self.around, self.rng.part());
        let happened = self.happened.subscribe();
        let new = Replica::start(self.epochs, &self.authority, &self.world, happened, &around.records, behind, rng);
        let mut replicas = around.replicas.lock().unwrap();
        match replicas.get_mut(place) {
            Some(old) => std::mem::replace(old, new).crash(),
            None => replicas.push(new),
        }
    }

    async fn trouble(&mut self) {
        let until = Instant::now() + self.rng.millis(8_000, 25_000);
        while Instant::now() < until {
            sleep(self.rng.millis(3, 250)).await;
            self.check();
            match self.rng.below(100) {
                0..80 => self.step(),
                80..85 => {
                    // Many things at once: more than is remembered.
                    (0..20).for_each(|_| self.step());
                }
                85..90 => {
                    self.summary.crashes += 1;
                    let node = self.rng.below(NODES.len() as u64) as usize;
                    if self.rng.permille(200) {
                        self.nodes[node].lose_disk();
                    }
                    self.nodes[node].start();
                }
                90..95 => {
                    self.summary.crashes += 1;
                    let (place, behind) = (self.rng.below(2) as usize, self.rng.below(15) as usize);
                    self.replica(place, behind);
                }
                _ => {
                    // One goes in order; its successor knows what it knew.
                    let place = self.rng.below(2) as usize;
                    let leaving = Arc::clone(&self.around.replicas.lock().unwrap()[place]);
                    leaving.stop.cancel();
                    sleep(self.rng.millis(0, 700)).await;
                    self.replica(place, 0);
                }
            }
        }
    }

    fn step(&mut self) {
        self.summary.steps += 1;
        let mut world = self.world.lock().unwrap();
        world.step();
        self.happened.send_replace(world.log.len());
    }

    fn check(&self) {
        if let Some(wrong) = self.around.wrong.lock().unwrap().take() {
            panic!("{wrong}");
        }
    }

    /// Nothing breaks any more. Everybody comes to the same end.
    async fn rest(&mut self) {
        {
            let mut world = self.world.lock().unwrap();
            world.settle();
            self.happened.send_replace(world.log.len());
        }
        self.around.weather.calm.store(true, Ordering::Relaxed);
        let start = Instant::now();
        loop {
            sleep(Duration::from_millis(200)).await;
            self.check();
            match self.unrest().await {
                None => break,
                Some(why) => assert!(start.elapsed() < REST, "no rest: {why}"),
            }
        }
        for node in &self.nodes {
            self.kernel_is_as_if_told_once(node).await;
        }
    }

    /// What is still to come.
    async fn unrest(&self) -> Option<String> {
        let steps = self.world.lock().unwrap().log.len();
        let replicas = self.around.replicas.lock().unwrap().clone();
        for node in &self.nodes {
            let name = node.name;
            let held = node.state().held().await.unwrap();
            let Some(cursor) = held.cursor else { return Some(format!("{name} holds nothing")) };
            let Some(replica) = replicas.iter().find(|replica| replica.epoch[..] == cursor.epoch) else {
                return Some(format!("{name} follows nobody who is there"));
            };
            let revision = replica.handle.with_journal(axoneme_operator::publish::journal::Journal::revision);
            if replica.seen() < steps {
                return Some(format!("an operator has not seen all {steps} steps"));
            }
            let wanted = self.around.records.view(&replica.epoch, revision, name);
            if wanted.as_ref() != Some(&held.scopes) {
                return Some(format!("{name} is at {} of {revision}", cursor.revision));
            }
            let status = node.state().status().borrow().clone();
            if !status.applied || status.failing > 0 || status.received > status.attempted {
                return Some(format!("{name}: {:?}", status.problems));
            }
        }
        None
    }

    async fn kernel_is_as_if_told_once(&self, node: &Node) {
        let replica = Arc::clone(&self.around.replicas.lock().unwrap()[0]);
        let upserts = replica.handle.with_journal(|journal| -> Vec<Row> {
            let grant = journal.grant(node.name).unwrap();
            let rows = grant.iter().flat_map(|scope| journal.rows_of(scope));
            rows.map(|(_, revision, row)| Row { revision, ..Row::decode(row.encoded()).unwrap() }).collect()
        });
        let fresh = Machine::new(4096);
        let mut told_once = Engine::new(Desired::new(node.name), BTreeMap::new(), fresh.kernel(1, 0), Instant::now());
        let change =
            Change { epoch: vec![1], to_revision: 1 << 40, upserts, inputs_complete: true, ..Change::default() };
        told_once.commit(change);
        while told_once.next_due(Instant::now()) <= Instant::now() + Duration::from_secs(2) {
            advance(told_once.next_due(Instant::now()).saturating_duration_since(Instant::now())).await;
            told_once.round(Instant::now()).await;
        }
        // What an earlier run left is removed when that is possible, and operations fail.
        let mut tries = 120;
        for section in ["addresses", "cidrs", "services"] {
            // Ids of the kernel are each one's own, and not in these sections.
            let of = |machine: &Machine| dump(machine, &told_once).remove(section);
            while tries > 0 && of(&node.machine) != of(&fresh) {
                sleep(Duration::from_millis(500)).await;
                tries -= 1;
            }
            assert_eq!(of(&node.machine), of(&fresh), "{section} of {}", node.name);
        }
    }

    fn finish(mut self) -> Summary {
        self.nodes.iter_mut().for_each(Node::stop);
        let summary = &mut self.summary;
        summary.commits = self.around.counts.commits.load(Ordering::Relaxed);
        summary.refused = self.around.counts.refused.load(Ordering::Relaxed);
        let weather = &self.around.weather;
        summary.broken = weather.broken.load(Ordering::Relaxed);
        summary.deltas = weather.deltas.load(Ordering::Relaxed);
        summary.scopes = weather.scopes.load(Ordering::Relaxed);
        summary.partial = weather.partial.load(Ordering::Relaxed);
        summary.snapshots = weather.snapshots.load(Ordering::Relaxed);
        self.summary
    }
}
