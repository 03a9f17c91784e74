//! Versions next to each other talk: a node and an operator of this build, and those of the commit in `e2e/skew/previous`, which
//! spoke the protocol before this one, in processes of their own. `make skew` builds them and runs this.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use axoneme_operator::publish::tls::Authority;
use serde_json::{Value, json};

/// A node that lost its operator waits 15 s at most before it dials again.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    This,
    Previous,
}

impl Version {
    fn peer(self) -> PathBuf {
        let variable = match self {
            Self::This => "AXONEME_PEER",
            Self::Previous => "AXONEME_PREVIOUS_PEER",
        };
        std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: run `make skew`")).into()
    }
}

/// A process that is told what to do.
struct Peer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(version: Version, part: &str, folder: &Path) -> Self {
        let mut command = Command::new(version.peer());
        let mut child =
            command.arg(part).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a peer");
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, orders, answers }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn say(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").unwrap();
        self.line()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What both sides share on disk.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = Authority::generate().unwrap();
    for (name, text) in [("ca.crt", &*certificate), ("ca.key", &*key), ("token", "n1"), ("operators", "")] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn slice(number: usize, port: u16) -> Value {
    json!({"kind": "EndpointSlice", "addressType": "IPv4",
           "metadata": {"name": format!("s{number}-x"), "namespace": "default", "uid": format!("s{number}"),
                        "labels": {"kubernetes.io/service-name": "web"}},
           "ports": [{"name": "p", "protocol": "TCP", "port": port}],
           "endpoints": [{"addresses": ["10.1.0.5"]}]})
}

/// An operator that knows one node and more slices than a scope has that is compared as a whole.
fn operator(version: Version, folder: &Path, port_of_first: u16) -> Peer {
    let mut operator = Peer::start(version, "operator", folder);
    let address = operator.line();
    let node = json!({"kind": "Node", "metadata": {"name": "n1", "uid": "n1"},
                      "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"}]}});
    let namespace = json!({"kind": "Namespace", "metadata": {"name": "default", "uid": "d"}});
    let slices = (0..1_500).map(|number| slice(number, if number == 0 { port_of_first } else { 80 }));
    let service = json!({"kind": "Service", "metadata": {"name": "web", "namespace": "default", "uid": "web"},
                         "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
                                  "ports": [{"name": "p", "protocol": "TCP", "port": 80}]}});
    for manifest in [node, namespace, service].into_iter().chain(slices) {
        assert_eq!(operator.say(&format!("upsert {manifest}")), "done");
    }
    assert_eq!(operator.say("synced"), "done");
    // As the kubelet brings it.
    fs::write(folder.join("operators"), address).unwrap();
    operator
}

/// Waits until the node holds what the operator has for it.
fn agree(operator: &mut Peer, node: &mut Peer, what: &str) {
    let start = Instant::now();
    loop {
        let (wanted, held) = (operator.say("view n1"), node.say("held"));
        if wanted == held && wanted.contains("services") {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {held} instead of {wanted}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn skew(first: Version, of_node: Version, then: Version) {
    let folder = folder();
    let mut one = operator(first, folder.path(), 80);
    let mut node = Peer::start(of_node, "node", folder.path());
    agree(&mut one, &mut node, "everything");
    assert_eq!(one.say(&format!("upsert {}", slice(7, 81))), "done");
    assert_eq!(one.say(&format!("delete {}", slice(8, 80))), "done");
    agree(&mut one, &mut node, "differences");
    drop(one);
    // A replica of the other version: the upgrade, or the way back.
    let mut other = operator(then, folder.path(), 82);
    agree(&mut other, &mut node, "what differs at another operator");
    assert_eq!(other.say(&format!("delete {}", slice(9, 80))), "done");
    agree(&mut other, &mut node, "differences after that");
}

#[test]
fn a_node_of_the_previous_version_follows_operators_across_an_upgrade_and_back() {
    skew(Version::Previous, Version::Previous, Version::This);
    skew(Version::This, Version::Previous, Version::Previous);
}

#[test]
fn a_node_of_this_version_follows_operators_across_an_upgrade_and_back() {
    skew(Version::Previous, Version::This, Version::This);
    skew(Version::This, Version::This, Version::Previous);
}
