//! Discovery from outside: real sockets, and clients that nobody here wrote.

#[cfg(test)]
mod backend;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod dns;
#[cfg(test)]
mod http;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod proxies;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod xds;
