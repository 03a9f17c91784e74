//! NodeSync over gRPC: who dials is known by its certificate; everything else is the engine's.

mod calls;
mod desired;
mod observed;
mod sessions;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axoneme_proto::nodesync::node_sync_server::NodeSync;
use axoneme_proto::nodesync::{JoinRequest, JoinResponse, NodeMessage, Observation, ObservationAck, OperatorMessage};
use futures::Stream;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::join::{Registrar, Vouch};
use super::tls::{self, NodeName, Peer, ServerTls};
use crate::engine::Handle;

use calls::Calls;
pub use sessions::SessionMetrics;
use sessions::Sessions;

/// Nodes that are silent for longer than both together are gone.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// What nodes send is small: acks, reports, certificate requests.
const MAX_MESSAGE: usize = 1 << 20;

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Debug)]
pub struct Service<V> {
    engine: Handle,
    registrar: Arc<Registrar<V>>,
    operators: watch::Receiver<Vec<String>>,
    sessions: Sessions,
    snapshots: Arc<Semaphore>,
    stop: CancellationToken,
}

impl<V: Vouch> Service<V> {
    /// Serves `engine`'s rows to nodes that `registrar` trusts, and tells them of all `operators`, at once when those
    /// change. When `stop` is cancelled, every session is told to go elsewhere.
    #[must_use]
    pub fn new(
        engine: Handle,
        registrar: Registrar<V>,
        operators: watch::Receiver<Vec<String>>,
        metrics: SessionMetrics,
        stop: CancellationToken,
    ) -> Self {
        let (registrar, sessions) = (Arc::new(registrar), Sessions::new(metrics));
        let snapshots = Arc::new(Semaphore::new(desired::SNAPSHOTS));
        Self { engine, registrar, operators, sessions, snapshots, stop }
    }

    /// Serves connections until `stop` is cancelled and all sessions have been told.
    ///
    /// # Errors
    /// When the transport fails as a whole.
    pub fn serve(
        self,
        listener: TcpListener,
        tls: ServerTls,
    ) -> impl Future<Output = Result<(), tonic::transport::Error>> {
        let stop = self.stop.clone();
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE.0))
            .http2_keepalive_timeout(Some(KEEPALIVE.1))
            .tcp_nodelay(true)
            .add_service(Calls::of(self))
            .serve_with_incoming_shutdown(ReceiverStream::new(tls::accept(listener, tls)), stop.cancelled_owned())
    }
}

impl<V: Vouch> Service<V> {
    /// Begins a session of desired state with `node`, which has proved who it is. It lasts as long as both streams do.
    pub fn session<S>(
        &self,
        node: NodeName,
        messages: S,
    ) -> impl Stream<Item = Result<OperatorMessage, Status>> + Send + use<V, S>
    where
        S: Stream<Item = Result<NodeMessage, Status>> + Send + Unpin + 'static,
    {
        let stream = desired::Desired {
            node,
            engine: self.engine.clone(),
            registrar: Arc::clone(&self.registrar),
            operators: self.operators.clone(),
            sessions: self.sessions.clone(),
            snapshots: Arc::clone(&self.snapshots),
            stop: self.stop.clone(),
        };
        stream.open(messages)
    }
}

/// The node that the connection's certificate names.
fn node_of<T>(request: &Request<T>) -> Result<NodeName, Status> {
    match request.extensions().get::<Peer>() {
        Some(Peer::Node(node)) => Ok(node.clone()),
        _ => Err(Status::unauthenticated("a node's certificate is needed: call Join first")),
    }
}

#[tonic::async_trait]
impl<V: Vouch> NodeSync for Service<V> {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        let certificate = self.registrar.join(&request.token, &request.csr_der).await?;
        Ok(Response::new(JoinResponse { certificate: Some(certificate) }))
    }

    type DesiredStream = Outgoing<OperatorMessage>;

    async fn desired(&self, request: Request<Streaming<NodeMessage>>) -> Result<Response<Self::DesiredStream>, Status> {
        let node = node_of(&request)?;
        // The certificate outlives the Node by up to its lifetime; a session must not.
        self.registrar.not_gone(&node).await?;
        Ok(Response::new(Box::pin(self.session(node, request.into_inner()))))
    }

    type ObservedStream = Outgoing<ObservationAck>;

    async fn observed(
        &self,
        request: Request<Streaming<Observation>>,
    ) -> Result<Response<Self::ObservedStream>, Status> {
        let node = node_of(&request)?;
        self.registrar.not_gone(&node).await?;
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        Ok(Response::new(Box::pin(observed::open(node, engine, request.into_inner(), stop))))
    }
}
