//! The stream of observations: everything unacknowledged in order, then whatever comes.

use std::time::Duration;

use axoneme_proto::nodesync::Observation;
use axoneme_proto::nodesync::node_sync_client::NodeSyncClient;
use futures::Stream;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

use super::backoff::Backoff;
use crate::observe::outbox::Outbox;

/// What is not acknowledged within this time is sent again, on a new stream.
const ANSWER: Duration = Duration::from_secs(60);

/// Tells what `outbox` has, for as long as it is polled. Its failures are its own: desired state goes on.
pub async fn run(client: NodeSyncClient<Channel>, outbox: &Outbox) -> std::convert::Infallible {
    let mut backoff = Backoff::default();
    loop {
        if let Err(status) = stream(client.clone(), outbox, &mut backoff).await {
            tracing::warn!(code = ?status.code(), reason = status.message(), "observations are not taken");
        }
        sleep(backoff.pause()).await;
    }
}

async fn stream(mut client: NodeSyncClient<Channel>, outbox: &Outbox, backoff: &mut Backoff) -> Result<(), Status> {
    let mut answers = client.observed(outgoing(outbox.clone())).await?.into_inner();
    loop {
        let answer = match timeout(ANSWER, answers.message()).await {
            Ok(answer) => answer?,
            Err(_) if outbox.is_empty() => continue,
            Err(_) => return Err(Status::deadline_exceeded("no acknowledgement")),
        };
        let Some(ack) = answer else { return Err(Status::unavailable("the operator closed the stream")) };
        backoff.reset();
        outbox.acknowledged(ack.sequence).await;
    }
}

/// Pulls from the outbox as fast as the operator reads.
fn outgoing(outbox: Outbox) -> impl Stream<Item = Observation> + Send + 'static {
    let news = outbox.news();
    futures::stream::unfold((outbox, news, 0), |(outbox, mut news, sent)| async move {
        loop {
            news.mark_unchanged();
            if let Some(next) = outbox.next_after(sent) {
                let sent = next.sequence;
                return Some((next, (outbox, news, sent)));
            }
            if news.changed().await.is_err() {
                return None;
            }
        }
    })
}
