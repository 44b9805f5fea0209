//! Every bound of the data plane, with its reason. What is not bounded here is bounded by one of
//! these.

use std::time::Duration;

use evenkeel_kernel::model::Hold;

/// The bounds that tests set lower than [`Limits::default`], so that they need not wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time from the last byte of a request sent to the first byte of its answer.
    pub first_byte: Duration,
    /// Time for a client to send a whole request head, from its first byte.
    pub head: Duration,
    /// Time an idle client connection is kept when the edge ends.
    pub linger: Duration,
    /// Time for requests to end when the edge itself ends.
    pub shutdown: Duration,
    /// Time for what an edge still holds after it has left its place to a successor.
    pub leave: Duration,
    /// Time after the first order of a certificate that failed until the next.
    pub order_retry: Duration,
    /// Time that one request waits because its service is held.
    pub held: Duration,
    /// Requests of one service that wait for that at a time.
    pub held_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_byte: FIRST_BYTE_TIMEOUT,
            head: HEAD_TIMEOUT,
            linger: LINGER,
            shutdown: SHUTDOWN,
            leave: LEAVE,
            order_retry: ORDER_RETRY,
            held: Hold::EACH,
            held_max: Hold::REQUESTS_MAX,
        }
    }
}

/// Time for a TCP connection to an instance. On one machine it takes microseconds; a full accept
/// queue shows as a first retransmission after 1 s.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time to agree on TLS with an instance, once it is connected.
pub(crate) const TLS_TIMEOUT: Duration = Duration::from_secs(2);
/// Time from the last byte of a request sent to the first byte of its answer.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for a client to send a whole request head, from its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time a client connection may be idle between requests; browsers give up at about the same.
pub(crate) const CLIENT_IDLE_MS: u64 = 75_000;
/// The same when nearly all connections are in use: room for those who have something to say.
pub(crate) const CLIENT_IDLE_CROWDED_MS: u64 = 1_000;
/// Time within a request in which neither side sends anything.
pub(crate) const SILENCE_MS: u64 = 300_000;
/// Time an idle connection to an instance is kept: below the 5 s after which Node closes it.
pub(crate) const UPSTREAM_IDLE_MS: u64 = 4_000;
/// The same before a request that may have an effect: it cannot be tried again when the instance
/// closes the connection at that moment.
pub(crate) const UPSTREAM_IDLE_EFFECT_MS: u64 = 3_000;
/// Idle connections kept per instance and thread.
pub(crate) const UPSTREAM_IDLE_MAX: usize = 256;
/// Bytes of a request head. Also the buffer of each connection. Its lines are bounded by hyper's
/// own 100; another number would cost an allocation per message.
pub(crate) const HEAD_BYTES: usize = 64 * 1024;
/// Streams a client may have open on one HTTP/2 connection: what browsers and gRPC clients expect.
pub(crate) const H2_STREAMS: u32 = 256;
/// Bytes of the headers of one HTTP/2 message, also over any number of continuations.
pub(crate) const H2_HEADER_LIST: u32 = 64 * 1024;
/// Streams that a client may open and reset before they are looked at, and those reset for its
/// errors, before its connection ends: a rapid reset costs it more than us.
pub(crate) const H2_RESETS: usize = 64;
/// Bytes that may be on their way on one HTTP/2 stream, and on its connection, before they are
/// read: a client that does not read its answers holds no more than this.
pub(crate) const H2_WINDOW_STREAM: u32 = 256 * 1024;
pub(crate) const H2_WINDOW_CONNECTION: u32 = 1024 * 1024;
/// Streams on one HTTP/2 connection to an instance before another is opened: what most servers
/// allow.
pub(crate) const H2_UPSTREAM_STREAMS: u32 = 100;
/// Time an HTTP/2 connection to an instance is kept without a stream. It says when it closes, so
/// this may be long.
pub(crate) const H2_UPSTREAM_IDLE_MS: u64 = 60_000;
/// Between two pings to an instance that owes answers over HTTP/2, and how long it may take: a peer
/// that is gone without a word is noticed within both.
pub(crate) const H2_PING_EVERY: Duration = Duration::from_secs(10);
pub(crate) const H2_PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client that does not read may hold up the end of its connection.
pub(crate) const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// Bytes of the buffers of a connection that is relayed, to begin with: most heads and answers.
pub(crate) const RELAY_BUFFER: usize = 8 * 1024;
/// Bytes of an answer from which on it is read in larger pieces, and of these.
pub(crate) const RELAY_LARGE: u64 = 64 * 1024;
pub(crate) const RELAY_BUFFER_LARGE: usize = 64 * 1024;
/// Bytes of a request target.
pub(crate) const URI_BYTES: usize = 16 * 1024;
/// Bytes of a body that is kept to be sent again; more would be memory per request for nothing.
pub(crate) const REPLAY_BYTES: u64 = 64 * 1024;
/// Tries on other instances after one that sent nothing.
pub(crate) const RETRIES_UNSENT: u32 = 2;
/// Tries after one that was sent, for requests that can be repeated.
pub(crate) const RETRIES_SENT: u32 = 1;
/// How long a retry waits for its turn when the budget is used up.
pub(crate) const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Addresses whose requests are counted for the rate of one route.
pub(crate) const RATE_CLIENTS_MAX: usize = 65_536;
/// Copies of requests under way at a time; while there are more none is made.
pub(crate) const MIRRORS_MAX: usize = 256;
/// How long a copy may take.
pub(crate) const MIRROR_TIMEOUT: Duration = Duration::from_secs(30);
/// Failed connections and resets in a row after which an instance counts as unhealthy.
pub(crate) const PASSIVE_FAILURES: u32 = 3;
/// Failed requests in a row that make one streak.
pub(crate) const STREAK: u32 = 10;
/// File descriptors kept back from client connections: probes, listeners, files.
pub(crate) const FDS_RESERVED: u64 = 1_024;
/// The backlog of every listening socket: what may wait while no edge runs.
pub(crate) const BACKLOG: i32 = 4_096;
/// Time between two looks at what has run out.
pub(crate) const SWEEP: Duration = Duration::from_millis(250);
/// Time for requests to end when the edge itself ends.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// Time an idle connection is kept when the edge ends, so that a request already on its way still
/// gets its answer, with `Connection: close`.
const LINGER: Duration = Duration::from_secs(2);
/// Time for what an edge still holds after it has left its place to a successor: as much as drains
/// give connections that live long. It costs the memory of one process meanwhile.
const LEAVE: Duration = Duration::from_secs(300);
/// Time after the first order of a certificate that failed until the next: whoever has just set up
/// a name waits for it, and an issuer allows a few tries an hour.
const ORDER_RETRY: Duration = Duration::from_secs(60);
/// Edges that leave at a time. Each is told every table; more would be a fault of whoever upgrades.
pub(crate) const ELDERS_MAX: usize = 32;
/// Longest wait for a leaving edge to answer: within the second that control waits.
pub(crate) const ELDER_WAIT: Duration = Duration::from_millis(300);
/// How long after its time a leaving edge may still be there before it is ended.
pub(crate) const ELDER_OVERDUE: Duration = Duration::from_secs(30);
/// How long a leaving edge that holds nothing any more waits for its counts to be read.
pub(crate) const READ_OUT_WAIT: Duration = Duration::from_secs(3);
/// Lines of the access log that wait to be written: at some 400 bytes each, 3 MiB. What is beyond is
/// dropped.
pub(crate) const LINES_QUEUE: usize = 8_192;
/// Bytes that are written to it at a time.
pub(crate) const LINES_BATCH: usize = 256 * 1024;
/// Spans that wait to be sent: at some 600 bytes each, 5 MiB. What is beyond is dropped.
pub(crate) const SPANS_QUEUE: usize = 8_192;
/// Spans in one request to the collector; 300 KiB.
pub(crate) const SPANS_BATCH: usize = 512;
/// Connections at the door for metrics at a time; one server asks on one.
pub(crate) const METRICS_CONNECTIONS: usize = 16;
/// Instances of one table; the prober and the pick are measured up to this.
pub(crate) const INSTANCES_MAX: usize = 10_000;
/// Bytes of one message at the door; a table of 10,000 instances takes about 1 MiB.
pub(crate) const MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Connections served at the door at a time.
pub(crate) const DOOR_CONNECTIONS: usize = 16;
/// Probes under way at a time. A thousand instances that all hang hold up the rest for a few
/// timeouts, not for a minute.
pub(crate) const PROBES_MAX: usize = 256;
/// Listeners a keeper holds; the edge has each once per thread.
pub(crate) const LISTENERS_MAX: usize = 1_024;
/// Bytes of one packet between keeper, edge and control: the wants of 1,024 listeners.
pub(crate) const PACKET_BYTES: usize = 160 * 1024;
