//! A node of which the tests play the operator, and what they say to it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axoneme_node::desired::Desired;
use axoneme_node::observe::outbox::Outbox;
use axoneme_node::observe::reporter::Reporter;
use axoneme_node::reconcile::metrics::Metrics;
use axoneme_node::reconcile::{Engine, State, Task, state};
use axoneme_node::sync::dial::{Dial, Tcp};
use axoneme_node::sync::session::Me;
use axoneme_node::sync::{self, Sync, SyncError};
use axoneme_proto::nodesync::{Delta, Row};
use axoneme_proto::tables::Peer;
use axoneme_proto::{Scope, Table};
use tempfile::TempDir;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::kernel;
use crate::operator::{self, Authority, Network, Operator};

pub const ONE: &str = "10.0.0.1:4246";
pub const TWO: &str = "10.0.0.2:4246";

/// A node: what is on its disk, and the daemon that runs.
pub struct Node {
    pub folder: TempDir,
    pub network: Network,
    /// Over real sockets, not over those of `network`.
    pub tcp: bool,
    pub machine: kernel::Machine,
    pub why: Arc<Mutex<Vec<String>>>,
    running: Option<Running>,
}

pub struct Running {
    state: State,
    pub reporter: Reporter,
    tasks: Vec<AbortHandle>,
}

struct Watch {
    why: Arc<Mutex<Vec<String>>>,
    reporter: Reporter,
}

impl sync::Watch for Watch {
    fn connected(&mut self, new_journal: bool) {
        if new_journal {
            self.reporter.repeat();
        }
    }

    fn disconnected(&mut self, why: &SyncError) {
        self.why.lock().unwrap().push(why.to_string());
    }
}

impl Node {
    pub fn new(authority: &Authority) -> Self {
        Self::knowing(authority, &[ONE, TWO])
    }

    /// One to which the kubelet has brought these operators' addresses.
    pub fn knowing(authority: &Authority, operators: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), &authority.pem).unwrap();
        fs::write(folder.path().join("operators"), operators.join("\n")).unwrap();
        fs::write(folder.path().join("token"), "secret\n").unwrap();
        let machine = kernel::Machine::new(1024);
        Self { folder, network: Network::default(), tcp: false, machine, why: Arc::default(), running: None }
    }

    /// Starts the daemon, or starts it anew without its desired state.
    pub fn start(&mut self) -> &Running {
        if let Some(running) = self.running.take() {
            running.tasks.iter().for_each(AbortHandle::abort);
        }
        let path = self.folder.path();
        let outbox = Outbox::open("n1", path.join("observations")).unwrap();
        let (state, inbox) = state::channel();
        let reporter = Reporter::new(outbox.clone(), state.clone());
        let engine = Engine::new(Desired::new("n1"), BTreeMap::new(), self.machine.kernel(1, 10), Instant::now());
        let task = Task::new(inbox, engine, None, Vec::new(), None, Metrics::default());
        let config = sync::Config {
            me: Me { node: "n1".into(), version: "1".into(), boot_id: "boot".into() },
            operators: path.into(),
            token: path.join("token"),
            state: path.into(),
        };
        let watch = Watch { why: self.why.clone(), reporter: reporter.clone() };
        let dial: Box<dyn Dial> = if self.tcp { Box::new(Tcp) } else { Box::new(self.network.clone()) };
        let metrics = sync::metrics::Metrics::default();
        let client = Sync::new(config, dial, Vec::new(), state.clone(), outbox, watch, metrics).unwrap();
        let tasks = vec![tokio::spawn(task.run()).abort_handle(), tokio::spawn(client.run()).abort_handle()];
        self.running.insert(Running { state, reporter, tasks })
    }

    pub fn state(&self) -> &State {
        &self.running.as_ref().unwrap().state
    }

    /// Waits until an attempt fails for a reason that contains `text`.
    pub async fn fails(&self, text: &str) {
        let found = timeout(Duration::from_secs(120), async {
            while !self.why.lock().unwrap().iter().any(|why| why.contains(text)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(found.await.is_ok(), "{text:?} is not among {:#?}", self.why.lock().unwrap());
    }
}

pub async fn session(operator: &mut Operator) -> operator::Session {
    timeout(Duration::from_secs(120), operator.sessions.recv()).await.expect("a session").unwrap()
}

pub fn peer(uid: &str, revision: u64) -> Row {
    let message = Peer { identity: 200, addresses: vec![vec![10, 2, 0, 5]], node: "n2".into(), ..Peer::default() };
    Row { revision, ..Row::new(&Scope::Peers(200), Table::Peer, uid, &message, 0) }
}

pub fn snapshot(from: u64, to: u64, rows: Vec<Row>) -> Delta {
    Delta {
        from_revision: from,
        to_revision: to,
        snapshots: vec!["peers/200".into()],
        upserts: rows,
        last: true,
        inputs_complete: true,
        ..Delta::default()
    }
}

pub fn delta(from: u64, to: u64) -> Delta {
    Delta { snapshots: Vec::new(), ..snapshot(from, to, Vec::new()) }
}
