//! The edge's door for control: tables in, observations out. Requests of one connection are
//! answered in order.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_kernel::layout;
use evenkeel_kernel::routing::RoutingTable;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::limits::{DOOR_CONNECTIONS, MESSAGE_BYTES};
use crate::log;
use crate::observe;
use crate::peer;
use crate::protocol::{Answer, Ask, Request, Response, VERSION};
use crate::shared::Shared;
use crate::succession::{company, dialect, leave};

/// How long an acknowledgement waits for the table to be on disk. A disk that hangs must not keep
/// a table from being served.
const SAVE_WAIT: Duration = Duration::from_millis(500);
/// Between two saves of health alone.
const SAVE_PAUSE: Duration = Duration::from_secs(1);

/// Opens the door, in one step: who knocks meets the one before or this one. The caller holds the
/// lock.
pub(crate) fn open(home: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let path = home.join(layout::EDGE_SOCKET);
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = std::os::unix::net::UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    std::fs::rename(&fresh, &path)?;
    Ok(listener)
}

/// Answers, for ever.
pub(crate) async fn run(shared: Arc<Shared>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(DOOR_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) if peer::is_trusted(&stream) => {
                let shared = Arc::clone(&shared);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    if let Err(error) = serve(&shared, stream).await {
                        log::warn(format_args!("a connection at the door ended: {error}"));
                    }
                });
            }
            Ok(_) => log::warn(format_args!("a stranger knocked at the door")),
            Err(error) => {
                log::warn(format_args!("could not accept at the door: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(shared: &Arc<Shared>, stream: UnixStream) -> io::Result<()> {
    let mut leaving = shared.succession.leaving();
    // Who comes after it has left is an heir, or somebody who has not noticed yet.
    leaving.mark_unchanged();
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(MESSAGE_BYTES).unwrap_or(u64::MAX);
        let mut limited = (&mut read).take(limit);
        let length = tokio::select! {
            length = limited.read_until(b'\n', &mut line) => length?,
            // Control finds the successor behind the same door.
            _left = leaving.changed() => return Ok(()),
        };
        if length == 0 {
            return Ok(());
        }
        // What is said of it from now on is all that there is to say.
        let is_last = shared.succession.is_done();
        let mut looked = false;
        let mut text = if line.starts_with(dialect::START) {
            let answer = match serde_json::from_slice::<dialect::Request>(&line) {
                Ok(request) => leave::answer(shared, request.ask).await,
                Err(error) => {
                    dialect::Answer::Refused { because: format!("it cannot be read: {error}") }
                }
            };
            looked = matches!(answer, dialect::Answer::Seen(_));
            serde_json::to_vec(&dialect::Response { heir: dialect::VERSION, answer })?
        } else {
            if shared.succession.has_left() {
                return Ok(());
            }
            let answer = match serde_json::from_slice::<Request>(&line) {
                Ok(Request { version: VERSION, ask }) => answer(shared, ask).await,
                Ok(Request { version, .. }) => {
                    refused(shared, format!("version {version} is unknown"))
                }
                Err(error) => refused(shared, format!("it cannot be read: {error}")),
            };
            if shared.succession.has_left() {
                // What was answered is no longer the whole.
                return Ok(());
            }
            serde_json::to_vec(&Response { version: VERSION, answer })?
        };
        text.push(b'\n');
        write.write_all(&text).await?;
        if looked && is_last {
            // Not before it is written: the process ends when it hears of this.
            shared.succession.read_out.notify_one();
        }
        if !line.ends_with(b"\n") {
            // Too long or cut off: where the next message begins is unknown.
            return Ok(());
        }
    }
}

async fn answer(shared: &Arc<Shared>, ask: Ask) -> Answer {
    match ask {
        Ask::Serve(table) => serve_table(shared, *table).await,
        Ask::Observe => {
            company::look(shared).await;
            Answer::Observed(Box::new(observe::all(shared)))
        }
        Ask::RoutesTo(id) => {
            let own = shared.table.load().routes_to(&id);
            match company::routes_to(shared, &id).await {
                Some(theirs) => Answer::RoutesTo(own || theirs),
                None => refused(shared, "a leaving edge does not say".to_owned()),
            }
        }
    }
}

async fn serve_table(shared: &Arc<Shared>, table: RoutingTable) -> Answer {
    if shared.table.load().source == table {
        company::relay(shared).await;
        return Answer::Serving(company::serving(shared));
    }
    if let Err(because) = shared.apply(table, &|_| false) {
        log::warn(format_args!("a table is refused: {because}"));
        return refused(shared, because);
    }
    let (saved, ()) = tokio::join!(timeout(SAVE_WAIT, save(shared)), company::relay(shared));
    if saved.is_err() {
        log::warn(format_args!("saving the table takes long; it is served all the same"));
    }
    Answer::Serving(company::serving(shared))
}

fn refused(shared: &Shared, because: String) -> Answer {
    Answer::Refused { because, serving: shared.table.load().source.fence }
}

/// Saves the table, without keeping anything else waiting.
async fn save(shared: &Arc<Shared>) {
    let saving = {
        let shared = Arc::clone(shared);
        tokio::task::spawn_blocking(move || shared.save())
    };
    match saving.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::error(format_args!("could not save the table: {error}")),
        Err(error) => log::error(format_args!("could not save the table: {error}")),
    }
}

/// Saves again when health changed, for ever.
pub(crate) async fn keep_saved(shared: Arc<Shared>) {
    loop {
        shared.outdated.notified().await;
        save(&shared).await;
        tokio::time::sleep(SAVE_PAUSE).await;
    }
}
