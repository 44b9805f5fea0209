//! Tells control that it should look: one empty datagram, as often as something changed, at most
//! as often as control can care.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_kernel::layout;
use tokio::sync::Notify;

/// Time between two datagrams: a decision takes control longer than this.
const PAUSE: Duration = Duration::from_millis(20);

/// Something changed that control should know of.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    called: Notify,
}

impl Wake {
    #[cfg(test)]
    pub(crate) fn silent() -> Arc<Self> {
        Arc::default()
    }

    /// Asks for a datagram. Calls before it is sent are one.
    pub(crate) fn call(&self) {
        self.called.notify_one();
    }

    /// Sends them, for ever. Nobody listening is no error: control looks anyway, only later.
    pub(crate) async fn send(self: Arc<Self>, home: PathBuf) {
        let path = home.join(layout::WAKE_SOCKET);
        let mut socket = None;
        loop {
            self.called.notified().await;
            socket = socket.or_else(open);
            if let Some(it) = &socket
                && !sent(it, &path)
            {
                socket = None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn open() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

fn sent(socket: &UnixDatagram, path: &Path) -> bool {
    socket.send_to(&[], path).is_ok()
}
