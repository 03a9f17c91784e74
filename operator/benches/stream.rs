//! The stream with many nodes: `make bench SET=stream`, or `cargo bench -p axoneme-operator --bench stream`.
//!
//! This process is the operator: its engine and its service over TCP with TLS. The nodes are in another process, which this one
//! starts: as many connections, with a certificate each, that take in what comes and acknowledge it, and nothing else, so that
//! what is measured is the operator (on few CPUs, together with what the nodes' end of TLS costs). Prints a line of JSON for
//! each figure.
//!
//! Bytes are those of messages, before TLS. Times of reconnects are from the first node that dials to the last one that has
//! everything; TLS handshakes are in them.

#[path = "stream/dial.rs"]
mod dial;
#[path = "stream/nodes.rs"]
mod nodes;

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axoneme_operator::engine::{Config, Engine, Handle, Input};
use axoneme_operator::memory;
use axoneme_operator::object::{Kind, Object};
use axoneme_operator::publish::join::{Registrar, TokenVerdict, Vouch};
use axoneme_operator::publish::server::{Service, SessionMetrics};
use axoneme_operator::publish::tls::{Authority, ServerTls};
use axoneme_operator::watch;
use axoneme_proto::tables::Settings;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use nodes::Done;

const SESSIONS: usize = 500;
/// Rows of the scope that all nodes hold.
const ROWS: usize = 10_000;
/// Rows that have changed when nodes come back.
const CHANGED: usize = 10;
/// Rows that change while all nodes are connected, and how many of them at a time.
const NEWS: (usize, usize) = (5_000, 100);

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

fn object(manifest: &Value) -> Result<Object> {
    watch::decode(manifest)?.0.context("an object without a meaning")
}

fn node(name: &str) -> Value {
    json!({"kind": "Node", "metadata": {"name": name, "uid": name},
           "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})
}

/// An EndpointSlice with ten addresses, of which the last ones say which `version` of it this is.
fn slice(number: usize, version: usize) -> Value {
    let address = |i: usize| {
        let [.., a, b] = number.to_be_bytes();
        IpAddr::from([10, a, b, if i == 9 { 100 + (version % 100) as u8 } else { i as u8 }]).to_string()
    };
    let endpoints: Vec<Value> = (0..10).map(|i| json!({"addresses": [address(i)], "nodeName": "node-0"})).collect();
    json!({"kind": "EndpointSlice", "addressType": "IPv4",
           "metadata": {"name": format!("s{number}-abcde"), "namespace": "default", "uid": format!("s{number}"),
                        "labels": {"kubernetes.io/service-name": "web"}},
           "ports": [{"name": "http", "protocol": "TCP", "port": 8080}], "endpoints": endpoints})
}

/// An operator that serves on a port of its own.
struct Operator {
    engine: Handle,
    address: String,
    stop: CancellationToken,
}

impl Operator {
    async fn start(authority: &Authority, epoch: u8, version: usize) -> Result<Self> {
        let settings = Settings { ipv4: true, ..Settings::default() };
        let (engine, handle, outputs) = Engine::new(Config::new(settings), [epoch; 16]);
        tokio::spawn(engine.run());
        for number in 0..SESSIONS {
            handle.send(Input::Upsert(object(&node(&format!("node-{number}")))?)).await?;
        }
        let service = json!({"kind": "Service", "metadata": {"name": "web", "namespace": "default", "uid": "web"},
                             "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
                                      "ports": [{"name": "http", "protocol": "TCP", "port": 80}]}});
        handle.send(Input::Upsert(object(&service)?)).await?;
        for number in 0..ROWS {
            let version = if number < CHANGED { version } else { 0 };
            handle.send(Input::Upsert(object(&slice(number, version))?)).await?;
        }
        for kind in Kind::ALL {
            handle.send(Input::Synced(kind)).await?;
        }
        handle.complete().await?;
        let day = Duration::from_secs(86_400);
        let registrar = Registrar::new(Trusting, authority.clone(), "kube-system", "axoneme-node", day);
        let operators = tokio::sync::watch::Sender::new(vec!["192.0.2.9:4246".to_owned()]);
        let stop = CancellationToken::new();
        let service =
            Service::new(handle.clone(), registrar, operators.subscribe(), SessionMetrics::default(), stop.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let tls = ServerTls::new(authority)?;
        tokio::spawn(async move {
            let _kept = (operators, outputs);
            service.serve(listener, tls).await
        });
        Ok(Self { engine: handle, address, stop })
    }

    /// Changes rows, and waits until they have revisions.
    async fn change(&self, rows: std::ops::Range<usize>, version: usize) -> Result<u64> {
        let before = self.engine.revision();
        let wanted = before + rows.len() as u64;
        for number in rows {
            self.engine.send(Input::Upsert(object(&slice(number, version))?)).await?;
        }
        while self.engine.revision() < wanted {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok(self.engine.revision())
    }
}

/// The nodes' process, and what is said to it.
struct Nodes {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Nodes {
    fn start(authority: &Authority) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(nodes::ARGUMENT).env("AXONEME_BENCH_CA", authority.trusted_pem());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self { child, orders, answers })
    }

    /// Gives an order and waits until it is done.
    fn order(&mut self, order: &str) -> Result<Done> {
        self.begin(order)?;
        self.end()
    }

    fn begin(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}")?;
        Ok(self.orders.flush()?)
    }

    fn end(&mut self) -> Result<Done> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the nodes say {line:?}"))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident memory of this process that is not a file's, in bytes.
fn memory() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024.0)
}

fn say(name: &str, value: f64, unit: &str, at_most: Option<f64>) {
    println!("{}", json!({"name": name, "value": value, "unit": unit, "at_most": at_most}));
}

fn say_reconnect(rung: &str, done: &Done) {
    let name = |what: &str| format!("{SESSIONS} sessions of {ROWS} rows back by {rung}: {what}");
    say(&name("time"), done.seconds, "s", None);
    say(&name("bytes"), done.bytes as f64 / 1e6, "MB", None);
    say(&name("rows a session"), done.rows as f64 / SESSIONS as f64, "rows", None);
}

async fn measure() -> Result<()> {
    // As the operator does it.
    tokio::spawn(memory::give_back());
    let (certificate, key) = Authority::generate()?;
    let authority = Authority::from_pem(&certificate, &key)?;
    let mut one = Operator::start(&authority, 1, 0).await?;
    let nodes = Arc::new(std::sync::Mutex::new(Nodes::start(&authority)?));
    let order = async |order: String| {
        let nodes = Arc::clone(&nodes);
        // What waits for another process must not keep this one's tasks waiting.
        tokio::task::spawn_blocking(move || nodes.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.order(&order))
            .await?
    };
    order(format!("join {} {SESSIONS}", one.address)).await?;
    let before = memory()?;
    let revision = one.engine.revision();
    say_reconnect("rung 3, everything", &order(format!("connect {} {revision}", one.address)).await?);

    // What was in flight has been given back to the system when this is over.
    tokio::time::sleep(2 * memory::INTERVAL).await;
    say("memory a session, at rest", (memory()? - before) / 1000.0 / SESSIONS as f64, "KB", Some(50.0));

    let start = Instant::now();
    let wanted = one.engine.revision() + NEWS.0 as u64;
    let waiting = tokio::spawn({
        let nodes = Arc::clone(&nodes);
        async move {
            let await_all =
                move || nodes.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.order(&format!("await {wanted}"));
            tokio::task::spawn_blocking(await_all).await?
        }
    });
    for first in (CHANGED..CHANGED + NEWS.0).step_by(NEWS.1) {
        one.change(first..first + NEWS.1, 1).await?;
    }
    let done = waiting.await??;
    let seconds = start.elapsed().as_secs_f64();
    say(&format!("rows a second to {SESSIONS} sessions, encoded once"), done.rows as f64 / seconds, "rows/s", None);
    say(&format!("bytes a second to {SESSIONS} sessions"), done.bytes as f64 / 1e6 / seconds, "MB/s", None);

    order("hang up".to_owned()).await?;
    let revision = one.change(0..CHANGED, 2).await?;
    say_reconnect("rung 1, differences", &order(format!("connect {} {revision}", one.address)).await?);
    order("hang up".to_owned()).await?;

    // Another replica, which has seen some more.
    one.stop.cancel();
    let other = Operator::start(&authority, 2, 3).await?;
    for first in (CHANGED..CHANGED + NEWS.0).step_by(NEWS.1) {
        other.change(first..first + NEWS.1, 1).await?;
    }
    one = other;
    let revision = one.engine.revision();
    say_reconnect("rung 2, buckets that differ", &order(format!("connect {} {revision}", one.address)).await?);
    Ok(())
}

fn main() -> Result<()> {
    memory::one_heap_a_cpu();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if std::env::args().any(|argument| argument == nodes::ARGUMENT) {
        return runtime.block_on(nodes::run());
    }
    // `cargo test` builds and calls this, too.
    if std::env::args().any(|argument| argument == "--bench") {
        return runtime.block_on(measure());
    }
    Ok(())
}
