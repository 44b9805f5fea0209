//! DNS: names of services, revisions and instances, and those that Consul's clients ask for.
//!
//! Questions are read and answers are written by our own code, because ready answers are kept as
//! bytes and most of a query's cost is then the system's. `message` is the only part that reads
//! what strangers send.

mod answers;
mod forward;
mod message;
mod ready;
mod tcp;
mod udp;
mod zone;

pub(crate) use answers::Answers;
pub(crate) use forward::Forwarder;
pub(crate) use tcp::serve as serve_tcp;
pub(crate) use udp::{bind as bind_udp, serve as serve_udp};
