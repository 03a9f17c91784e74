//! The stream of observations: into the engine, acknowledged once it has them.

use std::sync::Arc;

use axoneme_proto::nodesync::observation::Event;
use axoneme_proto::nodesync::{Observation, ObservationAck};
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::debug;

use super::QUEUE;
use crate::engine::{Handle, Input, Observed};
use crate::publish::tls::NodeName;

/// Begins the stream. What the engine holds in memory only is repeated by the node on its next stream.
pub(super) fn open(
    node: NodeName,
    engine: Handle,
    observations: Streaming<Observation>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<ObservationAck, Status>> + Send {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let result = tokio::select! {
            result = run(&node, &engine, observations, &sender) => result,
            () = stop.cancelled() => Ok(()),
        };
        if let Err(status) = result {
            debug!(node = node.name, code = ?status.code(), reason = status.message(), "observations ended");
            // The node may be gone.
            sender.send(Err(status)).await.ok();
        }
    });
    ReceiverStream::new(receiver)
}

async fn run(
    node: &NodeName,
    engine: &Handle,
    mut observations: Streaming<Observation>,
    sender: &mpsc::Sender<Result<ObservationAck, Status>>,
) -> Result<(), Status> {
    let name: Arc<str> = Arc::from(node.name.as_str());
    let tell = async |event| {
        let input = Input::Observed { node: Arc::clone(&name), event };
        engine.send(input).await.map_err(|error| Status::unavailable(error.to_string()))
    };
    while let Some(observation) = observations.message().await? {
        if observation.node != node.name {
            return Err(Status::permission_denied("an observation names another node than the certificate"));
        }
        match observation.event {
            Some(Event::Attached(attached)) => tell(Observed::Attached(attached)).await?,
            Some(Event::Detached(detached)) => tell(Observed::Detached(detached)).await?,
            Some(Event::AllAttached(all)) => tell(Observed::AllAttached(all)).await?,
            Some(Event::NodeReport(report)) => tell(Observed::Report(report)).await?,
            // A newer node observes more than this operator understands.
            None => {}
        }
        let ack = ObservationAck { sequence: observation.sequence };
        sender.send(Ok(ack)).await.map_err(|_| Status::cancelled("the node has hung up"))?;
    }
    Ok(())
}
