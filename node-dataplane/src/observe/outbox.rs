//! What has to reach the operator at least once: repeated until it is acknowledged, numbered across restarts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axoneme_proto::nodesync::observation::Event;
use axoneme_proto::nodesync::{AllAttached, Attached, Detached, NodeReport, Observation};
use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;
use tokio::sync::watch;

/// Numbers that are drawn with one write to the disk.
const RESERVED: u64 = 1000;

/// Where the CNI server tells of attachments.
pub trait Reports: Send + Sync {
    /// A pod was attached. Not persisted: the attachments are, and are told again after a restart.
    fn attached(&self, attached: Attached);

    /// A pod's last attachment is gone. Done when it is on disk, so that it reaches the operator even if the daemon dies.
    fn detached(&self, detached: Detached) -> BoxFuture<'static, io::Result<()>>;
}

/// On disk.
#[derive(Clone, PartialEq, Message)]
struct Saved {
    /// No number below this one is drawn again.
    #[prost(uint64, tag = "1")]
    next: u64,
    #[prost(message, repeated, tag = "2")]
    detached: Vec<Observation>,
}

#[derive(Debug)]
struct Inner {
    node: String,
    path: PathBuf,
    next: u64,
    reserved: u64,
    pending: BTreeMap<u64, Observation>,
    /// Rises with every change of what is pending.
    version: u64,
}

/// What waits to be told. Clones share it.
#[derive(Clone, Debug)]
pub struct Outbox {
    inner: Arc<Mutex<Inner>>,
    /// Tells sessions of news.
    newest: Arc<watch::Sender<u64>>,
    /// One write at a time; the version that the last one had.
    writing: Arc<tokio::sync::Mutex<u64>>,
}

impl Outbox {
    /// Continues the numbers in `path`.
    ///
    /// # Errors
    /// When the file cannot be written: numbers would repeat.
    pub fn open(node: &str, path: PathBuf) -> io::Result<Self> {
        let saved = fs::read(&path).ok().and_then(|bytes| Saved::decode(bytes.as_slice()).ok());
        let next = match &saved {
            Some(saved) => saved.next,
            // Whatever was numbered before a disk was lost had a lower number than this.
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_millis() as u64),
        };
        let pending: BTreeMap<u64, Observation> =
            saved.map(|saved| saved.detached).unwrap_or_default().into_iter().map(|one| (one.sequence, one)).collect();
        let inner = Inner { node: node.to_owned(), path, next, reserved: next + RESERVED, pending, version: 1 };
        write(&inner.path, &inner.saved())?;
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
            newest: Arc::new(watch::Sender::new(next)),
            writing: Arc::default(),
        })
    }

    /// Facts about the node; only the newest ones count.
    pub fn node_report(&self, report: NodeReport) {
        let mut inner = self.lock();
        inner.pending.retain(|_, one| !matches!(one.event, Some(Event::NodeReport(_))));
        self.push(&mut inner, Event::NodeReport(report));
    }

    /// All attachments of this moment. Whatever was to be said of single ones before is overtaken, but not that pods are gone.
    pub fn all_attached(&self, attached: Vec<Attached>) {
        let mut inner = self.lock();
        inner.pending.retain(|_, one| !matches!(one.event, Some(Event::Attached(_) | Event::AllAttached(_))));
        self.push(&mut inner, Event::AllAttached(AllAttached { attached }));
    }

    /// Everything after `sequence` that was not acknowledged.
    #[must_use]
    pub fn after(&self, sequence: u64) -> Vec<Observation> {
        self.lock().pending.range(sequence.saturating_add(1)..).map(|(_, one)| one.clone()).collect()
    }

    /// The next one after `sequence` that was not acknowledged.
    #[must_use]
    pub fn next_after(&self, sequence: u64) -> Option<Observation> {
        self.lock().pending.range(sequence.saturating_add(1)..).next().map(|(_, one)| one.clone())
    }

    /// Whether everything was acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().pending.is_empty()
    }

    /// All up to `sequence` are recorded.
    pub async fn acknowledged(&self, sequence: u64) {
        let recorded = {
            let mut inner = self.lock();
            inner.version += 1;
            let waiting = inner.pending.split_off(&sequence.saturating_add(1));
            std::mem::replace(&mut inner.pending, waiting)
        };
        // A detachment that stayed on disk would be told again after a restart, when its pod may be attached anew.
        if recorded.values().any(is_detachment)
            && let Err(err) = self.save().await
        {
            tracing::warn!(%err, "detachments that the operator knows of may be told again");
        }
    }

    /// Writes what must outlive the daemon. One write serves all who have asked before it began: the disk takes milliseconds.
    async fn save(&self) -> io::Result<()> {
        let wanted = self.lock().version;
        let mut done = self.writing.lock().await;
        if *done >= wanted {
            return Ok(());
        }
        let (path, saved, version) = {
            let inner = self.lock();
            (inner.path.clone(), inner.saved(), inner.version)
        };
        let reserved = saved.next;
        let written = tokio::task::spawn_blocking(move || write(&path, &saved)).await;
        written.unwrap_or_else(|err| Err(io::Error::other(err)))?;
        self.lock().reserved = reserved;
        *done = version;
        Ok(())
    }

    /// [`save`](Self::save)s beside; `otherwise` is what follows from a failure.
    fn save_soon(&self, otherwise: &'static str) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(err) = this.save().await {
                tracing::warn!(%err, "{otherwise}");
            }
        });
    }

    /// Changes when there is more to tell.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, inner: &mut Inner, event: Event) -> u64 {
        let sequence = inner.next;
        inner.next += 1;
        inner.version += 1;
        let left = inner.reserved.saturating_sub(inner.next);
        // Long before they are used up, and again and again if the disk refuses.
        if left <= RESERVED / 2 && left.is_multiple_of(RESERVED / 10) {
            self.save_soon("numbers of observations may repeat after a restart");
        }
        let one = Observation { node: inner.node.clone(), sequence, event: Some(event) };
        inner.pending.insert(sequence, one);
        self.newest.send_replace(sequence);
        sequence
    }
}

impl Reports for Outbox {
    fn attached(&self, attached: Attached) {
        let mut inner = self.lock();
        // Earlier words about this container, and that its pod was gone, are overtaken.
        let overtaken = |one: &Observation| match &one.event {
            Some(Event::Attached(other)) => other.container_id == attached.container_id,
            Some(Event::Detached(other)) => other.pod_uid == attached.pod_uid,
            _ => false,
        };
        let revived = inner.pending.values().any(|one| is_detachment(one) && overtaken(one));
        inner.pending.retain(|_, one| !overtaken(one));
        self.push(&mut inner, Event::Attached(attached));
        drop(inner);
        if revived {
            self.save_soon("a detachment that is overtaken may be told after a restart");
        }
    }

    fn detached(&self, detached: Detached) -> BoxFuture<'static, io::Result<()>> {
        {
            let mut inner = self.lock();
            self.push(&mut inner, Event::Detached(detached));
        }
        let this = self.clone();
        async move { this.save().await }.boxed()
    }
}

fn is_detachment(one: &Observation) -> bool {
    matches!(one.event, Some(Event::Detached(_)))
}

impl Inner {
    fn saved(&self) -> Saved {
        let detached = self.pending.values().filter(|one| is_detachment(one));
        Saved { next: self.next + RESERVED, detached: detached.cloned().collect() }
    }
}

fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&saved.encode_to_vec())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn detached(uid: &str) -> Detached {
        Detached { pod_uid: uid.into(), ..Detached::default() }
    }

    #[tokio::test]
    async fn a_detachment_outlives_the_daemon_and_numbers_rise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("observations");
        let outbox = Outbox::open("n", path.clone()).unwrap();
        outbox.attached(Attached { container_id: "c".into(), ..Attached::default() });
        outbox.detached(detached("a")).await.unwrap();
        let told = outbox.after(0);
        assert_eq!(told.len(), 2);
        let outbox = Outbox::open("n", path.clone()).unwrap();
        assert_eq!(outbox.after(0), told[1..]);
        outbox.detached(detached("b")).await.unwrap();
        let again = outbox.after(told[1].sequence);
        assert_eq!(again.len(), 1);
        assert!(again[0].sequence > told[1].sequence);
        outbox.acknowledged(told[1].sequence).await;
        assert_eq!(outbox.after(0), again);
        assert_eq!(Outbox::open("n", path).unwrap().after(0), again);
    }

    #[tokio::test]
    async fn detachments_that_come_together_all_outlive_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("observations");
        let outbox = Outbox::open("n", path.clone()).unwrap();
        let one = |number: u64| {
            let (outbox, path) = (&outbox, &path);
            async move {
                outbox.detached(detached(&number.to_string())).await.unwrap();
                let saved = Saved::decode(fs::read(path).unwrap().as_slice()).unwrap();
                let named = |one: &Observation| one.event == Some(Event::Detached(detached(&number.to_string())));
                assert!(saved.detached.iter().any(named), "{number} is told to be on disk");
            }
        };
        futures::future::join_all((0..50).map(one)).await;
        let last = outbox.after(0).last().unwrap().sequence;
        outbox.acknowledged(last).await;
        assert!(Outbox::open("n", path).unwrap().is_empty());
    }

    #[tokio::test]
    async fn numbers_do_not_repeat_after_a_restart_at_any_moment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("observations");
        let outbox = Outbox::open("n", path.clone()).unwrap();
        for number in 0..3 * RESERVED {
            outbox.node_report(NodeReport::default());
            if number % 10 == 0 {
                outbox.detached(detached(&number.to_string())).await.unwrap();
                let saved = Saved::decode(fs::read(&path).unwrap().as_slice()).unwrap();
                assert!(saved.next > *outbox.newest.borrow());
            }
        }
        for _ in 0..3 * RESERVED {
            outbox.node_report(NodeReport::default());
            // Reports come seconds apart, a write takes milliseconds.
            let low = || outbox.lock().reserved <= *outbox.newest.borrow() + RESERVED / 3;
            tokio::time::timeout(Duration::from_secs(60), async {
                while low() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await
            .expect("numbers are reserved without being asked for");
        }
        let last = *outbox.newest.borrow();
        let outbox = Outbox::open("n", path).unwrap();
        outbox.node_report(NodeReport::default());
        assert!(*outbox.newest.borrow() > last);
    }

    #[tokio::test]
    async fn a_pod_that_is_attached_again_was_not_detached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("observations");
        let outbox = Outbox::open("n", path.clone()).unwrap();
        outbox.detached(detached("a")).await.unwrap();
        let again = Attached { pod_uid: "a".into(), container_id: "d".into(), ..Attached::default() };
        outbox.attached(again.clone());
        let told: Vec<_> = outbox.after(0).into_iter().filter_map(|one| one.event).collect();
        assert_eq!(told, [Event::Attached(again)]);
        outbox.save().await.unwrap();
        assert!(Outbox::open("n", path).unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_is_attached_in_all_overtakes_single_words_but_no_detachment() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open("n", folder.path().join("observations")).unwrap();
        let attached = |container: &str| Attached { container_id: container.into(), ..Attached::default() };
        outbox.attached(attached("c"));
        outbox.detached(detached("a")).await.unwrap();
        for all in [vec![], vec![attached("c"), attached("d")]] {
            outbox.all_attached(all);
        }
        let told: Vec<_> = outbox.after(0).into_iter().filter_map(|one| one.event).collect();
        let all = AllAttached { attached: vec![attached("c"), attached("d")] };
        assert_eq!(told, [Event::Detached(detached("a")), Event::AllAttached(all)]);
    }

    #[tokio::test]
    async fn only_the_newest_report_and_the_newest_word_of_a_container_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open("n", folder.path().join("observations")).unwrap();
        for ready in [false, true] {
            outbox.node_report(NodeReport { ready, ..NodeReport::default() });
            outbox.attached(Attached { container_id: "c".into(), from_reserve: !ready, ..Attached::default() });
        }
        let told: Vec<_> = outbox.after(0).into_iter().filter_map(|one| one.event).collect();
        let attached = Attached { container_id: "c".into(), ..Attached::default() };
        let report = NodeReport { ready: true, ..NodeReport::default() };
        assert_eq!(told, [Event::NodeReport(report), Event::Attached(attached)]);
    }
}
