//! The edge from outside: real sockets, raw clients, raw instances.

mod client;
mod drains;
mod handovers;
mod instance;
mod messages;
mod rejects;
mod retries;
mod rig;
mod splits;
mod streams;
