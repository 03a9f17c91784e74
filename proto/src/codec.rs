//! Messages as gRPC carries them: prost's encoding, with buffers that begin small.
//!
//! A stream keeps the largest buffer that it ever needed for as long as it is open, and an operator has two streams for each node,
//! most of them idle.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// A stream's buffer for each direction, in bytes, before the first message that is longer.
const BUFFER: usize = 256;

/// Messages are gathered into one write until they are this long, in bytes.
const GATHERED: usize = 4 << 10;

/// The codec of all calls: encodes `T`, decodes `U`.
#[derive(Debug)]
pub struct Fitting<T, U>(PhantomData<fn(T) -> U>);

impl<T, U> Default for Fitting<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// One direction of [`Fitting`].
#[derive(Debug)]
pub struct Half<T>(PhantomData<fn(T) -> T>);

impl<T> Default for Half<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Fitting<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Half<T>;
    type Decoder = Half<U>;

    fn encoder(&mut self) -> Half<T> {
        Half::default()
    }

    fn decoder(&mut self) -> Half<U> {
        Half::default()
    }
}

impl<T: Message> Encoder for Half<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(item.encoded_len());
        item.encode(buf).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, GATHERED)
    }
}

impl<T: Message + Default> Decoder for Half<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        let message = T::decode(buf);
        message.map(Some).map_err(|error| Status::internal(format!("a message that cannot be decoded: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, GATHERED)
    }
}
