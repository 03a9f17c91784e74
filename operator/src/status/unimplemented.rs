//! Objects that nothing is done with yet: their owners are told so.
//!
//! All of Cilium's kinds are defined, so that manifests and tools keep working, but not all of them do something here. Each
//! object of such a kind gets the event `NotImplemented`, again every hour for as long as it exists, and where its kind has
//! conditions, the condition `Implemented: False`. Only the leader says so, and only the leader watches these kinds.
//!
//! A kind that something is done with is in `kinds::WORKING`. Conditions that an earlier release has written on its objects are
//! taken away by whoever leads first.

mod condition;
mod kinds;
mod object;
mod report;
mod withdraw;

#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::{StreamExt, stream};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::notice::{Notice, Notices, Regarding};
pub use condition::CONDITION;
use kinds::working;
pub use kinds::{CustomKind, unimplemented};
use object::Slim;
use report::{Report, Told};
pub use withdraw::withdraw_conditions;

/// Reason of the event and of the condition.
pub const REASON: &str = "NotImplemented";

/// Between two objects: what is said of others has its place in between, and the API server has other work.
const PACE: Duration = Duration::from_millis(100);

/// How often it is looked for what is to be said again.
const LOOK: Duration = Duration::from_secs(30);

/// What is told of an object of `kind`.
#[must_use]
pub fn message(kind: &str) -> String {
    format!("Axoneme {} does nothing with {kind} objects yet: this one has no effect", env!("CARGO_PKG_VERSION"))
}

/// Tells owners until it is dropped, and takes back what is not true any more. `watching` is for requests that last.
pub async fn report_unimplemented(client: Client, watching: Client, notices: Notices) {
    let earlier = working();
    tokio::join!(withdraw_conditions(&client, &earlier), tell_owners(&client, watching, notices));
}

async fn tell_owners(client: &Client, watching: Client, notices: Notices) {
    let kinds = unimplemented();
    info!(kinds = kinds.len(), "watching kinds that nothing is done with yet");
    let streams = kinds.iter().enumerate().map(|(index, kind)| {
        let api = Api::<Slim>::all_with(watching.clone(), &kind.resource);
        watcher(api, watcher::Config::default()).default_backoff().map(move |event| (index, event)).boxed()
    });
    let mut events = stream::select_all(streams);
    let mut report = Report::new(&kinds);
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look = interval(LOOK);
    loop {
        tokio::select! {
            Some((index, event)) = events.next() => match event {
                Ok(event) => report.event(index, event),
                Err(error) => warn!(kind = kinds[index].resource.kind, %error, "watch interrupted"),
            },
            _ = pace.tick(), if report.waits() => {
                if let Some(told) = report.next(Instant::now()) {
                    tell(client, &kinds[told.kind], told, &notices).await;
                }
            }
            _ = look.tick() => report.look(Instant::now()),
        }
    }
}

async fn tell(client: &Client, kind: &CustomKind, told: Told, notices: &Notices) {
    let Told { about, condition, since, .. } = told;
    if condition && let Err(error) = condition::write(client, kind, &about, since).await {
        // It is tried again, because the object still has none.
        warn!(kind = kind.resource.kind, namespace = about.namespace, name = about.name, %error, "no condition written");
    }
    let message = message(&kind.resource.kind);
    notices.say(Notice { about: Regarding::Known(about), warning: true, reason: REASON, message });
}
