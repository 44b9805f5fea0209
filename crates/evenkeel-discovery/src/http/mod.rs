//! HTTP: Consul's catalog and health API, Prometheus's, and one of our own.

mod answer;
mod consul;
mod events;
mod filter;
mod own;
mod query;
mod serve;

pub(crate) use serve::{Counted, Server, serve};
