//! An operator in this process that hands the test both ends of every stream.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axoneme_node::sync::dial::{Dial, Io};
use axoneme_proto::OPERATOR_SERVER_NAME;
use axoneme_proto::nodesync::node_sync_server::{NodeSync, NodeSyncServer};
use axoneme_proto::nodesync::{
    Certificate, Delta, Drain, Hello, JoinRequest, JoinResponse, NodeMessage, Observation, ObservationAck,
    OperatorMessage, Operators, Told, ToldPod, Welcome, node_message, operator_message,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

/// Signs operators and nodes.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Arc<Self> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Arc::new(Self { issuer: Issuer::new(params, key), der, pem })
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        Arc::new(roots)
    }

    /// A certificate for the request.
    pub fn sign(&self, csr: &[u8], renew_in: i64) -> Certificate {
        let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr)).unwrap();
        let chain_pem = csr.signed_by(&self.issuer).unwrap().pem();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed();
        Certificate { chain_pem, ca_pem: self.pem.clone(), renew_after_unix: now + renew_in }
    }
}

/// How an operator behaves.
pub struct Behaviour {
    /// Who signed its certificate.
    pub shown: Arc<Authority>,
    /// Whose nodes it lets in.
    pub trusted: Arc<Authority>,
    /// The name in its certificate.
    pub name: String,
    /// What it says to a join; None: it signs.
    pub join: Option<Status>,
    /// Seconds until its certificates are to be renewed.
    pub renew_in: i64,
}

impl Behaviour {
    pub fn good(authority: &Arc<Authority>) -> Self {
        Self {
            shown: authority.clone(),
            trusted: authority.clone(),
            name: OPERATOR_SERVER_NAME.into(),
            join: None,
            renew_in: 3600,
        }
    }
}

/// A stream of `Desired`, the operator's end.
pub struct Session {
    pub hello: Hello,
    inbound: Streaming<NodeMessage>,
    outbound: mpsc::Sender<Result<OperatorMessage, Status>>,
}

impl Session {
    pub async fn welcome(&self, epoch: u8, resumed: bool) {
        let operators = vec!["10.0.0.2:4246".into()];
        let welcome = Welcome { protocol: 1, epoch: vec![epoch; 16], resumed, operators };
        self.send(operator_message::Message::Welcome(welcome)).await;
    }

    pub async fn delta(&self, delta: Delta) {
        self.send(operator_message::Message::Delta(delta)).await;
    }

    pub async fn told(&self, pod_uid: &str, revision: u64) {
        let pods = vec![ToldPod { pod_uid: pod_uid.into(), revision, skipped: 1 }];
        self.send(operator_message::Message::Told(Told { pods })).await;
    }

    pub async fn operators(&self, addresses: &[&str]) {
        let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
        self.send(operator_message::Message::Operators(Operators { addresses })).await;
    }

    pub async fn certificate(&self, certificate: Certificate) {
        self.send(operator_message::Message::Certificate(certificate)).await;
    }

    pub async fn drain(&self, min_ms: u32, max_ms: u32) {
        self.send(operator_message::Message::Drain(Drain { min_ms, max_ms })).await;
    }

    async fn send(&self, message: operator_message::Message) {
        self.outbound.send(Ok(OperatorMessage { message: Some(message) })).await.unwrap();
    }

    /// What the node says next; None: the stream ended.
    pub async fn next(&mut self) -> Option<node_message::Message> {
        self.inbound.message().await.ok().flatten()?.message
    }

    /// The next ack.
    pub async fn ack(&mut self) -> axoneme_proto::nodesync::Ack {
        match self.next().await {
            Some(node_message::Message::Ack(ack)) => ack,
            other => panic!("{other:?} instead of an ack"),
        }
    }
}

/// A stream of `Observed`, the operator's end.
pub struct Observed {
    inbound: Streaming<Observation>,
    outbound: mpsc::Sender<Result<ObservationAck, Status>>,
}

impl Observed {
    pub async fn next(&mut self) -> Observation {
        self.inbound.message().await.unwrap().unwrap()
    }

    pub async fn ack(&self, sequence: u64) {
        self.outbound.send(Ok(ObservationAck { sequence })).await.unwrap();
    }
}

/// What happens at an operator, as it happens.
pub struct Operator {
    pub joins: mpsc::Receiver<JoinRequest>,
    pub sessions: mpsc::Receiver<Session>,
    pub observed: mpsc::Receiver<Observed>,
}

/// Where operators listen.
#[derive(Clone, Default)]
pub struct Network {
    listeners: Arc<Mutex<HashMap<String, mpsc::Sender<DuplexStream>>>>,
    dialled: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Dial for Network {
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        self.dialled.lock().unwrap().push((Instant::now(), address.to_owned()));
        let listener = self.listeners.lock().unwrap().get(address).cloned();
        async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let (ours, theirs) = duplex(64 << 10);
            listener.ok_or_else(refused)?.send(theirs).await.map_err(|_| refused())?;
            Ok(Box::new(ours) as Box<dyn Io>)
        }
        .boxed()
    }
}

impl Network {
    /// Every connection that was tried since the last time it was asked, and when.
    pub fn dialled(&self) -> Vec<(Instant, String)> {
        std::mem::take(&mut self.dialled.lock().unwrap())
    }

    /// Nobody at `address` any more.
    pub fn close(&self, address: &str) {
        self.listeners.lock().unwrap().remove(address);
    }

    /// An operator at `address`, instead of whoever was there.
    pub fn operator(&self, address: &str, behaviour: Behaviour) -> Operator {
        let (connections, mut accepted) = mpsc::channel::<DuplexStream>(4);
        self.listeners.lock().unwrap().insert(address.into(), connections);
        let acceptor = TlsAcceptor::from(Arc::new(tls(&behaviour)));
        let (handshaken, incoming) = mpsc::channel::<io::Result<Connection>>(4);
        tokio::spawn(async move {
            while let Some(stream) = accepted.recv().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = handshaken.send(Ok(Connection(stream))).await;
                }
            }
        });
        let (joined, joins) = mpsc::channel(16);
        let (opened, sessions) = mpsc::channel(16);
        let (observing, observed) = mpsc::channel(16);
        let service = Service { behaviour, joined, opened, observing };
        tokio::spawn(
            Server::builder()
                .add_service(NodeSyncServer::new(service))
                .serve_with_incoming(ReceiverStream::new(incoming)),
        );
        Operator { joins, sessions, observed }
    }
}

impl Network {
    /// Lets processes reach the operator at `address` over TCP.
    pub async fn listen(&self, address: &str) -> tokio::task::AbortHandle {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let (network, address) = (self.clone(), address.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Ok(mut inside) = network.dial(&address).await else { continue };
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut inside).await });
            }
        });
        task.abort_handle()
    }
}

fn tls(behaviour: &Behaviour) -> ServerConfig {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![behaviour.name.clone()]).unwrap();
    let certificate = params.signed_by(&key, &behaviour.shown.issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(behaviour.trusted.roots(), provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

struct Service {
    behaviour: Behaviour,
    joined: mpsc::Sender<JoinRequest>,
    opened: mpsc::Sender<Session>,
    observing: mpsc::Sender<Observed>,
}

#[tonic::async_trait]
impl NodeSync for Service {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        // A test that does not look at joins lets them pass.
        let _ = self.joined.try_send(request.clone());
        if let Some(refusal) = &self.behaviour.join {
            return Err(refusal.clone());
        }
        let certificate = self.behaviour.trusted.sign(&request.csr_der, self.behaviour.renew_in);
        Ok(Response::new(JoinResponse { certificate: Some(certificate) }))
    }

    type DesiredStream = ReceiverStream<Result<OperatorMessage, Status>>;

    async fn desired(&self, request: Request<Streaming<NodeMessage>>) -> Result<Response<Self::DesiredStream>, Status> {
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|first| first.message);
        let Some(node_message::Message::Hello(hello)) = first else { return Err(Status::invalid_argument("Hello?")) };
        let (outbound, stream) = mpsc::channel(16);
        self.opened.try_send(Session { hello, inbound, outbound }).unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type ObservedStream = ReceiverStream<Result<ObservationAck, Status>>;

    async fn observed(
        &self,
        request: Request<Streaming<Observation>>,
    ) -> Result<Response<Self::ObservedStream>, Status> {
        let (outbound, stream) = mpsc::channel(16);
        self.observing.try_send(Observed { inbound: request.into_inner(), outbound }).unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

struct Connection(TlsStream<DuplexStream>);

impl Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
