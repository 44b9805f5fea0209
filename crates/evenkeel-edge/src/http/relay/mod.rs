//! HTTP/1.1 whose requests are plainly simple, relayed as bytes, with no message library in
//! between.
//!
//! It takes only what can be read in one way: a known method, a plain target, one host, at most one
//! length, nothing chunked, nothing that changes the connection. At the first request that is
//! anything else, right or wrong, the connection goes to hyper for good, before a byte of it was
//! acted upon. So it cannot be talked into reading a message differently than whoever comes after:
//! each head is written anew from what was read.

mod frame;
mod head;
mod raw;
mod serve;
mod talk;

pub(crate) use raw::Raw;
pub(crate) use serve::serve;
