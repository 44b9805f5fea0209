//! HTTP/1.1: the only part of the edge that knows the codec.

mod answer;
mod connection;
mod exchange;
mod forward;
mod framing;
mod headers;
mod link;
mod outgoing;
mod payload;
mod search;
mod upgrade;
mod watch;
mod worker;

pub(crate) use worker::Worker;
