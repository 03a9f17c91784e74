//! Whatever the operator commits in whatever order, with faults and restarts in between: the kernel ends as one that was told
//! only the end.

use std::collections::BTreeMap;

use axoneme_node::desired::{Change, Desired};
use axoneme_node::reconcile::Engine;
use axoneme_proto::nodesync::{Row, RowKey};
use proptest::prelude::*;
use tokio::time::Instant;

use super::dump::dump;
use super::kernel::Machine;
use super::rows::RowYaml;
use super::story::{NODE, settle};

/// One thing that happens; numbers choose among few values, so that rows meet each other.
#[derive(Clone, Debug)]
enum Event {
    /// A row comes or changes.
    Put(Kind, u8, u8),
    /// A row goes.
    Remove(Kind, u8, u8),
    /// What was put and removed is committed as one.
    Commit,
    /// The reconcilers get to work, be it with faults.
    Settle,
    /// The daemon starts anew, with nothing.
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Node,
    Peer,
    Policy,
    Service,
    Backends,
}

/// A row of each kind: `key` names it, `value` is what it says.
fn row(kind: Kind, key: u8, value: u8) -> Row {
    let text = match kind {
        Kind::Node => format!(
            "node: {{name: n{key}, addresses: [192.168.0.{}], overlay: [10.{key}.0.1], cidrs: [10.{key}.0.0/24]}}",
            key * 10 + value
        ),
        // A pod may move from one identity to another, and to another node.
        Kind::Peer => format!(
            "peer: {{uid: p{key}, identity: {}, addresses: [10.2.0.{}], node: n{}}}",
            200 + u32::from(value % 2),
            5 + key,
            1 + value
        ),
        Kind::Policy => format!(
            "policy: {{identity: {}, ingress: {{isolatedBy: np:ns/{value}, peers: {{'200': [tcp {value} allow np:ns/{value}]}}}}}}",
            100 + u32::from(key)
        ),
        Kind::Service => {
            format!(
                "service: {{name: ns/s{key}, ips: [10.96.0.{key}, 'fd00::{key}'], ports: [a tcp {}]}}",
                80 + value % 2
            )
        }
        Kind::Backends => format!(
            "backends: {{slice: ns/b{key}, service: s{}, ports: [a tcp 8080], ready: [10.1.0.{value}, 10.1.0.9, 'fd00::{value}']}}",
            key % 2
        ),
    };
    let row: RowYaml =
        serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(&text))
            .unwrap_or_else(|err| panic!("{text}: {err}"));
    row.row(NODE, 0)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let kind =
        prop_oneof![Just(Kind::Node), Just(Kind::Peer), Just(Kind::Policy), Just(Kind::Service), Just(Kind::Backends)];
    let event = prop_oneof![
        8 => (kind.clone(), 0..4_u8, 1..4_u8).prop_map(|(kind, key, value)| Event::Put(kind, key, value)),
        3 => (kind, 0..4_u8, 1..4_u8).prop_map(|(kind, key, value)| Event::Remove(kind, key, value)),
        4 => Just(Event::Commit),
        2 => Just(Event::Settle),
        1 => Just(Event::Restart),
    ];
    proptest::collection::vec(event, 1..60)
}

type Rows = BTreeMap<(String, i32, String), Row>;

fn name(key: &RowKey) -> (String, i32, String) {
    (key.scope.clone(), key.table, key.key.clone())
}

/// The operator's side: what is committed, and what waits to be.
#[derive(Default)]
struct Operator {
    committed: Rows,
    next: Rows,
    revision: u64,
}

impl Operator {
    fn change(&mut self) -> Change {
        let from_revision = self.revision;
        self.revision += 1;
        let changed = self.next.iter().filter(|(key, row)| self.committed.get(*key) != Some(row));
        let upserts = changed.map(|(_, row)| Row { revision: self.revision, ..row.clone() }).collect();
        let gone = self.committed.iter().filter(|(key, _)| !self.next.contains_key(*key));
        let removals = gone.filter_map(|(_, row)| row.key.clone()).collect();
        self.committed.clone_from(&self.next);
        Change {
            epoch: vec![1],
            from_revision,
            to_revision: self.revision,
            upserts,
            removals,
            inputs_complete: true,
            ..Change::default()
        }
    }

    /// Everything that is committed, for a node that has nothing.
    fn everything(&self) -> Change {
        let upserts = self.committed.values().map(|row| Row { revision: self.revision, ..row.clone() }).collect();
        Change { epoch: vec![1], to_revision: self.revision, upserts, inputs_complete: true, ..Change::default() }
    }
}

async fn play(events: Vec<Event>, seed: u64) {
    let machine = Machine::new(1024);
    let start = |machine: &Machine, seed, percent| {
        Engine::new(Desired::new(NODE), BTreeMap::new(), machine.kernel(seed, percent), Instant::now())
    };
    let mut engine = start(&machine, seed, 10);
    let mut operator = Operator::default();
    for (number, event) in events.into_iter().enumerate() {
        match event {
            Event::Put(kind, key, value) => {
                let row = row(kind, key, value);
                if matches!(kind, Kind::Peer) {
                    // A pod has one identity.
                    operator.next.retain(|(_, table, other), _| *table != 6 || *other != format!("p{key}"));
                }
                operator.next.insert(name(row.key.as_ref().unwrap()), row);
            }
            Event::Remove(kind, key, value) => {
                operator.next.remove(&name(row(kind, key, value).key.as_ref().unwrap()));
            }
            Event::Commit => drop(engine.commit(operator.change())),
            Event::Settle => settle(&mut engine).await,
            Event::Restart => {
                engine = start(&machine, seed + number as u64, 10);
                engine.commit(operator.everything());
            }
        }
    }
    engine.commit(operator.change());
    settle(&mut engine).await;

    let fresh = Machine::new(1024);
    let mut told_once = start(&fresh, 0, 0);
    told_once.commit(operator.everything());
    settle(&mut told_once).await;
    assert_eq!(dump(&machine, &engine), dump(&fresh, &told_once));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_end_is_the_same_however_it_came_about(events in events(), seed in 0..1000_u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(events, seed));
    }
}
