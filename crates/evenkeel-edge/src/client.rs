//! How control speaks to the edge: synchronous, with a time limit on everything.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evenkeel_kernel::layout;
use evenkeel_kernel::model::InstanceId;
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::{self, Fence};

use crate::limits::MESSAGE_BYTES;
use crate::protocol::{Answer, Ask, Request, Response, VERSION};

/// Longest wait for the edge to read or write something. An edge that takes longer is not well,
/// and control sees it as unknown.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long a successor may take until it has opened the door; it takes milliseconds.
const SUCCESSION_MAX: Duration = Duration::from_millis(300);
/// Between two knocks.
const SUCCESSION_LOOK: Duration = Duration::from_millis(5);

/// A connection to the edge's door. After an [`AskError::Io`] it is of no more use.
#[derive(Debug)]
pub struct Client {
    home: PathBuf,
    stream: BufReader<UnixStream>,
}

/// Why the edge did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It refused, and goes on serving what it served.
    #[error("the edge refused: {because}")]
    Refused {
        /// Why, for people.
        because: String,
        /// What it serves.
        serving: Fence,
    },
    /// It could not be asked, or the answer did not come; whether it did it is unknown.
    #[error("could not speak to the edge")]
    Io(#[from] io::Error),
}

impl Client {
    /// Knocks at the door of the edge below `home`.
    pub fn connect(home: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(home.join(layout::EDGE_SOCKET))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { home: home.to_owned(), stream: BufReader::new(stream) })
    }

    /// Makes the edge serve `table`. When this returns, every request accepted from then on is
    /// routed by it, and it is on the edge's disk (unless that disk hangs).
    pub fn apply(&mut self, table: &RoutingTable) -> Result<Fence, AskError> {
        match self.ask(Ask::Serve(Box::new(table.clone())))? {
            Answer::Serving(fence) => Ok(fence),
            other @ (Answer::Observed(_) | Answer::RoutesTo(_) | Answer::Refused { .. }) => {
                Err(unexpected(other))
            }
        }
    }

    /// What the edge knows, in the caller's time.
    pub fn observe(&mut self, now: Timestamp) -> Result<world::Edge, AskError> {
        match self.ask(Ask::Observe)? {
            Answer::Observed(observation) => Ok(observation.into_edge(now)),
            other @ (Answer::Serving(_) | Answer::RoutesTo(_) | Answer::Refused { .. }) => {
                Err(unexpected(other))
            }
        }
    }

    /// Whether new requests may go to the instance by the table that is served now.
    pub fn routes_to(&mut self, instance: &InstanceId) -> Result<bool, AskError> {
        match self.ask(Ask::RoutesTo(instance.clone()))? {
            Answer::RoutesTo(routed) => Ok(routed),
            other @ (Answer::Serving(_) | Answer::Observed(_) | Answer::Refused { .. }) => {
                Err(unexpected(other))
            }
        }
    }

    fn ask(&mut self, ask: Ask) -> Result<Answer, AskError> {
        let mut text =
            serde_json::to_vec(&Request { version: VERSION, ask }).map_err(io::Error::from)?;
        text.push(b'\n');
        match self.exchange(&text) {
            // An edge that leaves its place hangs up, and its successor is behind the same door.
            // Whatever is asked may be asked twice.
            Err(AskError::Io(error)) if is_hung_up(&error) => self.again(&text),
            other => other,
        }
    }

    fn again(&mut self, text: &[u8]) -> Result<Answer, AskError> {
        let until = Instant::now() + SUCCESSION_MAX;
        loop {
            *self = Self::connect(&self.home)?;
            match self.exchange(text) {
                Err(AskError::Io(error)) if is_hung_up(&error) && Instant::now() < until => {
                    std::thread::sleep(SUCCESSION_LOOK);
                }
                other => return other,
            }
        }
    }

    fn exchange(&mut self, text: &[u8]) -> Result<Answer, AskError> {
        self.stream.get_mut().write_all(text)?;
        let limit = u64::try_from(MESSAGE_BYTES).unwrap_or(u64::MAX);
        let mut line = Vec::new();
        (&mut self.stream).take(limit).read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let response: Response = serde_json::from_slice(&line).map_err(io::Error::from)?;
        if response.version != VERSION {
            let text = format!("the edge speaks version {}", response.version);
            return Err(io::Error::other(text).into());
        }
        Ok(response.answer)
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn unexpected(answer: Answer) -> AskError {
    match answer {
        Answer::Refused { because, serving } => AskError::Refused { because, serving },
        Answer::Serving(_) | Answer::Observed(_) | Answer::RoutesTo(_) => {
            io::Error::other("the answer belongs to another question").into()
        }
    }
}
