//! One kind's watch: lists, watches, recovers, and says explicitly what is gone.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::ObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::context::{Context, text};
use super::guard::Guarded;
use super::{Problem, Problems, Sink, Watched};
use crate::engine::Input;
use crate::object::{Name, ObjectKey, Versions};

/// First and longest pause after an error.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often the API server is asked for a kind that it does not have.
const ABSENT: Duration = Duration::from_secs(1);

/// So long a watch may be behind what nodes know. Longer, and it is behind because that API server is, or because the newest
/// object was gone when it listed; only a list tells.
const BEHIND: Duration = Duration::from_secs(1);

/// Lists that nodes ask for are this far apart: one that says nonsense shall not keep the API server busy.
const APART: Duration = Duration::from_secs(60);

/// Why a watch begins anew.
enum Ended {
    /// The API server does not stream lists.
    FallBack,
    /// Nodes know of this version.
    Behind(u64),
    /// Nobody knows.
    Itself,
}

/// Follows the objects of `api` that `selected` names until the sink is closed; lists anew when it stays behind what is `wanted`.
pub(super) async fn follow<K: Watched, S: Sink>(
    api: Api<Guarded<K>>,
    selected: watcher::Config,
    mut wanted: watch::Receiver<Versions>,
    sink: S,
    problems: mpsc::UnboundedSender<Problems>,
) {
    let mut known = Known::<K, S>::new(sink, problems);
    let mut fallen_back = false;
    let mut not_before = Instant::now();
    let mut backoff = BACKOFF.0;
    loop {
        // A streamed list may be of any age; one in pages is of now.
        let streaming = !fallen_back && known.asked.is_none();
        let config = match streaming {
            true => selected.clone().streaming_lists(),
            false => selected.clone(),
        };
        let mut events = pin!(watcher::watcher(api.clone(), config));
        let mut due = None;
        let ended = loop {
            let target = wanted.borrow_and_update().of(K::KIND);
            due = due.or(Some(not_before.max(Instant::now() + BEHIND))).filter(|_| known.is_behind(target));
            let event = tokio::select! {
                event = events.next() => event,
                Ok(()) = wanted.changed() => continue,
                () = until(due) => break Ended::Behind(target),
            };
            let open = match event {
                Some(Ok(event)) => {
                    backoff = BACKOFF.0;
                    known.event(event).await
                }
                Some(Err(error)) => match judge(&error, streaming) {
                    Verdict::FallBack => break Ended::FallBack,
                    Verdict::Absent => {
                        let open = known.absent().await;
                        tokio::time::sleep(ABSENT).await;
                        open
                    }
                    Verdict::Retry => {
                        warn!(kind = %K::KIND, %error, "watch interrupted");
                        tokio::time::sleep(backoff).await;
                        backoff = (backoff * 2).min(BACKOFF.1);
                        true
                    }
                },
                None => break Ended::Itself,
            };
            if !open {
                return;
            }
        };
        match ended {
            Ended::FallBack => {
                info!(kind = %K::KIND, "the API server does not stream lists; listing in pages");
                fallen_back = true;
            }
            Ended::Behind(version) => {
                info!(kind = %K::KIND, version, "nodes know more than this watch, which lists anew");
                known.asked = Some(version);
                not_before = Instant::now() + APART;
            }
            Ended::Itself => {}
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    FallBack,
    Absent,
    Retry,
}

fn judge(error: &watcher::Error, streaming: bool) -> Verdict {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    let code = match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => status.code,
        _ => return Verdict::Retry,
    };
    match (code, error) {
        (404, _) => Verdict::Absent,
        // Invalid: `sendInitialEvents` is not allowed.
        (400 | 422, WatchStartFailed(_)) if streaming => Verdict::FallBack,
        _ => Verdict::Retry,
    }
}

/// What the sink was told to exist.
pub(super) struct Known<K, S> {
    sink: S,
    problems: mpsc::UnboundedSender<Problems>,
    context: Context,
    /// UIDs: an object that was deleted and created again under the same name is another one.
    objects: HashMap<Name, Arc<str>>,
    /// Objects with problems, so that it is said when they are gone.
    ailing: HashSet<Name>,
    /// Objects that a list has not named yet.
    unseen: Option<HashSet<Name>>,
    synced: bool,
    /// The newest resourceVersion of its objects and deletions, and up to where the sink was told.
    version: u64,
    said: u64,
    /// The version because of which a consistent list is under way, and the one because of which the last was.
    pub(super) asked: Option<u64>,
    listed: u64,
    kind: std::marker::PhantomData<fn() -> K>,
}

impl<K: Watched, S: Sink> Known<K, S> {
    pub(super) fn new(sink: S, problems: mpsc::UnboundedSender<Problems>) -> Self {
        Self {
            sink,
            problems,
            context: Context::default(),
            objects: HashMap::new(),
            ailing: HashSet::new(),
            unseen: None,
            synced: false,
            version: 0,
            said: 0,
            asked: None,
            listed: 0,
            kind: std::marker::PhantomData,
        }
    }

    /// False when the sink is closed.
    pub(super) async fn event(&mut self, event: Event<Guarded<K>>) -> bool {
        match event {
            Event::Init => {
                self.unseen = Some(self.objects.keys().cloned().collect());
                true
            }
            Event::InitApply(object) => self.apply(object).await,
            Event::Apply(object) => self.apply(object).await && self.say_version().await,
            Event::Delete(object) => {
                self.note_version(object.meta());
                let name = self.context.name(object.meta());
                self.remove(name).await && self.say_version().await
            }
            Event::InitDone => self.init_done().await && self.listed().await,
        }
    }

    /// Whether somebody knows more, and nothing is done about it yet.
    fn is_behind(&self, wanted: u64) -> bool {
        self.asked.is_none() && wanted > self.version.max(self.listed)
    }

    /// What is no number is not compared: nobody waits for it.
    fn note_version(&mut self, metadata: &ObjectMeta) {
        let version = metadata.resource_version.as_deref().and_then(|text| text.parse().ok());
        self.version = self.version.max(version.unwrap_or(0));
    }

    async fn say_version(&mut self) -> bool {
        if self.version == self.said {
            return true;
        }
        self.said = self.version;
        self.sink.deliver(Input::Seen(K::KIND, self.version)).await
    }

    /// A list is complete.
    async fn listed(&mut self) -> bool {
        let Some(asked) = self.asked.take() else { return true };
        self.listed = asked;
        self.sink.deliver(Input::Listed(K::KIND, asked)).await
    }

    /// The API server does not have the kind. At first that means that nothing of it exists; later, what was there is gone only
    /// when its deletion was seen or a list says so.
    pub(super) async fn absent(&mut self) -> bool {
        (self.synced || self.init_done().await) && self.listed().await
    }

    async fn init_done(&mut self) -> bool {
        for name in self.unseen.take().unwrap_or_default() {
            if !self.remove(name).await {
                return false;
            }
        }
        if !self.say_version().await {
            return false;
        }
        if self.synced {
            return true;
        }
        self.synced = true;
        debug!(kind = %K::KIND, objects = self.objects.len(), "synced");
        self.sink.deliver(Input::Synced(K::KIND)).await
    }

    async fn apply(&mut self, object: Guarded<K>) -> bool {
        self.note_version(object.meta());
        let name = self.context.name(object.meta());
        let uid = text(object.meta().uid.as_deref());
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(&name);
        }
        // Its deletion happened unseen.
        if self.objects.get(&name).is_some_and(|known| *known != uid) && !self.remove(name.clone()).await {
            return false;
        }
        let converted = match object {
            Guarded::Valid(object) => object.convert(&mut self.context),
            Guarded::Invalid(invalid) => {
                self.context.problem(invalid.field, invalid.error);
                K::stand_in(&invalid.metadata, &mut self.context)
            }
        };
        self.say_problems(&name, &uid);
        match converted {
            Some(object) => {
                self.objects.insert(name, uid);
                self.sink.deliver(Input::Upsert(object)).await
            }
            // What was understood before is not kept: live and listed again must mean the same.
            None => self.remove_object(name).await,
        }
    }

    async fn remove(&mut self, name: Name) -> bool {
        if self.ailing.remove(&name) {
            let uid = self.objects.get(&name).cloned().unwrap_or_default();
            self.problems.send(Problems { object: key::<K>(&name), uid, problems: Vec::new() }).ok();
        }
        self.remove_object(name).await
    }

    async fn remove_object(&mut self, name: Name) -> bool {
        match self.objects.remove(&name) {
            Some(_) => self.sink.deliver(Input::Delete(key::<K>(&name))).await,
            None => true,
        }
    }

    fn say_problems(&mut self, name: &Name, uid: &Arc<str>) {
        let problems: Vec<Problem> = self.context.take_problems();
        let changed = if problems.is_empty() { self.ailing.remove(name) } else { self.ailing.insert(name.clone()) };
        if changed || !problems.is_empty() {
            self.problems.send(Problems { object: key::<K>(name), uid: Arc::clone(uid), problems }).ok();
        }
    }
}

fn key<K: Watched>(name: &Name) -> ObjectKey {
    ObjectKey { kind: K::KIND, name: name.clone() }
}
