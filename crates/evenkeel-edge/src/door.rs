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

use crate::clock::now_ms;
use crate::limits::{DOOR_CONNECTIONS, MESSAGE_BYTES};
use crate::log;
use crate::peer;
use crate::protocol::{Answer, Ask, Instance, Observation, Request, Response, VERSION};
use crate::shared::Shared;

/// How long an acknowledgement waits for the table to be on disk. A disk that hangs must not keep
/// a table from being served.
const SAVE_WAIT: Duration = Duration::from_millis(500);
/// Between two saves of health alone.
const SAVE_PAUSE: Duration = Duration::from_secs(1);

/// Opens the door. Whoever was here before is gone: the caller holds the lock.
pub(crate) fn open(home: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let path = home.join(layout::EDGE_SOCKET);
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = std::os::unix::net::UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
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
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(MESSAGE_BYTES).unwrap_or(u64::MAX);
        if (&mut read).take(limit).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_slice::<Request>(&line) {
            Ok(Request { version: VERSION, ask }) => answer(shared, ask).await,
            Ok(Request { version, .. }) => refused(shared, format!("version {version} is unknown")),
            Err(error) => refused(shared, format!("it cannot be read: {error}")),
        };
        let mut text = serde_json::to_vec(&Response { version: VERSION, answer })?;
        text.push(b'\n');
        write.write_all(&text).await?;
        if !line.ends_with(b"\n") {
            // Too long or cut off: where the next message begins is unknown.
            return Ok(());
        }
    }
}

async fn answer(shared: &Arc<Shared>, ask: Ask) -> Answer {
    match ask {
        Ask::Serve(table) => serve_table(shared, *table).await,
        Ask::Observe => Answer::Observed(Box::new(observe(shared))),
        Ask::RoutesTo(id) => Answer::RoutesTo(shared.table.load().routes_to(&id)),
    }
}

async fn serve_table(shared: &Arc<Shared>, table: RoutingTable) -> Answer {
    let fence = table.fence;
    if shared.table.load().source == table {
        return Answer::Serving(fence);
    }
    if let Err(because) = shared.apply(table, &|_| false) {
        log::warn(format_args!("a table is refused: {because}"));
        return refused(shared, because);
    }
    if timeout(SAVE_WAIT, save(shared)).await.is_err() {
        log::warn(format_args!("saving the table takes long; it is served all the same"));
    }
    Answer::Serving(fence)
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

fn observe(shared: &Shared) -> Observation {
    let table = shared.table.load_full();
    let now = now_ms();
    let instance = |it: &Arc<crate::instance::Instance>| Instance {
        id: it.id.clone(),
        health: it.reported(),
        age_ms: now.saturating_sub(it.since_ms()),
        in_flight: it.in_flight(),
        load_milli: it.load.milli(),
        long_lived: it.long_lived(),
        lately: it.tallies.lately(now),
    };
    let counts = |pool: &Arc<crate::table::Pool>| {
        let in_flight = pool.instances.iter().map(|it| u64::from(it.in_flight())).sum();
        (pool.id.clone(), pool.counts.read(in_flight))
    };
    Observation {
        incarnation: shared.incarnation,
        serving: table.source.fence,
        listeners: shared.listeners.borrow().keys().cloned().collect(),
        instances: table.instances.values().map(instance).collect(),
        pools: table.services.values().flat_map(|it| &it.pools).map(counts).collect(),
        unrouted: shared.rejections.read(),
    }
}
