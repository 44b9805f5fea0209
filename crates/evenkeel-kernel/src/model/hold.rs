//! Holding the requests of a service back for a moment, while what they would meet is exchanged.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The requests of a service wait and reach nobody.
///
/// Whoever serves it counts its time from when it first meets this number, so a hold ends even if
/// nobody is there to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Which one: another hold has another number.
    pub number: u64,
    /// How long it lasts, at most.
    pub lasts: Duration,
}

impl Hold {
    /// How long it lasts where nobody says.
    pub const LASTS: Duration = Duration::from_secs(10);
    /// The shortest: what is shorter than one look of control is no time to do anything in.
    pub const LASTS_MIN: Duration = Duration::from_millis(100);
    /// The longest. Somebody who needs more time has a maintenance page to show.
    pub const LASTS_MAX: Duration = Duration::from_secs(60);
    /// How long one request waits: most clients give up at 10 to 30 s.
    pub const EACH: Duration = Duration::from_secs(10);
    /// Requests of one service that wait at a time: at some 30 KiB each, 30 MiB.
    pub const REQUESTS_MAX: u32 = 1_000;
    /// Bytes that the waiting requests of one service keep: what is long waits outside.
    pub const BYTES_MAX: u64 = 64 * 1024 * 1024;
}
