//! Which objects there are, and of which something is to be said.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use kube::runtime::watcher::Event;
use tokio::time::Instant;

use super::kinds::CustomKind;
use super::object::Slim;
use crate::status::notice::Reference;

/// What was said is said again after this time: events are kept for an hour, and who publishes them repeats none sooner.
pub(super) const AGAIN: Duration = Duration::from_secs(3_700);

/// Index of the kind, namespace and name.
type Key = (usize, Option<String>, String);

/// What is to be said of an object.
#[derive(Debug)]
pub(super) struct Told {
    /// Index of its kind.
    pub(super) kind: usize,
    pub(super) about: Reference,
    /// Whether it lacks the condition.
    pub(super) condition: bool,
    /// Since when it had one in other words.
    pub(super) since: Option<String>,
}

#[derive(Debug)]
struct Known {
    about: Reference,
    /// Whether it lacks the condition.
    lacks: bool,
    since: Option<String>,
    said: Option<Instant>,
}

/// All objects of all kinds.
#[derive(Debug)]
pub(super) struct Report<'a> {
    kinds: &'a [CustomKind],
    objects: HashMap<Key, Known>,
    /// Objects of which something is to be said, each once; some may be gone.
    queue: VecDeque<Key>,
    queued: HashSet<Key>,
    /// Objects of a kind that its list has not named yet.
    unseen: HashMap<usize, HashSet<Key>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(kinds: &'a [CustomKind]) -> Self {
        let (objects, queued, unseen) = (HashMap::new(), HashSet::new(), HashMap::new());
        Self { kinds, objects, queue: VecDeque::new(), queued, unseen }
    }

    /// What the watch of a kind tells.
    pub(super) fn event(&mut self, kind: usize, event: Event<Slim>) {
        match event {
            Event::Init => {
                let known = self.objects.keys().filter(|key| key.0 == kind).cloned().collect();
                self.unseen.insert(kind, known);
            }
            Event::InitApply(object) | Event::Apply(object) => self.apply(kind, &object),
            Event::Delete(object) => {
                self.objects.remove(&key(kind, &object));
            }
            Event::InitDone => {
                for gone in self.unseen.remove(&kind).unwrap_or_default() {
                    self.objects.remove(&gone);
                }
            }
        }
    }

    fn apply(&mut self, kind: usize, object: &Slim) {
        let key = key(kind, object);
        if let Some(unseen) = self.unseen.get_mut(&kind) {
            unseen.remove(&key);
        }
        let CustomKind { resource, conditions, .. } = &self.kinds[kind];
        let lacks = *conditions && !object.says_so(resource);
        let about = object.reference(resource);
        // One of the same name may be another object.
        let said = self.objects.get(&key).filter(|known| known.about.uid == about.uid).and_then(|known| known.said);
        if said.is_none() {
            self.enqueue(key.clone());
        }
        self.objects.insert(key, Known { about, lacks, since: object.since(), said });
    }

    fn enqueue(&mut self, key: Key) {
        if self.queued.insert(key.clone()) {
            self.queue.push_back(key);
        }
    }

    /// Whether something is to be said.
    pub(super) fn waits(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next object of which something is to be said, as if it had been said.
    pub(super) fn next(&mut self, now: Instant) -> Option<Told> {
        while let Some(key) = self.queue.pop_front() {
            self.queued.remove(&key);
            if let Some(known) = self.objects.get_mut(&key) {
                known.said = Some(now);
                let Known { about, lacks, since, .. } = &*known;
                return Some(Told { kind: key.0, about: about.clone(), condition: *lacks, since: since.clone() });
            }
        }
        None
    }

    /// Looks for objects of which nobody has heard for long, and for those that still lack their condition: it could not be
    /// written, or somebody took it away.
    pub(super) fn look(&mut self, now: Instant) {
        let due = |known: &Known| known.lacks || known.said.is_none_or(|said| now.duration_since(said) >= AGAIN);
        let due: Vec<Key> = self.objects.iter().filter(|(_, known)| due(known)).map(|(key, _)| key.clone()).collect();
        due.into_iter().for_each(|key| self.enqueue(key));
    }
}

fn key(kind: usize, object: &Slim) -> Key {
    (kind, object.metadata.namespace.clone(), object.metadata.name.clone().unwrap_or_default())
}
