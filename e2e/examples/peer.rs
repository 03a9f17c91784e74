//! One end of the stream in a process of its own: `peer operator FOLDER` or `peer node FOLDER`. The test of version skew runs it
//! as it is built here, and as it is built from the commit in `e2e/skew/previous` with the sources of that commit.
//!
//! In the folder are `ca.crt` and `ca.key`; a node finds `operators` and `token` there, too. Told what to do line by line, each
//! line is answered by one.

#![allow(clippy::unwrap_used, reason = "a tool of tests")]

#[allow(dead_code)]
#[path = "../../node-dataplane/tests/scenarios/kernel.rs"]
mod kernel;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axoneme_node::desired::Desired;
use axoneme_node::observe::outbox::Outbox;
use axoneme_node::reconcile::{Engine as NodeEngine, Task, metrics, state};
use axoneme_node::sync::dial::Tcp;
use axoneme_node::sync::session::Me;
use axoneme_node::sync::{self, Sync, SyncError};
use axoneme_operator::engine::{Config, Engine, Input};
use axoneme_operator::object::Kind;
use axoneme_operator::publish::join::{Registrar, TokenVerdict, Vouch};
use axoneme_operator::publish::server::{Service, SessionMetrics};
use axoneme_operator::publish::tls::{Authority, ServerTls};
use axoneme_operator::watch;
use axoneme_proto::tables::{RoutingMode, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Vouches for every node; a token is a name.
struct Trusting;

impl Vouch for Trusting {
    async fn token(&self, token: &str) -> Result<TokenVerdict, kube::Error> {
        let extra = [
            ("authentication.kubernetes.io/node-name", token),
            ("authentication.kubernetes.io/node-uid", token),
            ("authentication.kubernetes.io/pod-name", "p"),
            ("authentication.kubernetes.io/pod-uid", "p"),
        ];
        Ok(TokenVerdict {
            authenticated: true,
            username: "system:serviceaccount:kube-system:axoneme-node".into(),
            extra: extra.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        })
    }

    async fn node_uid(&self, name: &str) -> Result<Option<String>, kube::Error> {
        Ok(Some(name.to_owned()))
    }
}

fn orders() -> Lines<BufReader<Stdin>> {
    BufReader::new(tokio::io::stdin()).lines()
}

/// Lines: `upsert MANIFEST`, `delete MANIFEST`, `synced`, `view NODE`.
async fn operator(folder: &Path) {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let authority = Authority::from_pem(&read("ca.crt"), &read("ca.key")).unwrap();
    let settings = Settings {
        cluster_name: "default".into(),
        routing_mode: RoutingMode::Vxlan.into(),
        tunnel_port: 8472,
        ipv4: true,
        ..Settings::default()
    };
    let epoch = std::process::id().to_be_bytes().repeat(4).try_into().unwrap();
    let (engine, handle, _outputs) = Engine::new(Config::new(settings), epoch);
    tokio::spawn(engine.run());
    let day = Duration::from_secs(86_400);
    let registrar = Registrar::new(Trusting, authority.clone(), "kube-system", "axoneme-node", day);
    let operators = tokio::sync::watch::Sender::new(Vec::new());
    let (metrics, stop) = (SessionMetrics::default(), CancellationToken::new());
    let service = Service::new(handle.clone(), registrar, operators.subscribe(), metrics, stop);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let tls = ServerTls::new(&authority).unwrap();
    tokio::spawn(service.serve(listener, tls));
    let mut orders = orders();
    while let Some(line) = orders.next_line().await.unwrap() {
        let (order, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let object = || watch::decode(&serde_json::from_str::<Value>(rest).unwrap()).unwrap().0.unwrap();
        match order {
            "upsert" => handle.send(Input::Upsert(object())).await.unwrap(),
            "delete" => handle.send(Input::Delete(object().key())).await.unwrap(),
            "synced" => {
                for kind in Kind::ALL {
                    handle.send(Input::Synced(kind)).await.unwrap();
                }
                handle.complete().await.unwrap();
            }
            "view" => {
                // What was told before is in it.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let view: BTreeMap<String, u64> = handle.with_journal(|journal| {
                    let scopes = journal.grant(rest).into_iter().flat_map(|grant| grant.iter());
                    scopes.map(|scope| (scope.to_string(), journal.scope_hash(scope))).collect()
                });
                println!("{}", json!(view));
                continue;
            }
            _ => panic!("{line:?}"),
        }
        println!("done");
    }
}

struct Watch;

impl sync::Watch for Watch {
    fn connected(&mut self, _new_journal: bool) {}

    fn disconnected(&mut self, why: &SyncError) {
        eprintln!("node: {why}");
    }
}

/// Lines: `held`.
async fn node(folder: PathBuf) {
    let (state, inbox) = state::channel();
    let kernel = kernel::Machine::new(4096).kernel(1, 10);
    let now = tokio::time::Instant::now();
    let engine = NodeEngine::new(Desired::new("n1"), BTreeMap::new(), kernel, now);
    let task = Task::new(inbox, engine, None, Vec::new(), None, metrics::Metrics::default());
    tokio::spawn(task.run());
    let config = sync::Config {
        me: Me { node: "n1".into(), version: "skew".into(), boot_id: "boot".into() },
        operators: folder.clone(),
        token: folder.join("token"),
        state: folder.clone(),
    };
    let outbox = Outbox::open("n1", folder.join("observations")).unwrap();
    let counts = sync::metrics::Metrics::default();
    let client = Sync::new(config, Box::new(Tcp), Vec::new(), state.clone(), outbox, Watch, counts).unwrap();
    tokio::spawn(client.run());
    let mut orders = orders();
    while let Some(line) = orders.next_line().await.unwrap() {
        assert_eq!(line, "held");
        let held = state.held().await.unwrap();
        let held: BTreeMap<String, u64> = held.scopes.into_iter().map(|held| (held.scope, held.hash)).collect();
        println!("{}", json!(held));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &*arguments[1] {
        "operator" => operator(Path::new(&arguments[2])).await,
        "node" => node(PathBuf::from(&arguments[2])).await,
        other => panic!("peer operator|node FOLDER, not {other:?}"),
    }
}
