//! The predecessor's part: what it answers its heir, and how it leaves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use evenkeel_kernel::layout;
use tokio::time::timeout;

use super::dialect::{Answer, Ask, Bequest, Opinion};
use crate::clock::now_ms;
use crate::limits::ELDERS_MAX;
use crate::log;
use crate::observe;
use crate::shared::Shared;

/// How long the disk may take. An edge whose disk hangs is not left for one that would have to read
/// from it.
const DISK_WAIT: Duration = Duration::from_secs(2);

pub(crate) async fn answer(shared: &Arc<Shared>, ask: Ask) -> Answer {
    match ask {
        Ask::Save => match on_disk(shared).await {
            Ok(()) => Answer::Saved(Box::new(observe::own(shared))),
            Err(error) => refused(format!("it could not save its table: {error}")),
        },
        Ask::Leave => leave(shared).await,
        Ask::Look => Answer::Seen(Box::new(observe::own(shared))),
        Ask::Serve(table) => {
            let fence = table.fence;
            if shared.table.load().source == *table {
                return Answer::Serving(fence);
            }
            match shared.apply(*table, &|_| false) {
                Ok(()) => Answer::Serving(fence),
                Err(because) => refused(because),
            }
        }
        Ask::RoutesTo(id) => Answer::RoutesTo(shared.table.load().routes_to(&id)),
        Ask::End => {
            if shared.succession.has_left() {
                shared.succession.hurry();
            }
            Answer::Ending
        }
    }
}

fn refused(because: String) -> Answer {
    Answer::Refused { because }
}

/// Leaves the place to whoever asks. What can fail comes first; after it there is no way back.
async fn leave(shared: &Arc<Shared>) -> Answer {
    let succession = &shared.succession;
    if succession.has_left() || shared.closing.load(Ordering::Relaxed) {
        return refused("it ends or has left its place already".to_owned());
    }
    if super::leaving(&shared.home).len() >= ELDERS_MAX {
        return refused(format!("{ELDERS_MAX} edges are leaving already"));
    }
    let door = shared.home.join(layout::leaving_edge_socket(std::process::id()));
    drop(std::fs::remove_file(&door));
    let linked = std::fs::hard_link(shared.home.join(layout::EDGE_SOCKET), &door);
    // What is on disk from now on is the heir's; a save under way is waited for.
    let saved = match linked {
        Ok(()) => on_disk(shared).await,
        Err(error) => Err(error),
    };
    if let Err(error) = saved {
        drop(std::fs::remove_file(&door));
        return refused(format!("it could not put its things in order: {error}"));
    }
    succession.closes();
    shared.closing.store(true, Ordering::Relaxed);
    // Control's connections end here, so nobody tells it a table that its heir does not know of.
    succession.left.send_replace(true);
    // A copy that is kept would be a queue that nobody empties.
    shared.listeners.send_modify(std::collections::BTreeMap::clear);
    let (carried, elders) = succession.elders().bequest();
    let bequest = Bequest {
        table: shared.table.load().source.clone(),
        own: observe::own(shared),
        opinions: opinions(shared),
        carried,
        elders,
    };
    succession.abdicates();
    log::info(format_args!("leaves its place to a successor"));
    Answer::Left(Box::new(bequest))
}

async fn on_disk(shared: &Arc<Shared>) -> io::Result<()> {
    let saving = {
        let shared = Arc::clone(shared);
        tokio::task::spawn_blocking(move || shared.save())
    };
    match timeout(DISK_WAIT, saving).await {
        Ok(Ok(saved)) => saved,
        Ok(Err(died)) => Err(io::Error::other(died)),
        Err(_late) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn opinions(shared: &Shared) -> Vec<Opinion> {
    let now = now_ms();
    shared.table.load().instances.values().map(|it| it.opinion(now)).collect()
}
