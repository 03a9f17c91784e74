//! What is to be done about one node.

use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use tokio::time::Instant;

use super::Marks;
use super::write::Write;

/// A daemon that was ready has so much time to come back, as it does when it is updated: its node forwards meanwhile, and pods
/// that come wait.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// What of a node matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Marked {
    /// `metadata.resourceVersion`.
    pub(super) version: String,
    /// `spec.taints`.
    pub(super) taints: Vec<Taint>,
    /// The condition says so already.
    pub(super) available: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// All is as it should be, or not known.
    Nothing,
    /// It is to be looked at again then.
    At(Instant),
    /// A write.
    Write(Write),
}

/// Judges a node by whether its daemon is `ready`, `lost` being when it ceased to be. Where none is scheduled, nothing is done: the
/// node may be meant to be without.
pub(super) fn decide(marks: &Marks, node: &Marked, ready: Option<bool>, lost: Option<Instant>, now: Instant) -> Step {
    let ours = |taint: &Taint| taint.key == marks.taint;
    let tainted = node.taints.iter().any(ours);
    let write =
        |taints: Option<Vec<Taint>>, available| Step::Write(Write { version: node.version.clone(), taints, available });
    match ready {
        Some(true) => {
            let others = || node.taints.iter().filter(|taint| !ours(taint)).cloned().collect();
            let taints = (marks.remove && tainted).then(others);
            let available = marks.condition && !node.available;
            if taints.is_some() || available { write(taints, available) } else { Step::Nothing }
        }
        Some(false) if marks.set && !tainted => match lost.map(|lost| lost + GRACE) {
            Some(end) if end > now => Step::At(end),
            _ => {
                let taint = Taint { key: marks.taint.clone(), effect: "NoSchedule".to_owned(), ..Taint::default() };
                write(Some(node.taints.iter().cloned().chain([taint]).collect()), false)
            }
        },
        Some(false) | None => Step::Nothing,
    }
}
