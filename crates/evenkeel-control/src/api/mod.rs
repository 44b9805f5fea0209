//! The API, version 1: JSON over HTTP on a unix socket.
//!
//! The types are the wire's own; [`openapi`] is generated from them.

pub(crate) mod doc;
pub(crate) mod handlers;
pub mod types;

pub use doc::openapi;
