//! The data plane: it listens, routes, picks, probes, counts and drains.
//!
//! It runs as a process of its own ([`run`]) and goes on serving whatever happens to control: the
//! last good table is on its disk. It decides nothing about releases; it is told a table
//! ([`client`]), serves it at once and says what it sees. Its listening sockets belong to the
//! keeper ([`handover`]), so its own end loses no connection.
//!
//! HTTP lives in one module, `http`; tables, picks, health and counters know nothing of it.

#![forbid(unsafe_code)]

mod acme;
mod budget;
mod certificates;
pub mod client;
mod clock;
mod counts;
mod demand;
mod directory;
mod door;
mod ewma;
#[cfg(test)]
mod fixtures;
pub mod handover;
mod health_call;
mod hold;
mod http;
mod instance;
mod knock;
mod lanes;
mod limits;
mod load;
mod log;
mod observe;
mod outlier;
mod peer;
mod pick;
mod probe;
mod protocol;
mod proxy_protocol;
mod queue;
mod rate;
mod ring;
mod route;
mod run;
mod sanity;
mod saved;
mod shared;
mod stream;
mod succession;
mod suspects;
mod table;
mod tally;
mod telemetry;
mod validity;
mod wake;

pub use directory::Outlook;
pub use limits::Limits;
pub use run::{Config, Edge, RunError, run};
pub use saved::can_start;
pub use succession::leaving;
