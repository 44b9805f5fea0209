//! Questions over TCP, for answers that are too long for UDP.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::answers::{Answers, Reply};
use super::forward::Forwarder;

/// How long a client may say nothing, or take nothing.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Between two looks whether there is room, or whether accepting works again.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of a message at most: its length has two.
const MESSAGE_MAX: usize = 65_535;

/// Answers for ever.
pub(crate) async fn serve(
    listener: TcpListener,
    answers: Rc<Answers>,
    forwarder: Rc<Forwarder>,
    most: usize,
) {
    let clients = Rc::new(Cell::new(0_usize));
    loop {
        while clients.get() >= most {
            sleep(PAUSE).await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let place = Place::take(&clients);
        let (answers, forwarder) = (Rc::clone(&answers), Rc::clone(&forwarder));
        tokio::task::spawn_local(async move {
            // A client that breaks off is no news.
            drop(talk(stream, &answers, &forwarder).await);
            drop(place);
        });
    }
}

/// One client's place, given back when it is dropped.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(clients: &Rc<Cell<usize>>) -> Self {
        clients.set(clients.get() + 1);
        Self(Rc::clone(clients))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

async fn talk(mut stream: TcpStream, answers: &Answers, forwarder: &Forwarder) -> io::Result<()> {
    let mut question = Vec::new();
    let mut answer = Vec::new();
    loop {
        let length = timeout(SILENCE_MAX, stream.read_u16()).await??;
        question.resize(usize::from(length), 0);
        timeout(SILENCE_MAX, stream.read_exact(&mut question)).await??;
        match answers.answer(&question, Some(MESSAGE_MAX), &mut answer) {
            Reply::Silence => return Ok(()),
            Reply::Answer => {}
            Reply::Forward => {
                let servers = answers.hub().now().settings().forward.clone();
                answer = forwarder.ask_tcp(&question, &servers).await;
            }
        }
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        timeout(SILENCE_MAX, stream.write_all(&framed)).await??;
    }
}
