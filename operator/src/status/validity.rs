//! Condition `Valid` of policies.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::notice::api_of;
use super::writer::KubernetesWriter;
use crate::object::{ObjectKey, VALID, Validity};

/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(2);

/// The API, as far as policies need it.
pub(super) trait Policies: Clone + Send + Sync + 'static {
    /// Makes the condition say this. It is fine if the policy is gone.
    fn write(&self, policy: &ObjectKey, wanted: &Validity) -> impl Future<Output = Result<(), kube::Error>> + Send;
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Validities {
    wanted: BTreeMap<ObjectKey, (Arc<Validity>, Instant)>,
    writing: BTreeSet<ObjectKey>,
}

impl Validities {
    /// It should say this; none: it does.
    pub(super) fn fold(&mut self, policy: ObjectKey, wanted: Option<Arc<Validity>>, now: Instant) {
        match wanted {
            Some(wanted) => drop(self.wanted.insert(policy, (wanted, now))),
            None => drop(self.wanted.remove(&policy)),
        }
    }

    /// Whether there is something to write.
    pub(super) fn waits(&self) -> bool {
        self.wanted.len() > self.writing.len()
    }

    /// The next to be written, if one is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<(ObjectKey, Arc<Validity>)> {
        let due = |(policy, (_, at)): &(&ObjectKey, &(_, Instant))| *at <= now && !self.writing.contains(*policy);
        let (policy, (wanted, _)) = self.wanted.iter().find(due)?;
        let next = (policy.clone(), Arc::clone(wanted));
        self.writing.insert(policy.clone());
        Some(next)
    }

    /// A write has ended. What was to be said meanwhile is still to be said.
    pub(super) fn finish(&mut self, policy: &ObjectKey, written: &Validity, succeeded: bool, now: Instant) {
        self.writing.remove(policy);
        if succeeded && self.wanted.get(policy).is_some_and(|(wanted, _)| **wanted == *written) {
            self.wanted.remove(policy);
        } else if let Some((_, at)) = self.wanted.get_mut(policy) {
            *at = now + AGAIN;
        }
    }
}

impl Policies for KubernetesWriter {
    /// Guarded by the object's version, so that conditions of others stay as they are.
    async fn write(&self, policy: &ObjectKey, wanted: &Validity) -> Result<(), kube::Error> {
        let api = api_of(self.client(), policy);
        let Some(mut object) = api.get_opt(&policy.name.name).await? else { return Ok(()) };
        say(&mut object.data, wanted);
        match api.replace_status(&policy.name.name, &PostParams::default(), &object).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Puts the condition among the others of an object.
fn say(object: &mut Value, wanted: &Validity) {
    let conditions = object["status"]["conditions"].take();
    let (own, others): (Vec<Value>, Vec<Value>) = match conditions {
        Value::Array(all) => all.into_iter().partition(|condition| condition["type"] == VALID),
        _ => Default::default(),
    };
    let status = if wanted.valid { "True" } else { "False" };
    let before = own.into_iter().find(|condition| condition["status"] == status);
    let since = before.map(|condition| condition["lastTransitionTime"].clone()).filter(|since| !since.is_null());
    let since = since.unwrap_or_else(|| json!(Time(jiff::Timestamp::now())));
    let condition = json!({"type": VALID, "status": status, "lastTransitionTime": since, "message": wanted.message});
    object["status"]["conditions"] = others.into_iter().chain([condition]).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Kind, Name};

    fn validity(message: &str) -> Arc<Validity> {
        Arc::new(Validity { valid: false, message: message.into() })
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_while_it_is_written_is_written_again() {
        let policy = ObjectKey::namespaced(Kind::CiliumNetworkPolicy, &Name::new("a", "p"));
        let (mut all, now) = (Validities::default(), Instant::now());
        all.fold(policy.clone(), Some(validity("one")), now);
        let (_, first) = all.next(now).unwrap();
        assert!(all.next(now).is_none() && !all.waits(), "it is being written");
        all.fold(policy.clone(), Some(validity("two")), now);
        all.finish(&policy, &first, true, now);
        assert!(all.next(now).is_none());
        let (_, second) = all.next(now + AGAIN).unwrap();
        assert_eq!(&*second.message, "two");
        all.finish(&policy, &second, false, now);
        assert!(all.waits(), "it failed");
        all.fold(policy.clone(), None, now);
        assert!(!all.waits());
    }

    #[test]
    fn conditions_of_others_stay_and_the_time_is_that_of_the_turn() {
        let other = json!({"type": "Other", "status": "True"});
        let own = json!({"type": "Valid", "status": "False", "lastTransitionTime": "2026-11-21T00:00:00Z"});
        let mut object = json!({"status": {"conditions": [own, other]}});
        say(&mut object, &validity("no"));
        let conditions = &object["status"]["conditions"];
        assert_eq!(conditions[0], other);
        assert_eq!(
            (&conditions[1]["message"], &conditions[1]["lastTransitionTime"]),
            (&"no".into(), &"2026-11-21T00:00:00Z".into())
        );
        say(&mut object, &Validity { valid: true, message: "yes".into() });
        assert_eq!(object["status"]["conditions"].as_array().unwrap().len(), 2);
        assert_ne!(object["status"]["conditions"][1]["lastTransitionTime"], "2026-11-21T00:00:00Z");
        let mut none = json!({});
        say(&mut none, &validity("no"));
        assert_eq!(none["status"]["conditions"][0]["status"], "False");
    }
}
