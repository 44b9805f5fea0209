//! The edge from outside: real sockets, raw clients, raw instances.

#[cfg(test)]
mod affine;
#[cfg(test)]
mod client;
#[cfg(test)]
mod drains;
#[cfg(test)]
mod h2_peer;
#[cfg(test)]
mod handovers;
#[cfg(test)]
mod held;
#[cfg(test)]
mod holds;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod instance;
#[cfg(test)]
mod issuer;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod outlook;
#[cfg(test)]
mod outside;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod rejects;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod splits;
#[cfg(test)]
mod spread;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod successions;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod timeouts;
#[cfg(test)]
mod web_sockets;
#[cfg(test)]
mod zero;
