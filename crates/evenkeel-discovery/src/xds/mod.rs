//! xDS: listeners, routes, clusters and endpoints for Envoy, and for gRPC clients that need no proxy.
//!
//! The split is said by weighted clusters, one per revision, because gRPC clients look at no
//! endpoint's weight. Both ways of the aggregated service are spoken: the state of the world, and
//! what has changed.

mod proto;
mod resources;
mod serve;
mod stream;

pub(crate) use serve::serve;
