//! A pod `p` of identity 300 on node `home`; nodes `a` and `b` are given the peers of 300.

use axoneme_proto::nodesync::Ack;

use super::*;
use crate::engine::SessionEvent;

struct World {
    barriers: Barriers,
    acks: Acks,
    now: Instant,
    sessions: u64,
}

fn ack(attempted: u64, retry_low_watermark: u64) -> Ack {
    Ack { received: attempted, attempted, retry_low_watermark, ..Ack::default() }
}

impl World {
    fn new() -> Self {
        let mut world = Self { barriers: Barriers::default(), acks: Acks::default(), now: Instant::now(), sessions: 0 };
        for node in ["home", "a", "b"] {
            world.acks.expect(&node.into(), world.now);
            world.connect(node);
        }
        world.give("a", &[300]);
        world.give("b", &[300, 301]);
        world.barriers.take_news();
        world
    }

    fn connect(&mut self, node: &str) {
        self.sessions += 1;
        let (node, opened) = (Arc::from(node), SessionEvent::Opened { revision: 0, newest: 100 });
        self.acks.event(&node, self.sessions, &opened, self.now);
        self.barriers.session(&node, 100);
    }

    /// Only the newest session of all can be closed.
    fn disconnect_newest(&mut self, node: &str) {
        self.acks.event(&node.into(), self.sessions, &SessionEvent::Closed, self.now);
    }

    fn give(&mut self, node: &str, identities: &[u32]) {
        let scopes: BTreeSet<Scope> = identities.iter().copied().map(Scope::Peers).collect();
        self.barriers.grant(&node.into(), Some(&scopes), self.now);
    }

    fn publish(&mut self, revision: u64) {
        let endpoint = Some(("home".into(), revision));
        let peers = Some((300, revision));
        let pod = Published { key: "p".into(), endpoint, peers, started: false };
        self.barriers.published(pod, &self.acks, self.now);
    }

    fn ack(&mut self, node: &str, session: u64, attempted: u64, retry: u64) {
        let node = Arc::from(node);
        self.acks.event(&node, session, &SessionEvent::Acked(ack(attempted, retry)), self.now);
        self.barriers.acked(&node, &self.acks, self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.barriers.tick(&self.acks, self.now);
    }

    /// "node pod@revision skipped", of everything that is told now.
    fn told(&mut self) -> Vec<String> {
        let line = |(node, telling): &(Arc<str>, Telling)| {
            format!("{node} {}@{} {}", telling.pod.pod_uid, telling.pod.revision, telling.pod.skipped)
        };
        self.barriers.take_news().told.iter().map(line).collect()
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_pods_node_is_told_when_all_have_applied() {
    let mut world = World::new();
    world.publish(7);
    world.ack("a", 2, 7, 0);
    assert_eq!(world.told(), NOTHING, "b is missing");
    world.now += Duration::from_millis(30);
    world.ack("b", 3, 9, 5);
    assert_eq!(world.told(), NOTHING, "it retries something older than the row");
    world.ack("b", 3, 9, 8);
    let news = world.barriers.take_news();
    assert_eq!(news.told.len(), 1);
    assert_eq!((&*news.told[0].0, news.told[0].1.pod.revision, news.told[0].1.due), ("home", 7, 7));
    assert_eq!((news.acked, news.skipped, news.passed), (1, 0, vec![Duration::from_millis(30)]));
}

#[test]
fn nobody_who_is_not_given_the_scope_is_waited_for() {
    let mut world = World::new();
    world.give("a", &[]);
    world.give("b", &[301]);
    world.publish(7);
    assert_eq!(world.told(), ["home p@7 0"]);
}

#[test]
fn a_node_that_is_silent_for_a_second_is_skipped_and_counted() {
    let mut world = World::new();
    world.pass(Duration::from_secs(60));
    world.publish(7);
    world.ack("a", 2, 7, 0);
    world.pass(SILENCE - Duration::from_millis(1));
    assert_eq!(world.told(), NOTHING, "it had nothing to say before it was asked");
    world.pass(Duration::from_millis(1));
    assert_eq!(world.told(), ["home p@7 1"]);
}

#[test]
fn a_node_that_speaks_and_does_not_get_there_is_skipped_later() {
    let mut world = World::new();
    world.publish(7);
    world.ack("a", 2, 7, 0);
    for step in 1..=10 {
        world.pass(HOPELESS / 10);
        world.ack("b", 3, 7 + step, 6);
        assert!(step == 10 || world.told().is_empty());
    }
    assert_eq!(world.told(), ["home p@7 1"]);
}

#[test]
fn a_node_that_dies_is_waited_for_one_second_and_one_that_is_dead_not_at_all() {
    let mut world = World::new();
    world.connect("b");
    world.told();
    world.disconnect_newest("b");
    world.publish(7);
    world.ack("a", 2, 7, 0);
    assert_eq!(world.told(), NOTHING, "it may be back at once");
    world.pass(SILENCE);
    assert_eq!(world.told(), ["home p@7 1"]);
    world.publish(8);
    world.ack("a", 2, 8, 0);
    assert_eq!(world.told(), ["home p@8 1"]);
}

#[test]
fn a_node_that_reconnects_in_time_counts() {
    let mut world = World::new();
    world.connect("b");
    world.disconnect_newest("b");
    world.publish(7);
    world.ack("a", 2, 7, 0);
    world.pass(Duration::from_millis(900));
    world.connect("b");
    world.pass(Duration::from_millis(900));
    assert_eq!(world.told(), NOTHING);
    let session = world.sessions;
    world.ack("b", session, 7, 0);
    assert_eq!(world.told(), ["home p@7 0"]);
}

#[test]
fn a_node_that_loses_the_scope_or_is_deleted_is_not_waited_for() {
    let mut world = World::new();
    world.publish(7);
    world.give("a", &[301]);
    assert_eq!(world.told(), NOTHING);
    world.barriers.grant(&"b".into(), None, world.now);
    let news = world.barriers.take_news();
    assert_eq!((news.told.len(), news.acked, news.skipped), (1, 0, 0));
    assert!(world.barriers.waiting.is_empty());
}

#[test]
fn a_row_that_changes_again_is_waited_for_anew() {
    let mut world = World::new();
    world.publish(7);
    world.ack("a", 2, 7, 0);
    world.publish(9);
    world.ack("b", 3, 8, 0);
    assert_eq!(world.told(), NOTHING);
    world.ack("a", 2, 9, 0);
    world.ack("b", 3, 9, 0);
    assert_eq!(world.told(), ["home p@9 0"]);
}

#[test]
fn an_endpoint_row_that_changes_alone_asks_nobody_again() {
    let mut world = World::new();
    world.publish(7);
    world.ack("a", 2, 7, 0);
    let alone = Published { key: "p".into(), endpoint: Some(("home".into(), 8)), peers: None, started: false };
    world.barriers.published(alone.clone(), &world.acks, world.now);
    assert_eq!(world.told(), NOTHING, "b is still missing");
    world.ack("b", 3, 8, 0);
    assert_eq!(world.told(), ["home p@8 0"]);
    world.barriers.published(Published { endpoint: Some(("home".into(), 9)), ..alone }, &world.acks, world.now);
    assert_eq!(world.told(), ["home p@9 0"]);
}

#[test]
fn a_new_session_is_told_of_all_pods_for_which_nobody_is_waited_for() {
    let mut world = World::new();
    world.publish(7);
    world.connect("home");
    assert_eq!(world.told(), NOTHING);
    world.ack("a", 2, 7, 0);
    world.ack("b", 3, 7, 0);
    assert_eq!(world.told(), ["home p@0 0"], "its rows' revisions may be another replica's");
    world.connect("home");
    let news = world.barriers.take_news();
    assert_eq!((news.told[0].1.pod.revision, news.told[0].1.due), (0, 100));
    world.barriers.forget(&"p".into());
    world.connect("home");
    assert_eq!(world.told(), NOTHING);
}

#[test]
fn a_row_that_is_published_after_a_session_began_is_told_with_its_own_revision() {
    let mut world = World::new();
    // The engine hears of the session later than it began.
    world.publish(101);
    world.connect("home");
    world.ack("a", 2, 101, 0);
    world.ack("b", 3, 101, 0);
    assert_eq!(world.told(), ["home p@101 0"]);
}

#[test]
fn a_pod_that_runs_asks_nobody_and_one_that_goes_leaves_nothing() {
    let mut world = World::new();
    let endpoint = Some(("home".into(), 7));
    let pod = Published { key: "r".into(), endpoint, peers: Some((300, 7)), started: true };
    world.barriers.published(pod, &world.acks, world.now);
    assert_eq!(world.told(), ["home r@7 0"]);
    world.publish(8);
    world.barriers.forget(&"p".into());
    world.ack("a", 2, 8, 0);
    world.pass(SILENCE);
    assert_eq!(world.told(), NOTHING);
    assert!(world.barriers.waiting.is_empty());
}

#[test]
fn a_new_leader_gives_nodes_a_second_to_come_back() {
    // Its first commit publishes all rows before any session begins.
    let mut world = World { barriers: Barriers::default(), acks: Acks::default(), now: Instant::now(), sessions: 0 };
    for node in ["home", "a"] {
        world.acks.expect(&node.into(), world.now);
    }
    world.give("a", &[300]);
    world.publish(7);
    world.pass(Duration::from_millis(800));
    world.connect("a");
    world.ack("a", 1, 7, 0);
    world.connect("home");
    assert_eq!(world.told(), ["home p@7 0", "home p@0 0"]);
}
