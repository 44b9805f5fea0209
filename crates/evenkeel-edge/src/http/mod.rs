//! HTTP/1.1 and HTTP/2: the only part of the edge that knows the codec.

mod answer;
mod connection;
mod exchange;
mod executor;
mod form;
mod forward;
mod framing;
mod grpc;
mod headers;
mod link;
mod outgoing;
mod payload;
mod search;
mod share;
mod upgrade;
mod watch;
mod worker;

pub(crate) use worker::Worker;
