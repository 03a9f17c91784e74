//! Many pods at once, through engine, allocator and a slow API server.

use axoneme_proto::nodesync::{Ack, Delta, Hello};
use axoneme_proto::tables::Settings;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;
use crate::engine::{self, Engine, Handle, Input, News};
use crate::object::{CiliumIdentity, Kind, Namespace, Object, Pod};

/// An API server that takes its time, and whose watch tells the engine of every write.
#[derive(Clone)]
struct Slow {
    fake: Fake,
    engine: Handle,
    writes: Arc<Mutex<u32>>,
}

const WRITE: Duration = Duration::from_millis(15);
const ECHO: Duration = Duration::from_millis(2);

impl Slow {
    async fn echo(&self, name: String) {
        *self.writes.lock().unwrap() += 1;
        let (engine, ledger) = (self.engine.clone(), self.fake.0.lock().unwrap().slim(&name).unwrap());
        tokio::spawn(async move {
            tokio::time::sleep(ECHO).await;
            engine.send(Input::Upsert(Object::CiliumNode(ledger.into()))).await.unwrap();
        });
    }
}

impl Ledgers for Slow {
    async fn list(&self) -> Result<Vec<CiliumNode>, kube::Error> {
        self.fake.list().await
    }

    async fn get(&self, name: &str) -> Result<Option<CiliumNode>, kube::Error> {
        self.fake.get(name).await
    }

    async fn create(&self, ledger: v2::CiliumNode) -> Result<Option<Arc<str>>, kube::Error> {
        tokio::time::sleep(WRITE).await;
        let name = ledger.metadata.name.clone().unwrap();
        let created = self.fake.create(ledger).await?;
        self.echo(name).await;
        Ok(created)
    }

    async fn patch(&self, name: &str, patch: Value) -> Result<Option<Arc<str>>, kube::Error> {
        tokio::time::sleep(WRITE).await;
        let patched = self.fake.patch(name, patch).await?;
        self.echo(name.to_owned()).await;
        Ok(patched)
    }

    async fn delete(&self, ledger: &CiliumNode) -> Result<bool, kube::Error> {
        self.fake.delete(ledger).await
    }
}

fn bound(number: usize) -> Object {
    Object::Pod(Arc::new(Pod {
        name: Name::new("a", format!("pod-{number}")),
        uid: format!("uid-{number}").into(),
        node: Some("n1".into()),
        service_account: "default".into(),
        ..Pod::default()
    }))
}

/// With one write in flight per node, a pod waits for the one before and for its own, and for nothing else.
#[tokio::test(start_paused = true)]
async fn fifty_pods_bound_at_once_have_their_rows_after_two_writes_at_most() {
    let settings = Settings { cluster_name: "default".into(), ipv4: true, ..Settings::default() };
    let (engine, handle, outputs) = Engine::new(engine::Config::new(settings), [7; 16]);
    tokio::spawn(engine.run());
    let tell = async |object| handle.send(Input::Upsert(object)).await.unwrap();
    tell(Object::Node(node("n1", 110))).await;
    tell(Object::Namespace(Arc::new(Namespace { name: "a".into(), ..Namespace::default() }))).await;
    for kind in Kind::ALL {
        handle.send(Input::Synced(kind)).await.unwrap();
    }
    handle.complete().await.unwrap();
    let slow = Slow { fake: Fake::default(), engine: handle.clone(), writes: Arc::default() };
    let cidrs = Cidrs::new(ClusterPool::default());
    let allocator =
        Allocator::new(slow.clone(), cidrs, orphans(), Tenure::fresh(), Notices::channel().0, IpamMetrics::default());
    tokio::spawn(allocator.await.unwrap().run(outputs.demands.clone()));
    // Their identity is known from a pod before them.
    tell(bound(1000)).await;
    let mut demands = outputs.demands.clone();
    let labels = demands.wait_for(|demands| !demands.identities.is_empty()).await.unwrap().identities[0].labels.clone();
    let identity = CiliumIdentity { id: 300, labels, uid: "i".into(), resource_version: "1".into() };
    tell(Object::CiliumIdentity(Arc::new(identity))).await;
    let hello = Hello { node: "n1".into(), protocol_min: 1, protocol_max: 2, ..Hello::default() };
    let mut session = handle.open(&"n1".into(), &hello).unwrap();
    let (rows, mut arrived) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let News::Delta(delta) = session.next().await.unwrap() else { continue };
            session.ack(Ack { received: delta.to_revision, attempted: delta.to_revision, ..Ack::default() });
            for row in Delta::decode(&*delta.encode_to_vec()).unwrap().upserts {
                let key = row.key.unwrap();
                if key.scope == "node/n1" && key.key.starts_with("uid-") {
                    rows.send((key.key, Instant::now())).unwrap();
                }
            }
        }
    });
    assert_eq!(arrived.recv().await.unwrap().0, "uid-1000");
    *slow.writes.lock().unwrap() = 0;

    let mut since = BTreeMap::new();
    for number in 0..50 {
        since.insert(format!("uid-{number}"), Instant::now());
        tell(bound(number)).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut waits = Vec::new();
    while waits.len() < 50 {
        let (pod, at) = arrived.recv().await.unwrap();
        waits.extend(since.remove(&pod).map(|since| at.duration_since(since)));
    }
    let (mean, longest) = (waits.iter().sum::<Duration>() / 50, waits.iter().max().copied().unwrap());
    let writes = *slow.writes.lock().unwrap();
    println!("50 pods in 100 ms, writes of {WRITE:?}: mean {mean:?}, longest {longest:?}, {writes} writes");
    // The engine gathers for a millisecond, twice.
    let other = ECHO + Duration::from_millis(4);
    assert!(longest <= 2 * WRITE + other && mean <= WRITE * 3 / 2 + other, "mean {mean:?}, longest {longest:?}");
    assert!(writes <= 8, "{writes}");
}
