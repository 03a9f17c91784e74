use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::engine::IdentityDemand;
use crate::object::{CiliumIdentity, Name};

#[derive(Clone, Default)]
struct Fake {
    objects: Arc<Mutex<BTreeMap<u32, Labels>>>,
    broken: Arc<Mutex<u32>>,
}

impl Registry for Fake {
    async fn create(&self, id: u32, labels: &Labels) -> Result<Created, kube::Error> {
        let mut broken = self.broken.lock().unwrap();
        if *broken > 0 {
            *broken -= 1;
            return Err(kube::Error::LinesCodecMaxLineLengthExceeded);
        }
        let mut objects = self.objects.lock().unwrap();
        match objects.get(&id) {
            Some(theirs) => Ok(Created::Existed(theirs.clone())),
            None => {
                objects.insert(id, labels.clone());
                Ok(Created::New)
            }
        }
    }

    async fn delete(&self, identity: &CiliumIdentity) -> Result<bool, kube::Error> {
        let mut broken = self.broken.lock().unwrap();
        if *broken > 0 {
            *broken -= 1;
            return Err(kube::Error::LinesCodecMaxLineLengthExceeded);
        }
        Ok(self.objects.lock().unwrap().remove(&identity.id).is_some())
    }
}

fn labels(app: &str) -> Arc<Labels> {
    Arc::new([("k8s:app", app)].into_iter().collect())
}

fn demand(app: &str) -> IdentityDemand {
    IdentityDemand { labels: labels(app), pod: Name::new("a", app), lost: None }
}

#[tokio::test]
async fn a_taken_number_is_adopted_if_labels_agree_and_passed_over_if_not() {
    let (fake, tenure) = (Fake::default(), Tenure::fresh());
    let first = number::number(&labels("web"), 0, 0);
    fake.objects.lock().unwrap().insert(first, (*labels("other")).clone());
    let second = number::number(&labels("web"), 1, 0);
    let allocated = allocate::allocate(&fake, &labels("web"), None, 0, &tenure).await.unwrap();
    assert_eq!(allocated, Allocated::Created(second));
    // A rival with the same labels finds it.
    let allocated = allocate::allocate(&fake, &labels("web"), None, 0, &tenure).await.unwrap();
    assert_eq!(allocated, Allocated::Adopted(second));
}

#[tokio::test]
async fn a_lost_number_is_taken_again_unless_another_label_set_has_it() {
    let (fake, tenure) = (Fake::default(), Tenure::fresh());
    let allocated = allocate::allocate(&fake, &labels("web"), Some(700), 0, &tenure).await.unwrap();
    assert_eq!(allocated, Allocated::Created(700));
    fake.objects.lock().unwrap().insert(701, (*labels("other")).clone());
    let allocated = allocate::allocate(&fake, &labels("db"), Some(701), 0, &tenure).await.unwrap();
    assert_eq!(allocated, Allocated::Created(number::number(&labels("db"), 0, 0)));
}

#[tokio::test]
async fn all_numbers_taken_is_an_error_and_not_a_loop() {
    let (fake, tenure) = (Fake::default(), Tenure::fresh());
    *fake.objects.lock().unwrap() = (256..=65_535).map(|id| (id, (*labels("other")).clone())).collect();
    let error = allocate::allocate(&fake, &labels("web"), None, 0, &tenure).await.unwrap_err();
    assert!(matches!(error, AllocateError::Exhausted));
}

#[tokio::test(start_paused = true)]
async fn each_demand_is_met_once_and_failures_are_tried_again() {
    let fake = Fake::default();
    *fake.broken.lock().unwrap() = 2;
    let (sender, receiver) = watch::channel(Arc::new(Demands::default()));
    let metrics = IdentityMetrics::default();
    let task = tokio::spawn(allocate_identities(receiver, fake.clone(), 0, Tenure::fresh(), metrics.clone()));
    let both = Demands { complete: true, identities: vec![demand("db"), demand("web")], ..Demands::default() };
    sender.send_replace(Arc::new(both));
    while fake.objects.lock().unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((metrics.created.get(), metrics.failed.get(), metrics.adopted.get()), (2, 2, 0));
    drop(sender);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn unused_identities_are_deleted_unless_they_are_used_again() {
    let fake = Fake::default();
    *fake.broken.lock().unwrap() = 1;
    let unused = |id: u32| {
        fake.objects.lock().unwrap().insert(id, (*labels("web")).clone());
        Arc::new(CiliumIdentity { id, labels: labels("web"), uid: "u".into(), resource_version: "1".into() })
    };
    let (first, second, again) = (unused(300), unused(301), unused(302));
    let snapshot = |unused: Vec<_>| Arc::new(Demands { unused_identities: unused, ..Demands::default() });
    let (sender, receiver) = watch::channel(snapshot(vec![first.clone(), second.clone(), again]));
    let metrics = IdentityMetrics::default();
    let interval = Duration::from_secs(10);
    let task = tokio::spawn(collect_identities(receiver, fake.clone(), interval, Tenure::fresh(), metrics.clone()));
    tokio::time::sleep(interval - Duration::from_millis(1)).await;
    assert_eq!(fake.objects.lock().unwrap().len(), 3);
    // The first attempt fails; before the third one, 302 has a pod again.
    tokio::time::sleep(Duration::from_millis(60)).await;
    sender.send_replace(snapshot(vec![first, second]));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(fake.objects.lock().unwrap().keys().copied().collect::<Vec<_>>(), [300, 302]);
    assert_eq!(metrics.deleted.get(), 1);
    // What failed is tried again the next time.
    tokio::time::sleep(interval).await;
    assert_eq!(fake.objects.lock().unwrap().keys().copied().collect::<Vec<_>>(), [302]);
    drop(sender);
    task.await.unwrap();
}
