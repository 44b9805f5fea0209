//! WebSockets: bytes both ways, and a word of farewell when the edge has to end one.
//!
//! A close frame may stand between any two frames, also within a message in pieces and whatever
//! extensions were agreed on (RFC 6455, section 5.4; RFC 7692, section 6). So it is enough to know
//! where frames end. What they carry is nobody's business here.

use std::io;
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::limits::RELAY_BUFFER;

/// How long the end of a frame is waited for, and then how long the client's own farewell.
pub(crate) const FAREWELL_WAIT: Duration = Duration::from_secs(1);

/// A close frame of a server: going away (1001).
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// The opcode of a close frame.
const CLOSE: u8 = 8;
/// The longest head of a frame: two bytes, eight of length, four of mask.
const HEAD_MAX: usize = 14;

/// Passes bytes both ways until one side ends, or until it is `told` to end; then the client is told
/// so, if that can be said between two frames in time. It is told too if the instance ends without a
/// word while it `leaves`.
pub(super) async fn join<C, I>(client: C, instance: I, told: &Notify, leaves: impl Fn() -> bool)
where
    C: AsyncRead + AsyncWrite,
    I: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = tokio::io::split(client);
    let (from_instance, to_instance) = tokio::io::split(instance);
    let answered = Notify::new();
    let up = up(from_client, to_instance, &answered);
    let down = down(from_instance, to_client, told, &answered, leaves);
    // Either side may break off at any time; there is nobody to tell.
    let _ended = tokio::try_join!(up, down);
}

/// From the client to the instance, to its end.
async fn up<C: AsyncRead, I: AsyncWrite>(
    mut from: ReadHalf<C>,
    mut to: WriteHalf<I>,
    answered: &Notify,
) -> io::Result<()> {
    let mut frames = Frames::default();
    let mut buffer = vec![0; RELAY_BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
        frames.follow(bytes);
        write(&mut to, bytes).await?;
        if frames.closed {
            answered.notify_one();
        }
    }
    answered.notify_one();
    to.shutdown().await
}

/// From the instance to the client, to its end or to the farewell.
async fn down<I: AsyncRead, C: AsyncWrite>(
    mut from: ReadHalf<I>,
    mut to: WriteHalf<C>,
    told: &Notify,
    answered: &Notify,
    leaves: impl Fn() -> bool,
) -> io::Result<()> {
    let mut frames = Frames::default();
    let mut buffer = vec![0; RELAY_BUFFER];
    let mut until: Option<Instant> = None;
    loop {
        if until.is_some() && frames.is_between() {
            return farewell(from, to, &frames, answered).await;
        }
        let late = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            biased;
            () = told.notified(), if until.is_none() => {
                until = Some(Instant::now() + FAREWELL_WAIT);
                continue;
            }
            () = late => return Err(io::ErrorKind::TimedOut.into()),
            length = from.read(&mut buffer) => length,
        };
        let bytes = match &read {
            Ok(length @ 1..) => buffer.get(..*length).unwrap_or_default(),
            // It says nothing more, and left off between two frames.
            Ok(_) | Err(_) if leaves() && frames.is_between() => {
                return farewell(from, to, &frames, answered).await;
            }
            Ok(_) => return to.shutdown().await,
            Err(_) => return read.map(|_| ()),
        };
        let ends = frames.follow(bytes);
        match until.and(ends) {
            // What is after the end of a frame would only begin another.
            Some(end) => {
                write(&mut to, bytes.get(..end).unwrap_or_default()).await?;
                return farewell(from, to, &frames, answered).await;
            }
            None => write(&mut to, bytes).await?,
        }
    }
}

/// Writes all of it through what may lie between, such as TLS.
async fn write<W: AsyncWrite>(to: &mut WriteHalf<W>, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Tells the client, and waits for its answer, which goes to the instance; nothing that the instance
/// says is passed on any more.
async fn farewell<I: AsyncRead, C: AsyncWrite>(
    mut from: ReadHalf<I>,
    mut to: WriteHalf<C>,
    frames: &Frames,
    answered: &Notify,
) -> io::Result<()> {
    if !frames.closed {
        write(&mut to, &GOING_AWAY).await?;
    }
    let mut rest = vec![0; RELAY_BUFFER];
    let unheard = async {
        // It is read all the same, or the instance would not get at the client's answer.
        while from.read(&mut rest).await.is_ok_and(|length| length > 0) {}
        std::future::pending::<()>().await;
    };
    let parted = async {
        tokio::select! {
            () = answered.notified() => {}
            () = unheard => {}
        }
    };
    let _late = timeout(FAREWELL_WAIT, parted).await;
    to.shutdown().await?;
    // The other direction ends with this one.
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// Where in its frames one direction stands.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD_MAX],
    /// Bytes of a head that have come.
    have: usize,
    /// Bytes of a frame that are still to come after its head.
    left: u64,
    /// A close frame has begun: nothing comes after it.
    closed: bool,
}

impl Frames {
    /// Whether a frame may begin here.
    fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Follows what goes by. Returns where in it the last frame ended, if one did.
    fn follow(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut ended = None;
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.left > 0 {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX);
                let taken = rest.len().min(most);
                self.left -= u64::try_from(taken).unwrap_or(self.left);
                at += taken;
            } else {
                self.begin(rest.first().copied().unwrap_or_default());
                at += 1;
            }
            if self.is_between() {
                ended = Some(at);
            }
        }
        ended
    }

    /// Takes one more byte of a head.
    fn begin(&mut self, byte: u8) {
        if let Some(place) = self.head.get_mut(self.have) {
            *place = byte;
        }
        self.have += 1;
        let [first, second, long @ ..] = self.head;
        let (is_masked, short) = (second & 0x80 != 0, second & 0x7f);
        let more = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.have < 2 || self.have < 2 + more + if is_masked { 4 } else { 0 } {
            return;
        }
        self.left = if more == 0 { u64::from(short) } else { number(&long, more) };
        self.closed |= first & 0x0f == CLOSE;
        self.have = 0;
    }
}

/// The first `count` bytes as a number.
fn number(bytes: &[u8], count: usize) -> u64 {
    bytes.iter().take(count).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame without a mask, and one with.
    fn frame(first: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(mask | u8::try_from(length).unwrap()),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend(u64::try_from(length).unwrap().to_be_bytes());
            }
        }
        frame.extend([0xff; 4].iter().take(if masked { 4 } else { 0 }));
        frame.resize(frame.len() + length, 0x88);
        frame
    }

    #[test]
    fn frames_end_where_they_end_however_they_are_cut() {
        for masked in [false, true] {
            let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 0];
            let all: Vec<_> = lengths.map(|length| frame(0x82, length, masked)).to_vec();
            let bytes = all.concat();
            let ends: Vec<usize> = all
                .iter()
                .scan(0, |sum, frame| {
                    *sum += frame.len();
                    Some(*sum)
                })
                .collect();
            for piece in [1, 2, 3, 7, 1_000, 100_000, bytes.len()] {
                let mut frames = Frames::default();
                let mut passed = 0;
                for bytes in bytes.chunks(piece) {
                    let before = passed;
                    passed += bytes.len();
                    let last = ends.iter().rfind(|end| (before + 1..=passed).contains(end));
                    assert_eq!(frames.follow(bytes), last.map(|end| end - before));
                    assert_eq!(frames.is_between(), ends.contains(&passed));
                }
                assert!(frames.is_between() && !frames.closed);
            }
        }
    }

    #[test]
    fn a_close_frame_is_the_last() {
        let mut frames = Frames::default();
        frames.follow(&frame(0x01, 5, false));
        // The opcode is what counts, not what a frame carries.
        assert!(!frames.closed);
        frames.follow(&GOING_AWAY);
        assert!(frames.closed && frames.is_between());
    }
}
