//! What the process says of itself on `$NOTIFY_SOCKET`, as services of systemd do.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::folder::remove_file;

/// A longer message is cut; those that are understood have some thirty bytes.
const MESSAGE_LENGTH_MAX: usize = 2048;
/// Messages read in one turn; the rest waits for the next.
const MESSAGES_MAX: usize = 32;

/// The socket, and what was last said on it.
#[derive(Debug)]
pub(super) struct Notify {
    socket: UnixDatagram,
    pub(super) ready: bool,
    stopping: bool,
    /// The process promised a sign of life this often.
    watchdog_ms: u64,
    alive_ms: Option<u64>,
}

impl Notify {
    /// Listens at `path`. `watchdog_ms` is what the process is told to keep to.
    pub(super) fn open(path: &Path, watchdog_ms: u64, ready: bool) -> io::Result<Self> {
        remove_file(path)?;
        let socket = UnixDatagram::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, ready, stopping: false, watchdog_ms, alive_ms: None })
    }

    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Forgets what an earlier process said.
    pub(super) fn reset(&mut self) {
        (self.ready, self.stopping, self.alive_ms) = (false, false, None);
    }

    /// Takes in what has arrived. Returns whether `READY=1` is new.
    pub(super) fn listen(&mut self, now_ms: u64) -> bool {
        let before = self.ready;
        let mut message = [0; MESSAGE_LENGTH_MAX];
        for _ in 0..MESSAGES_MAX {
            let Ok(length) = self.socket.recv(&mut message) else { break };
            self.hear(message.get(..length).unwrap_or_default(), now_ms);
        }
        self.ready != before
    }

    fn hear(&mut self, message: &[u8], now_ms: u64) {
        for line in message.split(|&byte| byte == b'\n') {
            match line {
                b"READY=1" => (self.ready, self.stopping) = (true, false),
                b"STOPPING=1" | b"RELOADING=1" => self.stopping = line == b"STOPPING=1",
                b"WATCHDOG=1" => self.alive_ms = Some(now_ms),
                _ => self.hear_interval(line),
            }
        }
    }

    fn hear_interval(&mut self, line: &[u8]) {
        let value =
            line.strip_prefix(b"WATCHDOG_USEC=").and_then(|us| std::str::from_utf8(us).ok());
        if let Some(us) = value.and_then(|us| us.parse::<u64>().ok()).filter(|&us| us > 0) {
            self.watchdog_ms = us.div_ceil(1000);
        }
    }

    /// Whether the process is ready by its own word. A watchdog binds only who has used it.
    pub(super) fn is_ready(&self, now_ms: u64) -> Result<(), String> {
        let silent_ms = self.alive_ms.map_or(0, |alive| now_ms.saturating_sub(alive));
        if !self.ready {
            return Err("it has not said READY=1 yet".to_owned());
        }
        if self.stopping {
            return Err("it said STOPPING=1".to_owned());
        }
        if silent_ms > self.watchdog_ms {
            return Err(format!("its watchdog is silent for {silent_ms}ms"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_believes_the_last_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note");
        let mut notify = Notify::open(&path, 1_000, false).unwrap();
        let say = |text: &str| UnixDatagram::unbound().unwrap().send_to(text.as_bytes(), &path);
        assert!(notify.is_ready(0).is_err());
        say("STATUS=warm\nREADY=1\n").unwrap();
        assert!(notify.listen(10));
        assert!(!notify.listen(10));
        assert_eq!(notify.is_ready(60_000), Ok(()));
        say("WATCHDOG=1").unwrap();
        notify.listen(1_000);
        assert_eq!(notify.is_ready(2_000), Ok(()));
        assert_eq!(notify.is_ready(2_001), Err("its watchdog is silent for 1001ms".to_owned()));
        say("WATCHDOG=1\nSTOPPING=1").unwrap();
        notify.listen(2_001);
        assert_eq!(notify.is_ready(2_002), Err("it said STOPPING=1".to_owned()));
    }
}
