//! The task with its channels and its clock.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axoneme_proto::nodesync::{Cursor, Detached, InputVersion};
use axoneme_proto::tables::Settings;
use prost::Message;

use super::*;
use crate::engine::{Observed, UnmetReason};
use crate::object::{
    CiliumIdentity, CiliumNode, Kind, Labels, Name, Namespace, NetworkPolicy, Node, Object, ObjectKey, Peer, Pod,
    PolicyRule, PoolEntry, Selector,
};

fn start() -> (Handle, Outputs) {
    let settings = Settings { cluster_name: "default".into(), ipv4: true, ..Settings::default() };
    let (engine, handle, outputs) = Engine::new(Config::new(settings), [7; 16]);
    tokio::spawn(engine.run());
    (handle, outputs)
}

fn node() -> Object {
    Object::Node(Arc::new(Node {
        name: "n1".into(),
        uid: "n1".into(),
        internal_ips: [IpAddr::from([172, 18, 0, 1])].into(),
        external_ips: [].into(),
        labels: Labels::default(),
        max_pods: 110,
        pod_cidrs: [].into(),
        resource_version: "1".into(),
    }))
}

fn pod() -> Object {
    Object::Pod(Arc::new(Pod {
        name: Name::new("default", "web"),
        uid: "web".into(),
        labels: [("app", "web")].into_iter().collect(),
        node: Some("n1".into()),
        service_account: "default".into(),
        ..Pod::default()
    }))
}

fn ledger(owner: Option<&str>) -> Object {
    let entry = |owner: &str| (IpAddr::from([10, 0, 0, 2]), PoolEntry { owner: owner.into(), resource: owner.into() });
    let pool: BTreeMap<_, _> = owner.map(entry).into_iter().collect();
    Object::CiliumNode(Arc::new(CiliumNode {
        name: "n1".into(),
        uid: "n1".into(),
        resource_version: "1".into(),
        pod_cidrs: ["10.0.0.0/24".parse().unwrap()].into(),
        pool,
        addresses: [].into(),
        ..CiliumNode::default()
    }))
}

async fn tell(handle: &Handle, objects: impl IntoIterator<Item = Object>) {
    for object in objects {
        handle.send(Input::Upsert(object)).await.unwrap();
    }
}

async fn synced(handle: &Handle) {
    for kind in Kind::ALL {
        handle.send(Input::Synced(kind)).await.unwrap();
    }
    handle.complete().await.unwrap();
}

fn hello() -> Hello {
    Hello { node: "n1".into(), protocol_min: 1, protocol_max: 2, ..Hello::default() }
}

/// The next delta.
async fn delta(session: &mut Session) -> Delta {
    loop {
        if let News::Delta(delta) = session.next().await.unwrap() {
            // As it arrives.
            return Delta::decode(&*delta.encode_to_vec()).unwrap();
        }
    }
}

fn ack(revision: u64) -> Ack {
    Ack { received: revision, attempted: revision, ..Ack::default() }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_served_before_every_kind_is_synced() {
    let (handle, outputs) = start();
    tell(&handle, [node()]).await;
    for kind in Kind::ALL.into_iter().skip(1) {
        handle.send(Input::Synced(kind)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!handle.is_complete() && handle.revision() == 0);
    assert!(handle.open(&"n1".into(), &hello()).is_err());
    assert!(!outputs.demands.borrow().complete);
    handle.send(Input::Synced(Kind::ALL[0])).await.unwrap();
    handle.complete().await.unwrap();
    assert!(handle.open(&"n1".into(), &hello()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_knows_more_waits_until_that_is_known_here_too() {
    let (handle, _outputs) = start();
    tell(&handle, [node()]).await;
    handle.send(Input::Seen(Kind::Node, 5)).await.unwrap();
    synced(&handle).await;
    let says = |kind: &str, version| {
        let inputs = vec![InputVersion { kind: kind.into(), version }];
        Hello { inputs, cursor: Some(Cursor { epoch: vec![9; 16], revision: 3 }), ..hello() }
    };
    // As old, or of what nobody here watches.
    for known in [hello(), says("Node", 5), says("CiliumSomething", 9)] {
        assert_eq!(handle.catch_up(&known).await, CaughtUp::AtOnce);
    }
    // This very journal has told it so.
    let own = Hello { cursor: Some(Cursor { epoch: vec![7; 16], revision: 1 }), ..says("Node", 6) };
    assert_eq!(handle.catch_up(&own).await, CaughtUp::AtOnce);

    let waiting = tokio::spawn({
        let (handle, hello) = (handle.clone(), says("Node", 6));
        async move { handle.catch_up(&hello).await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!waiting.is_finished());
    assert_eq!(handle.wanted().borrow().of(Kind::Node), 6, "the watch knows what it is waited for");
    handle.send(Input::Seen(Kind::Node, 7)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), CaughtUp::Waited);

    // Of an etcd that was restored: it will never be reached, and a list is as good.
    let start = Instant::now();
    assert_eq!(handle.catch_up(&says("Node", 100)).await, CaughtUp::Behind(vec![Kind::Node]));
    assert_eq!(start.elapsed().as_secs(), 10);
    handle.send(Input::Listed(Kind::Node, 100)).await.unwrap();
    assert_eq!(handle.catch_up(&says("Node", 100)).await, CaughtUp::Waited);
    assert_eq!(handle.catch_up(&says("Node", 100)).await, CaughtUp::AtOnce);
    let mut session = handle.open(&"n1".into(), &says("Node", 100)).unwrap();
    assert_eq!(delta(&mut session).await.inputs, [InputVersion { kind: "Node".into(), version: 5 }]);
}

#[tokio::test(start_paused = true)]
async fn a_session_wakes_for_news_and_an_address_comes_back_behind_its_ack() {
    let (handle, mut outputs) = start();
    let namespace = Namespace { name: "default".into(), ..Namespace::default() };
    tell(&handle, [node(), ledger(None), pod(), Object::Namespace(Arc::new(namespace))]).await;
    synced(&handle).await;
    let demands = outputs.demands.wait_for(|demands| !demands.identities.is_empty()).await.unwrap().clone();
    assert_eq!(demands.nodes[0].assign[0].owner, Name::new("default", "web"));
    let labels = Arc::clone(&demands.identities[0].labels);

    let mut session = handle.open(&"n1".into(), &hello()).unwrap();
    let first = delta(&mut session).await;
    session.ack(ack(first.to_revision));
    let identity = CiliumIdentity { id: 300, labels, uid: "i".into(), resource_version: "1".into() };
    tell(&handle, [Object::CiliumIdentity(Arc::new(identity)), ledger(Some("web"))]).await;
    let mut news = delta(&mut session).await;
    while !news.upserts.iter().any(|row| row.key.as_ref().unwrap().key == "web") {
        session.ack(ack(news.to_revision));
        news = delta(&mut session).await;
    }
    session.ack(ack(news.to_revision));

    // The pod goes. Its address is free once the node has said that it is detached, and has acked.
    handle.send(Input::Delete(ObjectKey::namespaced(Kind::Pod, &Name::new("default", "web")))).await.unwrap();
    let removal = delta(&mut session).await;
    assert!(removal.removals.iter().any(|key| key.key == "web"));
    let event = Observed::Detached(Detached { pod_uid: "web".into(), ..Detached::default() });
    handle.send(Input::Observed { node: "n1".into(), event }).await.unwrap();
    let waits = |demands: &Arc<Demands>| {
        demands.unmet.iter().any(|unmet| matches!(unmet.reason, UnmetReason::NotForgotten { .. }))
    };
    outputs.demands.wait_for(waits).await.unwrap();
    assert!(outputs.demands.borrow().nodes.iter().all(|demand| demand.release.is_empty()));
    // Everything up to the barrier, which may be later than the removal.
    session.ack(ack(removal.to_revision));
    let released = |demands: &Arc<Demands>| demands.nodes.iter().any(|demand| !demand.release.is_empty());
    loop {
        tokio::select! {
            news = delta(&mut session) => session.ack(ack(news.to_revision)),
            found = outputs.demands.wait_for(released) => { found.unwrap(); break }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_end_of_an_old_session_does_not_end_the_new_one() {
    let (handle, _outputs) = start();
    tell(&handle, [node()]).await;
    synced(&handle).await;
    let old = handle.open(&"n1".into(), &hello()).unwrap();
    let mut new = handle.open(&"n1".into(), &hello()).unwrap();
    drop(old);
    // Spawned, as the server does: a session crosses threads.
    let delta = tokio::spawn(async move { delta(&mut new).await }).await.unwrap();
    assert!(delta.last && delta.inputs_complete && delta.from_revision == 0);
}

/// Pod `web` of n1 is bound while a policy on n2 lists its identity.
#[tokio::test(start_paused = true)]
async fn a_pods_node_is_told_after_its_row_and_after_the_acks_of_those_who_list_it() {
    let (handle, mut outputs) = start();
    let namespace = Namespace { name: "default".into(), ..Namespace::default() };
    let on = |object: Object, name: &str| match object {
        Object::Node(node) => {
            Object::Node(Arc::new(Node { name: name.into(), uid: name.into(), ..Node::clone(&node) }))
        }
        Object::Pod(pod) => Object::Pod(Arc::new(Pod {
            name: Name::new("default", "db"),
            uid: "db".into(),
            labels: [("app", "db")].into_iter().collect(),
            node: Some(name.into()),
            ..Pod::clone(&pod)
        })),
        other => other,
    };
    let app = |app: &str| Selector::new([("app", app)], []);
    let peer = Peer { pod_selector: Some(app("web")), ..Peer::default() };
    let policy = NetworkPolicy {
        name: Name::new("default", "db"),
        uid: "p".into(),
        resource_version: "1".into(),
        audits: false,
        pod_selector: app("db"),
        ingress: [PolicyRule { peers: [peer].into(), ports: [].into() }].into(),
        egress: [].into(),
        policy_types: None,
    };
    let objects = [node(), on(node(), "n2"), Object::Namespace(Arc::new(namespace)), pod(), on(pod(), "n2")];
    tell(&handle, objects.into_iter().chain([Object::NetworkPolicy(Arc::new(policy)), ledger(None)])).await;
    synced(&handle).await;
    let demands = outputs.demands.wait_for(|demands| demands.identities.len() == 2).await.unwrap().clone();
    for (id, demand) in (300..).zip(&demands.identities) {
        let labels = Arc::clone(&demand.labels);
        let identity = CiliumIdentity { id, labels, uid: "i".into(), resource_version: "1".into() };
        tell(&handle, [Object::CiliumIdentity(Arc::new(identity))]).await;
    }
    let mut home = handle.open(&"n1".into(), &hello()).unwrap();
    let mut other = handle.open(&"n2".into(), &Hello { node: "n2".into(), ..hello() }).unwrap();
    // Both hold everything there is.
    let settled = Duration::from_secs(1);
    for session in [&mut home, &mut other] {
        while let Ok(news) = tokio::time::timeout(settled, delta(session)).await {
            session.ack(ack(news.to_revision));
        }
    }
    tell(&handle, [ledger(Some("web"))]).await;
    let row = delta(&mut home).await;
    assert!(row.upserts.iter().any(|row| row.key.as_ref().unwrap().scope == "node/n1"));
    let peers = delta(&mut other).await;
    assert!(peers.ack_at_once && peers.upserts.iter().any(|row| row.key.as_ref().unwrap().scope.starts_with("peers/")));
    home.ack(ack(row.to_revision));
    let early = tokio::time::timeout(Duration::from_millis(500), home.next()).await;
    assert!(early.is_err(), "n2 has not applied it: {early:?}");
    other.ack(ack(peers.to_revision));
    let told = home.next().await.unwrap();
    let News::Told(told) = told else { panic!("{told:?}") };
    assert_eq!((&*told.pods[0].pod_uid, told.pods[0].skipped), ("web", 0));
    assert!(told.pods[0].revision > 0 && told.pods[0].revision <= row.to_revision);
    // A new session is told of all its pods, after their rows.
    let mut again = handle.open(&"n1".into(), &hello()).unwrap();
    assert!(matches!(again.next().await.unwrap(), News::Delta(delta) if delta.last));
    let told = again.next().await.unwrap();
    assert!(
        matches!(&told, News::Told(told) if told.pods[0].pod_uid == "web" && told.pods[0].revision == 0),
        "{told:?}"
    );
}
