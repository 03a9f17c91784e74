//! Pods between which connections stay open, whatever is done to their network.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::api::Api;
use crate::cluster::Cluster;
use crate::progress::{duration, note, step};
use crate::reach::{Conversation, Outcome, probe};
use crate::workload::{Workload, pod_ip, pod_ips};
use crate::{helm, images};

/// Connections that are open while something changes.
const CONVERSATIONS: usize = 20;

/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(5);

/// A node that has lost all operators it knows has found those that are there.
const FOUND_AGAIN: Duration = Duration::from_secs(90);

/// The pods between which connections are open.
pub(super) struct Pods<'a> {
    cluster: &'a Cluster,
    api: &'a Api,
    workload: Workload<'a>,
    server: SocketAddr,
    friends: Vec<File>,
    stranger: File,
    /// They stay open from one step to the next.
    conversations: Vec<Conversation>,
    /// What their network said of them when they were new.
    facts: BTreeMap<String, String>,
}

impl<'a> Pods<'a> {
    /// A server that only friends may reach, a friend on each node, and a stranger; and connections from the friends.
    pub(super) fn start(cluster: &'a Cluster, api: &'a Api, name: &str) -> Result<Self> {
        let workload = Workload::new(api, name)?;
        let agnhost = images::agnhost_name(&cluster.paths)?;
        let nodes = cluster.nodes()?;
        let node = |position: usize| cluster.folder.node_name(nodes[position % nodes.len()]);
        workload.friends_policy()?;
        workload.pod("server", &node(0), &agnhost, &["netexec", "--http-port=8080"])?;
        workload.pod("stranger", &node(1), &agnhost, &["pause"])?;
        let names: Vec<String> = (0..nodes.len()).map(|position| format!("friend{position}")).collect();
        for (position, name) in names.iter().enumerate() {
            workload.labelled_pod(name, "friend", &node(position), &agnhost, &["pause"])?;
        }
        let server = SocketAddr::new(pod_ip(&workload.ready("server")?)?, 8080);
        let network = |name: &str| cluster.pod_network(&workload.ready(name)?);
        let friends: Vec<_> = names.iter().map(|name| network(name)).collect::<Result<_>>()?;
        let stranger = network("stranger")?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !friends.iter().all(|friend| probe(friend, server).is_ok_and(|answer| answer.reached())) {
            ensure!(Instant::now() < deadline, "a friend does not reach the server");
        }
        let open = |at: usize| Conversation::open(&friends[at % friends.len()], server);
        let conversations = (0..CONVERSATIONS).map(open).collect::<Result<_>>()?;
        let facts = api.wait("the endpoints of all pods", Duration::from_secs(30), |api| {
            let facts = facts(api, &workload)?;
            Ok((facts.len() == names.len() + 2).then_some(facts))
        })?;
        Ok(Self { cluster, api, workload, server, friends, stranger, conversations, facts })
    }

    /// Fails unless pods have the addresses and identities that they had, and a pod that is made now has a network, too.
    pub(super) fn same(&self) -> Result<()> {
        step("addresses and identities are the same", || {
            let now = facts(self.api, &self.workload)?;
            ensure!(now == self.facts, "they were {:#?} and are {now:#?}", self.facts);
            Ok(())
        })?;
        step("a new pod comes and goes", || {
            let node = self.cluster.folder.node_name(self.cluster.nodes()?[0]);
            self.workload.labelled_pod(
                "new",
                "friend",
                &node,
                &images::agnhost_name(&self.cluster.paths)?,
                &["pause"],
            )?;
            let network = self.cluster.pod_network(&self.workload.ready("new")?)?;
            self.reaches(&network)?;
            let path = format!("{}/new", self.workload.path("", "pods"));
            self.api.delete(&path)?;
            self.api.wait("it to be gone", Duration::from_secs(60), |api| Ok(api.find(&path)?.is_none().then_some(())))
        })
    }

    /// Fails unless a new pod of a node reaches the server at once, and tells what is needed to see why: what our pods
    /// said, and whether the pod is let in later, as one that came while its node had no operator is.
    fn reaches(&self, network: &File) -> Result<()> {
        let asked = Instant::now();
        let first = probe(network, self.server)?;
        if first.reached() {
            return Ok(());
        }
        helm::explain(self.cluster);
        while asked.elapsed() < FOUND_AGAIN {
            std::thread::sleep(Duration::from_millis(200));
            if probe(network, self.server)?.reached() {
                bail!("a new pod reaches the server only after {}: {first:?} before", duration(asked.elapsed()));
            }
        }
        bail!("a new pod does not reach the server: {first:?}")
    }

    /// Does `work` while connections are open and asked all the time, new ones come about, and a stranger is kept out. Nothing of
    /// it may fail.
    pub(super) fn talk_during(&mut self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let Self { server, friends, stranger, conversations, .. } = self;
        let (server, friends, stranger) = (*server, &*friends, &*stranger);
        let (stop, problems) = (AtomicBool::new(false), Mutex::new(Vec::<String>::new()));
        let counts = Mutex::new(Counts::default());
        let problem = |what: String| problems.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        let result = std::thread::scope(|scope| {
            for (at, conversation) in conversations.iter_mut().enumerate() {
                let (stop, problem, counts) = (&stop, &problem, &counts);
                scope.spawn(move || {
                    let mut own = Counts::default();
                    while !stop.load(Ordering::Relaxed) {
                        let asked = Instant::now();
                        if let Err(error) = conversation.ask(PATIENCE) {
                            problem(format!("connection {at} ended: {error}"));
                            break;
                        }
                        own.answers += 1;
                        own.longest = own.longest.max(asked.elapsed());
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    counts.lock().unwrap_or_else(PoisonError::into_inner).add(&own);
                });
            }
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for friend in friends {
                        match probe(friend, server) {
                            Ok(Outcome::Reached(_)) => {
                                counts.lock().unwrap_or_else(PoisonError::into_inner).new += 1;
                            }
                            other => problem(format!("a new connection fails: {other:?}")),
                        }
                    }
                    if probe(stranger, server).is_ok_and(|answer| answer.reached()) {
                        problem("the policy does not hold: a stranger reaches the server".to_owned());
                    }
                }
            });
            let result = work();
            // What follows a new daemon's start counts, too.
            std::thread::sleep(Duration::from_secs(5));
            stop.store(true, Ordering::Relaxed);
            result
        });
        result?;
        let Counts { answers, new, longest } = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
        let problems = problems.into_inner().unwrap_or_else(PoisonError::into_inner);
        note(&format!(
            "{CONVERSATIONS} open connections: {answers} answers, the slowest after {} ms; {new} new ones; {} problems",
            longest.as_millis(),
            problems.len()
        ));
        if !problems.is_empty() {
            problems.iter().take(20).for_each(|problem| note(problem));
            bail!("{} problems of connections", problems.len());
        }
        Ok(())
    }

    /// Deletes them, which runtimes can do only while there is a network.
    pub(super) fn remove(self) -> Result<()> {
        let Self { api, workload, .. } = self;
        let path = format!("/api/v1/namespaces/{}", workload.namespace);
        drop(workload);
        api.wait("its pods to be gone", Duration::from_secs(120), |api| Ok(api.find(&path)?.is_none().then_some(())))
    }
}

#[derive(Debug, Default)]
struct Counts {
    answers: u64,
    new: u64,
    longest: Duration,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.longest = self.longest.max(other.longest);
    }
}

/// What Kubernetes and the network say of each pod: its addresses, and its identity. Of pods that are not reported yet, nothing.
fn facts(api: &Api, workload: &Workload<'_>) -> Result<BTreeMap<String, String>> {
    let mut facts = BTreeMap::new();
    for pod in api.list(&workload.path("", "pods"))? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let endpoint = api.find(&format!("{}/{name}", workload.path("cilium.io/v2", "ciliumendpoints")))?;
        if let Some(identity) = endpoint.and_then(|endpoint| endpoint["status"]["identity"]["id"].as_u64()) {
            facts.insert(name, format!("{:?}, identity {identity}", pod_ips(&pod)?));
        }
    }
    Ok(facts)
}
