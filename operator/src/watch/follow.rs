//! One kind's watch: lists, watches, recovers, and says explicitly what is gone.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::context::{Context, text};
use super::guard::Guarded;
use super::{Problem, Problems, Sink, Watched};
use crate::engine::Input;
use crate::object::{Name, ObjectKey};

/// First and longest pause after an error.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often the API server is asked for a kind that it does not have.
const ABSENT: Duration = Duration::from_secs(1);

/// Follows the objects of `api` that `selected` names until the sink is closed.
pub(super) async fn follow<K: Watched, S: Sink>(
    api: Api<Guarded<K>>,
    selected: watcher::Config,
    sink: S,
    problems: mpsc::UnboundedSender<Problems>,
) {
    let mut known = Known::<K, S>::new(sink, problems);
    let mut streaming = true;
    let mut backoff = BACKOFF.0;
    loop {
        let config = match streaming {
            true => selected.clone().streaming_lists(),
            false => selected.clone(),
        };
        let mut events = pin!(watcher::watcher(api.clone(), config));
        let fall_back = loop {
            let open = match events.next().await {
                Some(Ok(event)) => {
                    backoff = BACKOFF.0;
                    known.event(event).await
                }
                Some(Err(error)) => match judge(&error, streaming) {
                    Verdict::FallBack => break true,
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
                None => break false,
            };
            if !open {
                return;
            }
        };
        if fall_back {
            info!(kind = %K::KIND, "the API server does not stream lists; listing in pages");
            streaming = false;
        }
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
            Event::InitApply(object) | Event::Apply(object) => self.apply(object).await,
            Event::Delete(object) => {
                let name = self.context.name(object.meta());
                self.remove(name).await
            }
            Event::InitDone => self.init_done().await,
        }
    }

    /// The API server does not have the kind. At first that means that nothing of it exists; later, what was there is gone only
    /// when its deletion was seen or a list says so.
    pub(super) async fn absent(&mut self) -> bool {
        if self.synced { true } else { self.init_done().await }
    }

    async fn init_done(&mut self) -> bool {
        for name in self.unseen.take().unwrap_or_default() {
            if !self.remove(name).await {
                return false;
            }
        }
        if self.synced {
            return true;
        }
        self.synced = true;
        debug!(kind = %K::KIND, objects = self.objects.len(), "synced");
        self.sink.deliver(Input::Synced(K::KIND)).await
    }

    async fn apply(&mut self, object: Guarded<K>) -> bool {
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
