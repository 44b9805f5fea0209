//! Discovery beside the edge, in the edge's process: who introduces them to one another.

use std::path::Path;

use evenkeel_discovery::{Running, Socket, Sockets, Start};
use evenkeel_edge::Outlook;

/// The edge's listening sockets that are discovery's.
#[derive(Clone, Debug)]
struct OfTheEdge(Outlook);

impl Sockets for OfTheEdge {
    fn now(&mut self) -> Vec<Socket> {
        let socket = |(name, addr, socket)| Socket { name, addr, socket };
        self.0.sockets().into_iter().map(socket).collect()
    }

    async fn changed(&mut self) -> bool {
        self.0.sockets_changed().await
    }
}

/// Starts it. An edge without discovery is better than none.
pub(super) fn start(home: &Path, outlook: Outlook) -> Option<Running> {
    let directory = outlook.directory.clone();
    let home = home.to_owned();
    let readers = outlook.readers.clone();
    let with = Start { home, directory, sockets: OfTheEdge(outlook), readers };
    match evenkeel_discovery::start(with) {
        Ok(running) => Some(running),
        Err(error) => {
            complain(&error);
            None
        }
    }
}

#[expect(clippy::print_stderr, reason = "standard error is the log of this role")]
fn complain(error: &std::io::Error) {
    eprintln!("discovery could not be started: {error}");
}
