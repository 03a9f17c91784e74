//! What is wrong, and since when: what passes by itself is not worth an event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axoneme_proto::nodesync::{FailureCode, RowFailure};
use tokio::time::Instant;

use super::notice::{Notice, Regarding};
use crate::engine::{Diagnostic, Reason, Unmet, UnmetReason};
use crate::object::{Kind, ObjectKey};
use crate::watch;

/// What waits for something else gets an event when it has waited for this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What waits for nodes that are silent or slow is said after this time: it is not the user's doing.
const LONG: Duration = Duration::from_secs(300);

/// Reason of events about rows that a node could not apply.
const NOT_PROGRAMMED: &str = "NotProgrammed";

/// Who says that a demand is not met.
const UNMET: &str = "unmet";

type Source = (ObjectKey, &'static str);

/// Node, table and key of a row, and an object that it was made of.
type Failure = (Arc<str>, i32, String, ObjectKey);

/// Everything that is wrong now.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// By object and who says it; each with when it is due.
    said: HashMap<Source, Vec<(Notice, Instant)>>,
    /// Of rows that nodes could not apply.
    failures: BTreeMap<Failure, (Notice, Instant)>,
}

impl Problems {
    /// All that the compiler finds wrong with an object.
    pub(super) fn compiled(&mut self, object: &ObjectKey, diagnostics: &[Diagnostic], now: Instant) {
        let notices = diagnostics.iter().map(|diagnostic| {
            let early = matches!(diagnostic.reason, Reason::NoMatchingPods | Reason::NoMatchingNodes);
            let waits = early || matches!(diagnostic.reason, Reason::Waiting | Reason::NoSuchObject);
            let notice = Notice {
                about: Regarding::Object(object.clone()),
                warning: !early,
                reason: diagnostic.reason.as_str(),
                message: with_field(&diagnostic.field, &diagnostic.message),
            };
            (notice, if waits { now + PATIENCE } else { now })
        });
        self.replace((object.clone(), "compiled"), notices.collect());
    }

    /// All of an object that could not be read.
    pub(super) fn watched(&mut self, problems: &watch::Problems, now: Instant) {
        let notices = problems.problems.iter().map(|problem| {
            let notice = Notice {
                about: Regarding::Object(problems.object.clone()),
                warning: true,
                reason: Reason::InvalidField.as_str(),
                message: with_field(&problem.field, &problem.message),
            };
            (notice, now)
        });
        self.replace((problems.object.clone(), "watched"), notices.collect());
    }

    /// All demands that cannot be met.
    pub(super) fn unmet(&mut self, unmet: &[Unmet], now: Instant) {
        let mut objects: HashMap<&ObjectKey, Vec<(Notice, Instant)>> = HashMap::new();
        for Unmet { object, reason } in unmet {
            let (name, patience) = match reason {
                UnmetReason::NoNode(_)
                | UnmetReason::NoCidr(_)
                | UnmetReason::NoPodCidr(_)
                | UnmetReason::NoPool(_) => ("FailedAddressAllocation", PATIENCE),
                UnmetReason::NotForgotten { .. } | UnmetReason::Attached(_) => (Reason::Waiting.as_str(), LONG),
                UnmetReason::Conflict { .. } => (Reason::Conflict.as_str(), Duration::ZERO),
            };
            let about = Regarding::Object(object.clone());
            let notice = Notice { about, warning: true, reason: name, message: reason.to_string() };
            objects.entry(object).or_default().push((notice, now + patience));
        }
        let over = self.said.extract_if(|(object, by), _| *by == UNMET && !objects.contains_key(object));
        over.for_each(drop);
        for (object, notices) in objects {
            self.replace((object.clone(), UNMET), notices);
        }
    }

    /// What waits already keeps its time.
    fn replace(&mut self, source: Source, mut notices: Vec<(Notice, Instant)>) {
        if let Some(former) = self.said.get(&source) {
            for (notice, due) in &mut notices {
                if let Some((_, before)) = former.iter().find(|(former, _)| former == notice) {
                    *due = *before;
                }
            }
        }
        if notices.is_empty() {
            self.said.remove(&source);
        } else {
            self.said.insert(source, notices);
        }
    }

    /// A row that a node fails to apply, or applies again.
    pub(super) fn failed(&mut self, node: &Arc<str>, object: Option<&ObjectKey>, failure: &RowFailure, now: Instant) {
        let Some(key) = &failure.key else { return };
        let code = failure.code();
        let (what, due) = match code {
            FailureCode::None => {
                self.failures.retain(|(on, table, of, _), _| on != node || *table != key.table || *of != key.key);
                return;
            }
            FailureCode::Capacity => ("a map of the kernel is full".to_owned(), now),
            FailureCode::Unsupported => ("its daemon is too old for this".to_owned(), now),
            FailureCode::Invalid => ("its daemon cannot read it".to_owned(), now),
            FailureCode::Dependency => ("it waits for something else".to_owned(), now + PATIENCE),
            FailureCode::Kernel => (format!("its kernel refuses (errno {})", failure.errno), now + PATIENCE),
        };
        let about = object.cloned().unwrap_or_else(|| ObjectKey::cluster(Kind::Node, node));
        let message =
            format!("node {node} has not programmed {} {:?}: {what}: {}", key.scope, key.key, failure.message);
        let id = (Arc::clone(node), key.table, key.key.clone(), about.clone());
        let notice = Notice { about: Regarding::Object(about), warning: true, reason: NOT_PROGRAMMED, message };
        let due = self.failures.get(&id).map_or(due, |(_, before)| due.min(*before));
        self.failures.insert(id, (notice, due));
    }

    /// What is to be said by now. Said again at every call: who publishes remembers.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = &Notice> {
        let said = self.said.values().flatten();
        said.chain(self.failures.values()).filter(move |(_, due)| *due <= now).map(|(notice, _)| notice)
    }
}

fn with_field(field: &str, message: &str) -> String {
    if field.is_empty() { message.to_owned() } else { format!("{field}: {message}") }
}
