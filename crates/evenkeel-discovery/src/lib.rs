//! Discovery: tells others where the services are.
//!
//! It is given a [`Directory`] that somebody else keeps up to date, and listening sockets that
//! somebody else holds, and speaks the protocols that clients have already. It runs in a thread of
//! its own in the edge's process ([`start`]), so it answers as long as requests do, and cannot slow
//! them. It decides nothing: who is offered with which weight is said by the kernel.
//!
//! [`Directory`]: evenkeel_kernel::routing::directory::Directory

#![forbid(unsafe_code)]

mod bounds;
mod catalog;
mod dns;
mod http;
mod hub;
mod log;
mod readers;
mod registry;
mod run;
mod xds;

pub use readers::Report;
pub use run::{Running, Socket, Sockets, Start, start};
