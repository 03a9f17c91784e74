//! The CA is replaced through its Secret while nodes follow an operator: with an API server, which vouches for tokens and nodes
//! and holds Secret and ConfigMap; with the operator's own trust, rights and stream, and with the daemon's side of it. What the
//! kubelet does with a ConfigMap is done here.
//!
//! `cargo test -p axoneme-e2e --test authority` takes two minutes: a node asks for a new certificate once a minute at most.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "the scenarios of the node use all of it")]
#[path = "../../node-dataplane/tests/scenarios/kernel.rs"]
mod kernel;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axoneme_e2e::api_server::ApiServer;
use axoneme_node::desired::Desired;
use axoneme_node::observe::outbox::Outbox;
use axoneme_node::reconcile::{Engine as NodeEngine, Task, metrics, state};
use axoneme_node::sync::dial::Tcp;
use axoneme_node::sync::session::Me;
use axoneme_node::sync::{self, Sync, SyncError};
use axoneme_operator::engine::{Config, Engine};
use axoneme_operator::leader::{self, CA_SECRET, Directory, OPERATORS_CONFIG_MAP};
use axoneme_operator::publish::join::{KubernetesVouch, Registrar};
use axoneme_operator::publish::server::{Service, SessionMetrics};
use axoneme_operator::publish::tls::{Authority, ServerTls};
use axoneme_operator::watch::{Optional, spawn_all};
use axoneme_proto::TOKEN_AUDIENCE;
use axoneme_proto::tables::Settings;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-system";
const ACCOUNT: &str = "axoneme-node";
const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Of a node's certificate: it is renewed after half a minute, and then once a minute.
const LIFETIME: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(120);

async fn create<K>(api: Api<K>, object: Value) -> K
where
    K: Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

/// What the chart lets the operator do.
async fn give_rights(admin: &Client) {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/tests/default.golden.yaml");
    for document in serde_yaml::Deserializer::from_str(&fs::read_to_string(chart).unwrap()) {
        let document = Value::deserialize(document).unwrap();
        match document["kind"].as_str() {
            Some("ClusterRole") => drop(create(Api::<ClusterRole>::all(admin.clone()), document).await),
            Some("ClusterRoleBinding") => drop(create(Api::<ClusterRoleBinding>::all(admin.clone()), document).await),
            Some("Role") => drop(create(Api::<Role>::namespaced(admin.clone(), NAMESPACE), document).await),
            Some("RoleBinding") => {
                drop(create(Api::<RoleBinding>::namespaced(admin.clone(), NAMESPACE), document).await)
            }
            _ => {}
        }
    }
}

/// The token that the kubelet gives to the daemon's pod on a node.
async fn token(admin: &Client, node: &str) -> String {
    create(Api::<Node>::all(admin.clone()), json!({"metadata": {"name": node}})).await;
    let pods: Api<Pod> = Api::namespaced(admin.clone(), NAMESPACE);
    let spec = json!({"nodeName": node, "serviceAccountName": ACCOUNT, "containers": [{"name": "c", "image": "i"}]});
    let pod = create(pods, json!({"metadata": {"name": format!("axoneme-{node}")}, "spec": spec})).await;
    let bound_object_ref = Some(BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.name_any()),
        uid: pod.uid(),
    });
    let audiences = Some(vec![TOKEN_AUDIENCE.into()]);
    let spec = Some(TokenRequestSpec { audiences, bound_object_ref, ..TokenRequestSpec::default() });
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), NAMESPACE);
    let answer = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await.unwrap();
    answer.status.unwrap().token.unwrap()
}

/// The leader, as far as trust goes.
struct Operator {
    address: String,
    stop: CancellationToken,
}

impl Operator {
    async fn start(client: &Client, port: u16) -> Self {
        let settings = Settings { cluster_name: "default".into(), ipv4: true, ..Settings::default() };
        let epoch = std::array::from_fn(|byte| byte as u8 ^ port as u8);
        let (engine, handle, outputs) = Engine::new(Config::new(settings), epoch);
        tokio::spawn(engine.run());
        let (problems, problems_out) = tokio::sync::mpsc::unbounded_channel();
        let watches = spawn_all(client, NAMESPACE, Optional::default(), handle.wanted(), &handle, &problems);
        let authority = leader::ensure_authority(client, NAMESPACE).await.unwrap();
        let authority = tokio::sync::watch::Sender::new(authority);
        let addresses = tokio::sync::watch::Sender::new(Vec::new());
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let directory = Directory {
            namespace: NAMESPACE.into(),
            selector: "app.kubernetes.io/name=axoneme-operator".into(),
            own: address.ip(),
            port: address.port(),
            authority: authority.subscribe(),
            addresses: addresses.clone(),
        };
        leader::keep_directory(client.clone(), client.clone(), directory).await.unwrap();
        let tls = ServerTls::new(&authority.borrow()).unwrap();
        let registrar = Registrar::new(
            KubernetesVouch::new(client.clone()),
            authority.borrow().clone(),
            NAMESPACE,
            ACCOUNT,
            LIFETIME,
        );
        let registrar = registrar.following(authority.subscribe());
        let stop = CancellationToken::new();
        let service = Service::new(handle, registrar, addresses.subscribe(), SessionMetrics::default(), stop.clone());
        let mut changed = authority.subscribe();
        tokio::spawn({
            let tls = tls.clone();
            async move {
                while changed.changed().await.is_ok() {
                    tls.renew(&changed.borrow_and_update()).unwrap();
                }
            }
        });
        let following = leader::follow_authority(client.clone(), NAMESPACE.into(), LOOK, authority);
        let stopped = stop.clone();
        tokio::spawn(async move {
            let _kept = (outputs, problems_out, watches, addresses);
            tokio::select! {
                () = following => {}
                () = stopped.cancelled() => {}
            }
        });
        tokio::spawn(service.serve(listener, tls));
        Self { address: address.to_string(), stop }
    }
}

/// What became of a node's sessions.
#[derive(Clone, Default)]
struct Seen {
    connected: Arc<AtomicUsize>,
    lost: Arc<Mutex<Vec<String>>>,
}

impl sync::Watch for Seen {
    fn connected(&mut self, _new_journal: bool) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    fn disconnected(&mut self, why: &SyncError) {
        self.lost.lock().unwrap().push(why.to_string());
    }
}

/// A node's daemon, as far as it speaks with operators.
struct Daemon {
    folder: PathBuf,
    seen: Seen,
}

impl Daemon {
    fn start(name: &str, folder: &Path) -> Self {
        let (state, inbox) = state::channel();
        let kernel = kernel::Machine::new(256).kernel(1, 0);
        let engine = NodeEngine::new(Desired::new(name), BTreeMap::new(), kernel, tokio::time::Instant::now());
        tokio::spawn(Task::new(inbox, engine, None, Vec::new(), None, metrics::Metrics::default()).run());
        let config = sync::Config {
            me: Me { node: name.into(), version: "1".into(), boot_id: "boot".into() },
            operators: folder.to_owned(),
            token: folder.join("token"),
            state: folder.to_owned(),
        };
        let outbox = Outbox::open(name, folder.join("observations")).unwrap();
        let (seen, counts) = (Seen::default(), sync::metrics::Metrics::default());
        let client = Sync::new(config, Box::new(Tcp), Vec::new(), state, outbox, seen.clone(), counts).unwrap();
        tokio::spawn(client.run());
        Self { folder: folder.to_owned(), seen }
    }

    fn connected(&self) -> usize {
        self.seen.connected.load(Ordering::Relaxed)
    }

    fn lost(&self) -> Vec<String> {
        self.seen.lost.lock().unwrap().clone()
    }

    /// Its certificate, and the CAs that it was told to trust with it.
    fn certificate(&self) -> (String, String) {
        let saved = fs::read(self.folder.join("node-certificate.json")).unwrap_or_default();
        let saved: Value = serde_json::from_slice(&saved).unwrap_or_default();
        let text = |key: &str| saved[key].as_str().unwrap_or_default().to_owned();
        (text("chain_pem"), text("ca_pem"))
    }
}

/// What the kubelet does: brings the ConfigMap to the folders in which it is mounted.
async fn mount(client: Client, folders: Vec<PathBuf>) {
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    loop {
        if let Ok(Some(found)) = api.get_opt(OPERATORS_CONFIG_MAP).await {
            for (folder, (name, text)) in
                folders.iter().flat_map(|folder| found.data.iter().flatten().map(move |entry| (folder, entry)))
            {
                fs::write(folder.join("new"), text).unwrap();
                fs::rename(folder.join("new"), folder.join(name)).unwrap();
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Changes what is in the Secret, as a user does; null takes a key away.
async fn change(admin: &Client, data: &[(&str, Option<&str>)]) {
    let strings = |one: Option<&str>| one.map(|pem| k8s_openapi::ByteString(pem.as_bytes().to_vec()));
    let data: BTreeMap<&str, _> = data.iter().map(|(key, pem)| (*key, strings(*pem))).collect();
    let secrets: Api<Secret> = Api::namespaced(admin.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({"data": data}));
    secrets.patch(CA_SECRET, &PatchParams::default(), &patch).await.unwrap();
}

#[test]
fn a_ca_is_replaced_through_its_secret_and_no_session_ends() {
    let server = ApiServer::start().unwrap();
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let admin = Client::try_from(config.clone()).unwrap();
        give_rights(&admin).await;
        config.auth_info.impersonate = Some("system:serviceaccount:kube-system:axoneme-operator".into());
        replace(&admin, &Client::try_from(config).unwrap()).await;
    });
}

async fn replace(admin: &Client, client: &Client) {
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), NAMESPACE);
    create(accounts, json!({"metadata": {"name": ACCOUNT}})).await;
    let state = tempfile::tempdir().unwrap();
    let folders = NODES.map(|node| state.path().join(node)).to_vec();
    for (node, folder) in NODES.iter().zip(&folders) {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("token"), token(admin, node).await).unwrap();
    }
    let operator = Operator::start(client, 0).await;
    tokio::spawn(mount(admin.clone(), folders.clone()));
    until("the ConfigMap", || folders.iter().all(|folder| folder.join("ca.crt").exists())).await;
    let daemons: Vec<_> = NODES.iter().zip(&folders).map(|(node, folder)| Daemon::start(node, folder)).collect();
    let all = |is: &dyn Fn(&Daemon) -> bool| daemons.iter().all(is);
    until("a session of every node", || all(&|daemon| daemon.connected() == 1)).await;
    let first: Vec<_> = daemons.iter().map(Daemon::certificate).collect();
    let old = first[0].1.clone();
    let before: Vec<_> = daemons.iter().map(Daemon::lost).collect();
    // From here on nobody can join.
    folders.iter().for_each(|folder| fs::remove_file(folder.join("token")).unwrap());

    let (new, key) = Authority::generate().unwrap();
    change(admin, &[("trusted.crt", Some(&new))]).await;
    let mounted = |daemon: &Daemon| fs::read_to_string(daemon.folder.join("ca.crt")).unwrap_or_default();
    let both = |text: &str| text.contains(old.trim()) && text.contains(new.trim());
    until("trust of both CAs by every node", || all(&|daemon| both(&daemon.certificate().1) && both(&mounted(daemon))))
        .await;
    let second: Vec<_> = daemons.iter().map(Daemon::certificate).collect();

    change(admin, &[("tls.crt", Some(&new)), ("tls.key", Some(&key)), ("trusted.crt", Some(&old))]).await;
    let renewed = |number: usize| daemons[number].certificate().0 != second[number].0;
    until("new certificates", || (0..NODES.len()).all(renewed)).await;

    change(admin, &[("trusted.crt", None)]).await;
    until("trust of the new CA alone", || all(&|daemon| mounted(daemon).trim() == new.trim())).await;
    for (daemon, before) in daemons.iter().zip(&before) {
        assert_eq!((daemon.connected(), &daemon.lost()), (1, before), "no session has ended");
    }

    // Who begins anew is taken by what it has, and takes the operator for what it is.
    let port = operator.address.rsplit_once(':').unwrap().1.parse().unwrap();
    operator.stop.cancel();
    until("the end of all sessions", || daemons.iter().zip(&before).all(|(daemon, before)| daemon.lost() != *before))
        .await;
    let _next = Operator::start(client, port).await;
    until("sessions with the next operator", || all(&|daemon| daemon.connected() == 2)).await;

    // A certificate of the old CA is worth nothing any more.
    let stolen = state.path().join("stolen");
    fs::create_dir(&stolen).unwrap();
    for name in ["node.key", "ca.crt", "operators"] {
        fs::copy(folders[0].join(name), stolen.join(name)).unwrap();
    }
    let saved = json!({"chain_pem": second[0].0, "ca_pem": new, "renew_after_unix": i64::MAX});
    fs::write(stolen.join("node-certificate.json"), saved.to_string()).unwrap();
    let thief = Daemon::start(NODES[0], &stolen);
    until("a refusal", || thief.lost().iter().any(|why| why.contains("refuses this node's certificate"))).await;
    assert_eq!(thief.connected(), 0);
}
