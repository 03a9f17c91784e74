//! A node in a bottle: a thread with its own network and mount namespace, a BPF file system, and pods that are namespaces.

#![allow(dead_code, reason = "each test binary uses a part")]

pub mod host;
pub mod plugin;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::future::Future;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axoneme_node::desired::pods::{
    CLOSED_POLICY, EndpointSpec, INIT_IDENTITY, Limits, PodError, PodRef, Pods, ReserveSpec, Told,
};
use axoneme_node::link::netns::Namespace;
use axoneme_node::maps::bpf;
use axoneme_node::observe::outbox::Reports;
use axoneme_node::programs::Paths;
use axoneme_proto::address::from_bytes;
use axoneme_proto::nodesync::{Attached, Detached};
use futures::FutureExt;
use futures::future::BoxFuture;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::host::{GO_ON, SCHED_CLS, program};

/// Says whether this test may run. Without root it fails, unless somebody said that privileged tests are to be skipped.
pub fn privileged(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    if std::env::var_os("AXONEME_SKIP_PRIVILEGED").is_some_and(|value| value == "1") {
        eprintln!("skipped: {test} (needs root)");
        return false;
    }
    panic!("{test} needs root; set AXONEME_SKIP_PRIVILEGED=1 to skip it");
}

/// Directories of a node.
pub struct Bottle {
    directory: TempDir,
}

impl Bottle {
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn paths(&self) -> Paths {
        Paths::new(self.path("bpf/axoneme"))
    }
}

/// Runs `work` in a thread that is a node of its own.
pub fn on_node<T: Send + 'static>(work: impl FnOnce(&Bottle) -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let bottle = Bottle { directory: tempfile::tempdir().unwrap() };
        let bpffs = bottle.path("bpf");
        fs::create_dir(&bpffs).unwrap();
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        let result = work(&bottle);
        nix::mount::umount2(&bpffs, nix::mount::MntFlags::MNT_DETACH).unwrap();
        result
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs async work on this thread, and so in its namespaces.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Pins programs that let every packet through, where those of pods, uplinks and the overlay belong.
pub fn pin_trivial_programs(paths: &Paths) {
    for directory in [paths.root().to_owned(), paths.maps(), paths.programs(), paths.links(), paths.staging()] {
        fs::create_dir_all(directory).unwrap();
    }
    for name in ["from_pod", "to_pod", "from_uplink", "to_uplink", "from_overlay", "to_overlay"] {
        let path = paths.programs().join(name);
        let _ = fs::remove_file(&path);
        bpf::pin(program(SCHED_CLS, name, GO_ON).as_fd(), &path).unwrap();
    }
}

/// A pod's network namespace.
pub struct Pod {
    file: File,
}

impl Pod {
    pub fn new() -> Self {
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self { file: thread.join().unwrap() }
    }

    pub fn namespace(&self) -> Namespace {
        Namespace::new(self.file.try_clone().unwrap().into()).unwrap()
    }

    /// What a runtime would give as `CNI_NETNS`.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// The path of the namespace that the test's node is in.
    pub fn here() -> String {
        format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid())
    }

    /// Runs blocking work inside.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let file = self.file.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            nix::sched::setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// The desired state of pods, as a test says.
#[derive(Default)]
pub struct FakePods {
    state: Mutex<FakeState>,
    changed: Notify,
}

#[derive(Default)]
struct FakeState {
    pods: HashMap<String, Result<EndpointSpec, PodError>>,
    connected: bool,
    /// Pods of which peers are not told yet.
    untold: HashSet<String>,
    network: Option<PodError>,
    reserve: Option<ReserveSpec>,
}

impl FakePods {
    pub fn connected() -> Arc<Self> {
        let pods = Self::default();
        pods.state.lock().unwrap().connected = true;
        Arc::new(pods)
    }

    pub fn alone_with_reserve(first: &str, last: &str) -> Arc<Self> {
        let pods = Self::default();
        pods.state.lock().unwrap().reserve = Some(ReserveSpec {
            ranges: vec![(ip(first), ip(last))],
            identity: INIT_IDENTITY,
            policy_index: CLOSED_POLICY,
            gateways: vec![],
            mtu: 1450,
        });
        Arc::new(pods)
    }

    pub fn set(&self, uid: &str, identity: u32, policy_index: u32, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| ip(text)).collect();
        let spec = EndpointSpec {
            identity,
            policy_index,
            addresses,
            limits: Limits::default(),
            revision: 1,
            strict_barrier: false,
            gateways: vec![],
            named_ports: Default::default(),
            mtu: 1450,
        };
        self.state.lock().unwrap().pods.insert(uid.to_owned(), Ok(spec));
        self.changed.notify_waiters();
    }

    /// Changes what a pod gets.
    pub fn change(&self, uid: &str, change: impl FnOnce(&mut EndpointSpec)) {
        change(self.state.lock().unwrap().pods.get_mut(uid).unwrap().as_mut().unwrap());
    }

    /// Nobody is told of this pod for now.
    pub fn untold(&self, uid: &str) {
        self.state.lock().unwrap().untold.insert(uid.to_owned());
    }

    /// Everybody is told of this pod.
    pub fn tell(&self, uid: &str) {
        self.state.lock().unwrap().untold.remove(uid);
        self.changed.notify_waiters();
    }

    /// No operator any more.
    pub fn disconnect(&self) {
        self.state.lock().unwrap().connected = false;
        self.changed.notify_waiters();
    }

    /// The node's network is not set up.
    pub fn unready(&self, error: PodError) {
        self.state.lock().unwrap().network = Some(error);
    }

    pub fn fail(&self, uid: &str, error: PodError) {
        self.state.lock().unwrap().pods.insert(uid.to_owned(), Err(error));
        self.changed.notify_waiters();
    }
}

/// Shares the fake with the daemon.
pub struct SharedPods(pub Arc<FakePods>);

impl Pods for SharedPods {
    fn endpoint(&self, pod: PodRef, deadline: Instant) -> BoxFuture<'static, Result<EndpointSpec, PodError>> {
        let fake = Arc::clone(&self.0);
        async move {
            loop {
                let changed = fake.changed.notified();
                let (known, connected) = {
                    let state = fake.state.lock().unwrap();
                    (state.pods.get(&pod.uid).cloned(), state.connected)
                };
                match known {
                    Some(answer) => return answer,
                    None if connected && tokio::time::timeout_at(deadline, changed).await.is_ok() => {}
                    None => {
                        return Err(PodError::Unknown { namespace: pod.namespace, name: pod.name, connected });
                    }
                }
            }
        }
        .boxed()
    }

    fn told(&self, pod_uid: String, _revision: u64, deadline: Instant) -> BoxFuture<'static, Told> {
        let fake = Arc::clone(&self.0);
        async move {
            loop {
                let changed = fake.changed.notified();
                {
                    let state = fake.state.lock().unwrap();
                    if !state.untold.contains(&pod_uid) {
                        return Told::Told { skipped: 0 };
                    } else if !state.connected {
                        return Told::Disconnected;
                    }
                }
                if tokio::time::timeout_at(deadline, changed).await.is_err() {
                    return Told::Timeout;
                }
            }
        }
        .boxed()
    }

    fn network(&self) -> BoxFuture<'static, Result<(), PodError>> {
        let error = self.0.state.lock().unwrap().network.clone();
        async move { error.map_or(Ok(()), Err) }.boxed()
    }

    fn reserve(&self, _pod: PodRef) -> BoxFuture<'static, Result<ReserveSpec, PodError>> {
        let reserve = self.0.state.lock().unwrap().reserve.clone();
        async move { reserve.ok_or(PodError::NoReserve) }.boxed()
    }
}

/// Remembers what the operator would be told.
#[derive(Clone, Default)]
pub struct FakeReports {
    told: Arc<Mutex<Vec<String>>>,
}

impl FakeReports {
    /// What was told since the last time it was asked, in words.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Reports for FakeReports {
    fn attached(&self, attached: Attached) {
        let Attached { pod_uid, container_id, from_reserve, endpoint_id, identity, .. } = attached;
        let whence = if from_reserve { " from reserve" } else { "" };
        let text = format!(
            "attached {pod_uid} in {container_id}: {} id {endpoint_id} identity {identity}{whence}",
            list(&attached.addresses)
        );
        self.told.lock().unwrap().push(text);
    }

    fn detached(&self, detached: Detached) -> BoxFuture<'static, std::io::Result<()>> {
        let text = format!("detached {} in {}: {}", detached.pod_uid, detached.container_id, list(&detached.addresses));
        self.told.lock().unwrap().push(text);
        async { Ok(()) }.boxed()
    }
}

fn list(addresses: &[Vec<u8>]) -> String {
    addresses.iter().map(|bytes| from_bytes(bytes).unwrap().to_string()).collect::<Vec<_>>().join(",")
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
