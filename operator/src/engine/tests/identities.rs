//! Identities that somebody deletes.

use super::*;
use crate::object::{Labels, Namespace, Pod};

const NUMBER: u32 = 300;

fn identity(id: u32, labels: &Arc<Labels>) -> Input {
    let (uid, resource_version) = ("u".into(), "1".into());
    let object = CiliumIdentity { id, labels: Arc::clone(labels), uid, resource_version };
    Input::Upsert(Object::CiliumIdentity(Arc::new(object)))
}

fn deleted(id: u32) -> Input {
    Input::Delete(ObjectKey::cluster(Kind::CiliumIdentity, &id.to_string().into()))
}

fn pod(name: &str) -> Pod {
    Pod {
        name: Name::new("red", name),
        uid: format!("uid-{name}").into(),
        node: Some("node-1".into()),
        ..Pod::default()
    }
}

/// An engine with one pod that has an address and the identity [`NUMBER`], and the labels of that.
fn with_a_pod() -> (Run, Arc<Labels>) {
    let mut run = Run::new(1, IpamMode::ClusterPool);
    let node = crate::object::Node {
        name: "node-1".into(),
        uid: "n".into(),
        internal_ips: [IpAddr::from([172, 18, 0, 1])].into(),
        external_ips: [].into(),
        labels: Labels::default(),
        max_pods: 10,
        pod_cidrs: [].into(),
        resource_version: "1".into(),
    };
    let entry = PoolEntry { owner: "red/web".into(), resource: "uid-web".into() };
    let ledger = CiliumNode {
        name: "node-1".into(),
        pod_cidrs: ["10.0.1.0/24".parse().unwrap()].into(),
        pool: [(IpAddr::from([10, 0, 1, 2]), entry)].into(),
        ..CiliumNode::default()
    };
    run.apply(Input::Upsert(Object::Node(Arc::new(node))));
    run.apply(Input::Upsert(Object::CiliumNode(Arc::new(ledger))));
    run.apply(Input::Upsert(Object::Namespace(Arc::new(Namespace { name: "red".into(), ..Namespace::default() }))));
    run.apply(Input::Upsert(Object::Pod(Arc::new(pod("web")))));
    run.synced();
    run.commit();
    let labels = Arc::clone(&run.demands.identities[0].labels);
    run.apply(identity(NUMBER, &labels));
    run.commit();
    assert_eq!(rows_of(&run, NUMBER), 2, "the policy and the peer");
    (run, labels)
}

/// How many rows there are of an identity.
fn rows_of(run: &Run, id: u32) -> usize {
    let own = |row: &RowId| row.scope == Scope::Peers(id) || row.scope == Scope::Policy(id);
    run.journal.rows().filter(|(row, ..)| own(row)).count()
}

#[test]
fn one_that_pods_use_stays_theirs_until_it_is_made_anew_with_its_number() {
    let (mut run, labels) = with_a_pod();
    let revision = run.journal.revision();
    run.apply(deleted(NUMBER));
    run.commit();
    let demand = IdentityDemand { labels: Arc::clone(&labels), pod: Name::new("red", "web"), lost: Some(NUMBER) };
    assert_eq!(run.demands.identities, [demand]);
    run.apply(identity(NUMBER, &labels));
    run.commit();
    assert_eq!(run.demands.identities, []);
    assert_eq!(run.journal.revision(), revision, "no row has changed");
}

#[test]
fn one_that_is_gone_with_its_pods_is_not_made_anew() {
    let (mut run, _) = with_a_pod();
    run.apply(deleted(NUMBER));
    run.commit();
    run.apply(Input::Delete(ObjectKey::namespaced(Kind::Pod, &Name::new("red", "web"))));
    run.commit();
    assert_eq!((run.demands.identities.len(), rows_of(&run, NUMBER)), (0, 0));
    assert!(run.core.index().identity(NUMBER).is_none());
}

#[test]
fn one_whose_number_was_given_to_others_meanwhile_is_not_missed() {
    let (mut run, labels) = with_a_pod();
    run.apply(deleted(NUMBER));
    run.commit();
    run.apply(identity(NUMBER, &Arc::new([("k8s:app", "other")].into_iter().collect())));
    run.commit();
    assert_eq!((run.demands.identities[0].lost, rows_of(&run, NUMBER)), (None, 0), "it is theirs");
    run.apply(identity(NUMBER + 1, &labels));
    run.commit();
    assert_eq!(rows_of(&run, NUMBER + 1), 2);

    // Another replica may have chosen another number.
    run.apply(deleted(NUMBER + 1));
    run.apply(identity(NUMBER + 2, &labels));
    run.commit();
    assert_eq!((run.demands.identities.len(), rows_of(&run, NUMBER + 1), rows_of(&run, NUMBER + 2)), (0, 0, 2));
}
