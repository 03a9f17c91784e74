//! A real client over loopback.

use std::net::SocketAddr;

use axoneme_proto::OPERATOR_SERVER_NAME;
use axoneme_proto::nodesync::node_message::Message as FromNode;
use axoneme_proto::nodesync::node_sync_client::NodeSyncClient;
use axoneme_proto::nodesync::operator_message::Message as ToNode;
use axoneme_proto::nodesync::{Ack, Certificate, Hello, Operators, observation};
use axoneme_proto::tables::Settings;
use hyper_util::rt::TokioIo;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::engine::{Config, Engine, Input};
use crate::object::{Kind, Labels, Node, Object};
use crate::publish::join::{TokenVerdict, Vouch};
use crate::publish::tls::{Authority, testing};

/// Node n1 exists; the token is its name.
struct Fake;

impl Vouch for Fake {
    async fn token(&self, token: &str) -> Result<TokenVerdict, kube::Error> {
        let extra = [
            ("authentication.kubernetes.io/node-name", token),
            ("authentication.kubernetes.io/node-uid", "u1"),
            ("authentication.kubernetes.io/pod-name", "p"),
            ("authentication.kubernetes.io/pod-uid", "p1"),
        ];
        Ok(TokenVerdict {
            authenticated: true,
            username: "system:serviceaccount:kube-system:axoneme-node".into(),
            extra: extra.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        })
    }

    async fn node_uid(&self, name: &str) -> Result<Option<String>, kube::Error> {
        Ok(matches!(name, "n1" | "n2").then(|| "u1".to_owned()))
    }
}

struct World {
    authority: Authority,
    authorities: watch::Sender<Authority>,
    tls: ServerTls,
    address: SocketAddr,
    engine: Handle,
    operators: watch::Sender<Vec<String>>,
    stop: CancellationToken,
}

async fn world() -> World {
    let (engine, handle, _outputs) = Engine::new(Config::new(Settings::default()), [7; 16]);
    tokio::spawn(engine.run());
    for name in ["n1", "n2"] {
        let node = Node {
            name: name.into(),
            uid: "u1".into(),
            internal_ips: ["192.0.2.1".parse().unwrap()].into(),
            external_ips: [].into(),
            labels: Labels::default(),
            max_pods: 110,
            pod_cidrs: [].into(),
            resource_version: "1".into(),
        };
        handle.send(Input::Upsert(Object::Node(node.into()))).await.unwrap();
    }
    for kind in Kind::ALL {
        handle.send(Input::Synced(kind)).await.unwrap();
    }
    let authority = testing::authority();
    let hour = Duration::from_secs(3600);
    let authorities = watch::Sender::new(authority.clone());
    let registrar = Registrar::new(Fake, authority.clone(), "kube-system", "axoneme-node", hour);
    let registrar = registrar.following(authorities.subscribe());
    let operators = watch::Sender::new(vec!["192.0.2.9:4246".to_owned()]);
    let stop = CancellationToken::new();
    let service =
        Service::new(handle.clone(), registrar, operators.subscribe(), SessionMetrics::default(), stop.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = ServerTls::new(&authority).unwrap();
    tokio::spawn(service.serve(listener, tls.clone()));
    World { authority, authorities, tls, address, engine: handle, operators, stop }
}

impl World {
    async fn dial(&self, tls: ClientConfig) -> Result<NodeSyncClient<Channel>, tonic::transport::Error> {
        let (address, tls) = (self.address, tokio_rustls::TlsConnector::from(Arc::new(tls)));
        let connector = tower::service_fn(move |_| {
            let tls = tls.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from(OPERATOR_SERVER_NAME).unwrap();
                tls.connect(name, stream).await.map(TokioIo::new)
            }
        });
        // As the daemon has it.
        let endpoint = Endpoint::from_static("http://operator").initial_stream_window_size(256 << 10);
        Ok(NodeSyncClient::new(endpoint.connect_with_connector(connector).await?))
    }

    async fn join(&self, node: &str) -> (Certificate, KeyPair) {
        let (key, csr_der) = testing::key_and_csr();
        let mut client = self.dial(testing::client(&self.authority, None)).await.unwrap();
        let response = client.join(JoinRequest { token: node.into(), csr_der }).await.unwrap().into_inner();
        (response.certificate.unwrap(), key)
    }

    async fn client(&self, node: &str) -> NodeSyncClient<Channel> {
        let (certificate, key) = self.join(node).await;
        self.dial(testing::client(&self.authority, Some((&certificate.chain_pem, &key)))).await.unwrap()
    }
}

fn hello(node: &str) -> NodeMessage {
    let hello = Hello { node: node.into(), protocol_min: 1, protocol_max: 2, features: u64::MAX, ..Hello::default() };
    NodeMessage { message: Some(FromNode::Hello(hello)) }
}

type Inbound = Streaming<OperatorMessage>;

async fn desired(
    client: &mut NodeSyncClient<Channel>,
    first: NodeMessage,
) -> Result<(mpsc::Sender<NodeMessage>, Inbound), Status> {
    let (sender, receiver) = mpsc::channel(8);
    sender.send(first).await.unwrap();
    let response = client.desired(ReceiverStream::new(receiver)).await?;
    Ok((sender, response.into_inner()))
}

async fn next(inbound: &mut Inbound) -> Result<ToNode, Status> {
    let message = tokio::time::timeout(Duration::from_secs(10), inbound.message()).await.expect("a message in time")?;
    Ok(message.and_then(|message| message.message).expect("not the end"))
}

#[tokio::test]
async fn a_node_joins_is_served_and_renews() {
    let world = world().await;
    let mut client = world.client("n1").await;
    let (sender, mut inbound) = desired(&mut client, hello("n1")).await.unwrap();
    let ToNode::Welcome(welcome) = next(&mut inbound).await.unwrap() else { panic!("Welcome is first") };
    assert_eq!((welcome.operators, welcome.resumed), (vec!["192.0.2.9:4246".to_owned()], false));
    let ToNode::Delta(delta) = next(&mut inbound).await.unwrap() else { panic!("then a delta") };
    assert!(delta.last && delta.inputs_complete);
    assert!(delta.snapshots.contains(&"node/n1".to_owned()) && !delta.snapshots.contains(&"node/n2".to_owned()));
    let (_, csr) = testing::key_and_csr();
    sender.send(NodeMessage { message: Some(FromNode::RenewCsrDer(csr)) }).await.unwrap();
    assert!(matches!(next(&mut inbound).await.unwrap(), ToNode::Certificate(_)));
}

#[tokio::test]
async fn a_node_is_told_when_replicas_come_and_go() {
    let world = world().await;
    let mut client = world.client("n1").await;
    let (_sender, mut inbound) = desired(&mut client, hello("n1")).await.unwrap();
    while !matches!(next(&mut inbound).await.unwrap(), ToNode::Delta(_)) {}
    let addresses = vec!["192.0.2.9:4246".to_owned(), "192.0.2.10:4246".to_owned()];
    world.operators.send_replace(addresses.clone());
    assert_eq!(next(&mut inbound).await.unwrap(), ToNode::Operators(Operators { addresses }));
}

#[tokio::test]
async fn a_node_cannot_be_another_one_and_nobody_is_one_without_a_certificate() {
    let world = world().await;
    let mut anonymous = world.dial(testing::client(&world.authority, None)).await.unwrap();
    assert_eq!(desired(&mut anonymous, hello("n1")).await.unwrap_err().code(), Code::Unauthenticated);
    let observed = anonymous.observed(tokio_stream::iter([Observation::default()])).await;
    assert_eq!(observed.unwrap_err().code(), Code::Unauthenticated);

    let mut client = world.client("n1").await;
    let (_sender, mut inbound) = desired(&mut client, hello("n2")).await.unwrap();
    assert_eq!(next(&mut inbound).await.unwrap_err().code(), Code::PermissionDenied);
    let other = Observation { node: "n2".into(), sequence: 1, event: None };
    let mut acks = client.observed(tokio_stream::iter([other])).await.unwrap().into_inner();
    assert_eq!(acks.message().await.unwrap_err().code(), Code::PermissionDenied);
    // Its Node is gone, or another one of the same name.
    let (key, csr) = testing::key_and_csr();
    let former = NodeName { name: "n1".into(), uid: "u0".into() };
    let chain = world.authority.issue_node(&csr, &former, Duration::from_secs(3600)).unwrap();
    let mut former = world.dial(testing::client(&world.authority, Some((&chain, &key)))).await.unwrap();
    assert_eq!(desired(&mut former, hello("n1")).await.unwrap_err().code(), Code::PermissionDenied);
    let joined = anonymous.join(JoinRequest { token: "n9".into(), csr_der: csr }).await;
    assert_eq!(joined.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn certificates_that_are_expired_or_of_another_authority_are_refused() {
    let (world, stranger) = (world().await, testing::authority());
    let node = NodeName { name: "n1".into(), uid: "u1".into() };
    let (key, csr) = testing::key_and_csr();
    let foreign = stranger.issue_node(&csr, &node, Duration::from_secs(3600)).unwrap();
    let expired = testing::expired(&world.authority, &csr, &node);
    for chain in [foreign, expired] {
        let dialled = world.dial(testing::client(&world.authority, Some((&chain, &key)))).await;
        // With TLS 1.3 a client hears of the refusal with the first request.
        if let Ok(mut client) = dialled {
            assert!(desired(&mut client, hello("n1")).await.is_err());
        }
    }
    // And a node does not talk to an operator of another authority.
    assert!(world.dial(testing::client(&stranger, None)).await.is_err());
}

#[tokio::test]
async fn a_new_authority_ends_no_session_and_both_are_trusted_for_as_long_as_it_says() {
    let world = world().await;
    let (old, new) = (world.authority.clone(), testing::authority());
    let (certificate, key) = world.join("n1").await;
    let identity = Some((&*certificate.chain_pem, &key));
    let mut before = world.dial(testing::client(&old, identity)).await.unwrap();
    let (sender, mut session) = desired(&mut before, hello("n1")).await.unwrap();
    while !matches!(next(&mut session).await.unwrap(), ToNode::Delta(_)) {}

    // First the new one is made known.
    let rotate = |authority: Authority| {
        world.tls.renew(&authority).unwrap();
        world.authorities.send_replace(authority);
    };
    rotate(old.clone().trusting(new.trusted_pem()).unwrap());
    let (_, csr) = testing::key_and_csr();
    sender.send(NodeMessage { message: Some(FromNode::RenewCsrDer(csr.clone())) }).await.unwrap();
    let ToNode::Certificate(renewed) = next(&mut session).await.unwrap() else { panic!("a certificate") };
    let both = new.clone().trusting(old.trusted_pem()).unwrap();
    assert!(renewed.ca_pem.contains(old.trusted_pem().trim()) && renewed.ca_pem.contains(new.trusted_pem().trim()));

    // Then it signs: the session goes on, old certificates are taken, new ones are given.
    rotate(both.clone());
    let mut again = world.dial(testing::client(&both, identity)).await.unwrap();
    let (_again, mut other) = desired(&mut again, hello("n1")).await.unwrap();
    assert!(matches!(next(&mut other).await.unwrap(), ToNode::Welcome(_)));
    assert_eq!(next(&mut session).await.unwrap_err().code(), Code::Aborted, "it lasted until the node had another one");
    assert!(world.dial(testing::client(&old, identity)).await.is_err(), "who was told of the old one alone");
    let mut anonymous = world.dial(testing::client(&new, None)).await.unwrap();
    let (key, csr_der) = testing::key_and_csr();
    let joined =
        anonymous.join(JoinRequest { token: "n2".into(), csr_der }).await.unwrap().into_inner().certificate.unwrap();

    // Then the old one is forgotten.
    rotate(new.clone());
    let mut client = world.dial(testing::client(&new, Some((&joined.chain_pem, &key)))).await.unwrap();
    let (_client, mut session) = desired(&mut client, hello("n2")).await.unwrap();
    assert!(matches!(next(&mut session).await.unwrap(), ToNode::Welcome(_)));
    if let Ok(mut client) = world.dial(testing::client(&new, identity)).await {
        assert!(desired(&mut client, hello("n1")).await.is_err());
    }
}

#[tokio::test]
async fn a_newer_session_ends_the_older_and_the_end_is_announced() {
    let world = world().await;
    let (mut one, mut two) = (world.client("n1").await, world.client("n1").await);
    let (_first, mut older) = desired(&mut one, hello("n1")).await.unwrap();
    while !matches!(next(&mut older).await.unwrap(), ToNode::Delta(_)) {}
    let (_second, mut newer) = desired(&mut two, hello("n1")).await.unwrap();
    while !matches!(next(&mut newer).await.unwrap(), ToNode::Delta(_)) {}
    assert_eq!(next(&mut older).await.unwrap_err().code(), Code::Aborted);
    world.stop.cancel();
    assert!(matches!(next(&mut newer).await.unwrap(), ToNode::Drain(_)));
}

/// A slice of a thousand addresses, the `version`th of it.
fn slice(version: u32) -> Object {
    let address = |number: u32| std::net::IpAddr::from((0x0a00_0000 + version * 1_000 + number).to_be_bytes());
    let endpoints: Vec<_> = (0..1_000).map(|number| serde_json::json!({"addresses": [address(number)]})).collect();
    let manifest = serde_json::json!({
        "kind": "EndpointSlice", "addressType": "IPv4", "ports": [], "endpoints": endpoints,
        "metadata": {"name": "s", "namespace": "a", "labels": {"kubernetes.io/service-name": "s"}},
    });
    crate::watch::decode(&manifest).unwrap().0.unwrap()
}

#[tokio::test]
async fn a_node_that_takes_nothing_costs_the_others_nothing_and_is_told_the_end_when_it_takes_again() {
    const CHANGES: u32 = 300;
    let world = world().await;
    let service = serde_json::json!({
        "kind": "Service", "metadata": {"name": "s", "namespace": "a", "uid": "s"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": []},
    });
    world.engine.send(Input::Upsert(crate::watch::decode(&service).unwrap().0.unwrap())).await.unwrap();
    let (mut one, mut two) = (world.client("n1").await, world.client("n2").await);
    let (_stuck, mut stuck) = desired(&mut one, hello("n1")).await.unwrap();
    let (sender, mut inbound) = desired(&mut two, hello("n2")).await.unwrap();
    while !matches!(next(&mut inbound).await.unwrap(), ToNode::Delta(_)) {}
    let mut sent = 0;
    for version in 0..CHANGES {
        world.engine.send(Input::Upsert(slice(version))).await.unwrap();
        // In time, or `next` says so.
        let ToNode::Delta(delta) = next(&mut inbound).await.unwrap() else { panic!("a delta") };
        sent += prost::Message::encoded_len(&delta);
        let ack = Ack { received: delta.to_revision, attempted: delta.to_revision, ..Ack::default() };
        sender.send(NodeMessage { message: Some(FromNode::Ack(ack)) }).await.unwrap();
    }
    let revision = world.engine.revision();
    let (mut held, mut taken) = (0, 0);
    while held < revision {
        if let ToNode::Delta(delta) = next(&mut stuck).await.unwrap() {
            taken += prost::Message::encoded_len(&delta);
            held = delta.to_revision;
        }
    }
    assert!(taken < sent / 3, "{taken} bytes of {sent} were kept for it");
}

#[tokio::test]
async fn observations_are_acknowledged_once_the_engine_has_them() {
    let world = world().await;
    let mut client = world.client("n1").await;
    let (sender, receiver) = mpsc::channel(8);
    let mut acks = client.observed(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for sequence in [5, 6] {
        let event = Some(observation::Event::NodeReport(axoneme_proto::nodesync::NodeReport::default()));
        sender.send(Observation { node: "n1".into(), sequence, event }).await.unwrap();
    }
    let mut acknowledged = 0;
    while acknowledged < 6 {
        acknowledged = acks.message().await.unwrap().unwrap().sequence;
    }
    assert!(world.engine.is_complete());
}
