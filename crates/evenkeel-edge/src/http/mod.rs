//! HTTP/1.1 and HTTP/2: the only part of the edge that knows the codec.

mod answer;
mod connection;
mod deliver;
mod destination;
mod exchange;
mod executor;
mod form;
mod forward;
mod framing;
mod front;
mod grpc;
mod headers;
mod link;
mod mirror;
mod outgoing;
mod payload;
mod record;
mod relay;
mod rewound;
mod search;
mod share;
mod tcp;
mod upgrade;
mod verdict;
mod watch;
mod web_socket;
mod worker;

pub(crate) use worker::Worker;
