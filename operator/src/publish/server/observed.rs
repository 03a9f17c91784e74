//! The stream of observations: into the engine, acknowledged once it has them.

use std::sync::Arc;

use axoneme_proto::nodesync::observation::Event;
use axoneme_proto::nodesync::{Observation, ObservationAck};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::debug;

use crate::engine::{Handle, Input, Observed};
use crate::publish::tls::NodeName;

/// The acknowledgements. What the engine holds in memory only is repeated by the node on its next stream.
pub(super) fn open(
    node: NodeName,
    engine: Handle,
    observations: Streaming<Observation>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<ObservationAck, Status>> + Send {
    let name: Arc<str> = Arc::from(node.name.as_str());
    let acks = observations.and_then({
        let name = Arc::clone(&name);
        move |observation| observe(Arc::clone(&name), engine.clone(), observation)
    });
    let ended = move |status: &Status| {
        debug!(node = &*name, code = ?status.code(), reason = status.message(), "observations ended");
    };
    acks.inspect_err(ended).take_until(stop.cancelled_owned())
}

async fn observe(node: Arc<str>, engine: Handle, observation: Observation) -> Result<ObservationAck, Status> {
    if observation.node != *node {
        return Err(Status::permission_denied("an observation names another node than the certificate"));
    }
    let event = observation.event.map(|event| match event {
        Event::Attached(attached) => Observed::Attached(attached),
        Event::Detached(detached) => Observed::Detached(detached),
        Event::AllAttached(all) => Observed::AllAttached(all),
        Event::NodeReport(report) => Observed::Report(report),
    });
    // A newer node observes more than this operator understands.
    if let Some(event) = event {
        let observed = engine.send(Input::Observed { node, event }).await;
        observed.map_err(|error| Status::unavailable(error.to_string()))?;
    }
    Ok(ObservationAck { sequence: observation.sequence })
}
