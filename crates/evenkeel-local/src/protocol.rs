//! What is said on a shim's socket: one line in, one line out.
//!
//! `ready` is for probes and answered with `yes` or `no <reason>`, so that even a shell can ask.
//! Everything else is JSON with a version.

use evenkeel_kernel::world::Fence;
use serde::{Deserialize, Serialize};

use crate::status::Status;

/// The highest version of the protocol this build speaks.
pub(crate) const VERSION: u32 = 1;
/// The longest line a shim reads: an order is some 200 bytes.
pub(crate) const LINE_LENGTH_MAX: usize = 4096;
/// The question of a probe.
pub(crate) const READY: &[u8] = b"ready";

/// A request to a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    #[serde(rename = "v")]
    pub(crate) version: u32,
    #[serde(rename = "do")]
    pub(crate) order: Order,
}

/// What a shim can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Say how you are.
    Status,
    /// Go on; refuse lower orders from now on.
    Keep(Mandate),
    /// The spec was written anew; what can change without a restart changes now, the rest with
    /// the next start.
    Reload(Mandate),
    /// End the process and everything it started, then yourself.
    Stop(Mandate),
    /// Be another program from now on, in the same process.
    Become {
        /// On whose behalf.
        mandate: Mandate,
        /// The program, and what makes it a shim.
        command: Vec<String>,
    },
}

/// Who orders, and whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mandate {
    /// On behalf of which decision.
    pub(crate) fence: Fence,
    /// Which life of the instance is meant.
    pub(crate) incarnation: String,
}

/// What a shim answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Accepted; and how it is now.
    Ok(Box<Status>),
    /// Not accepted, and why.
    Refused(String),
}

/// Reads one line that is not [`READY`].
pub(crate) fn parse(line: &[u8]) -> Result<Order, String> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let spoken = serde_json::from_slice::<Version>(line).map_err(|_error| {
        r#"a request is `ready`, or JSON like {"v":1,"do":"status"}"#.to_owned()
    })?;
    if spoken.v != VERSION {
        return Err(format!("this shim speaks version {VERSION}, not {}", spoken.v));
    }
    let request: Request =
        serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))?;
    Ok(request.order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_by_version() {
        assert_eq!(parse(br#"{"v":1,"do":"status"}"#), Ok(Order::Status));
        assert_eq!(
            parse(br#"{"v":9,"do":"dance"}"#),
            Err("this shim speaks version 1, not 9".to_owned())
        );
        assert!(parse(b"hello").unwrap_err().contains("ready"));
        let mandate = Mandate { fence: Fence::default(), incarnation: "x".to_owned() };
        let request = Request { version: VERSION, order: Order::Stop(mandate) };
        assert_eq!(parse(&serde_json::to_vec(&request).unwrap()), Ok(request.order));
    }
}
