//! NodeSync's calls as HTTP/2 carries them.
//!
//! What tonic generates encodes a stream's messages into one buffer, which it keeps, as large as it ever was, for as long as the
//! stream is open. An operator has a stream to each node, most of them idle, so `Desired` is answered here: each message has a
//! buffer of its own, which is gone when the connection has taken it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axoneme_proto::codec::Half;
use axoneme_proto::nodesync::OperatorMessage;
use axoneme_proto::nodesync::node_sync_server::{NodeSync, NodeSyncServer, SERVICE_NAME};
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use tonic::body::Body;
use tonic::metadata::{GRPC_CONTENT_TYPE, MetadataMap};
use tonic::server::NamedService;
use tonic::{Status, Streaming};

use super::{MAX_MESSAGE, Service};
use crate::publish::join::Vouch;

/// What gRPC puts before each message: whether it is compressed, and its length.
const HEADER: usize = 5;

/// All calls of a [`Service`].
#[derive(Debug)]
pub(super) struct Calls<V> {
    service: Arc<Service<V>>,
    others: NodeSyncServer<Service<V>>,
}

impl<V: Vouch> Calls<V> {
    pub(super) fn of(service: Service<V>) -> Self {
        let service = Arc::new(service);
        let others = NodeSyncServer::from_arc(Arc::clone(&service)).max_decoding_message_size(MAX_MESSAGE);
        Self { service, others }
    }
}

impl<V> Clone for Calls<V> {
    fn clone(&self) -> Self {
        Self { service: Arc::clone(&self.service), others: self.others.clone() }
    }
}

impl<V: Vouch> NamedService for Calls<V> {
    const NAME: &str = SERVICE_NAME;
}

impl<V: Vouch> tower::Service<Request<Body>> for Calls<V> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !request.uri().path().ends_with("/Desired") {
            return self.others.call(request);
        }
        let service = Arc::clone(&self.service);
        async move {
            let (parts, body) = request.into_parts();
            let messages = Streaming::new_request(Half::default(), body, None, Some(MAX_MESSAGE));
            let metadata = MetadataMap::from_headers(parts.headers);
            let answer = service.desired(tonic::Request::from_parts(metadata, parts.extensions, messages)).await;
            Ok(answer.map_or_else(Status::into_http, |answer| response(answer.into_inner())))
        }
        .boxed()
    }
}

/// The messages, and behind them how the stream has ended.
fn response(messages: impl Stream<Item = Result<OperatorMessage, Status>> + Send + 'static) -> Response<Body> {
    let frames = messages.map(|message| match message {
        Ok(message) => Frame::data(framed(&message)),
        Err(status) => trailers(&status),
    });
    let frames = frames.chain(stream::once(async { trailers(&Status::ok("")) })).map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

fn framed(message: &OperatorMessage) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(HEADER + length);
    buffer.put_u8(0);
    buffer.put_u32(length as u32);
    message.encode_raw(&mut buffer);
    buffer.freeze()
}

fn trailers(status: &Status) -> Frame<Bytes> {
    let mut headers = HeaderMap::new();
    // Without a status that can be told, the node takes the stream for broken, as it is.
    status.add_header(&mut headers).ok();
    Frame::trailers(headers)
}
