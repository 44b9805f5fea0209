//! How an edge keeps in touch with its elders: each question on a connection of its own, all of
//! them at a time, and none waited for longer than [`ELDER_WAIT`].

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::InstanceId;
use evenkeel_kernel::world::Fence;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::dialect::{self, Answer, Ask, pid_behind};
use crate::clock::{ms, now_ms};
use crate::limits::{ELDER_OVERDUE, ELDER_WAIT};
use crate::log;
use crate::shared::Shared;

/// Between two looks at them while nobody asks.
const LOOK: Duration = Duration::from_millis(500);
/// Between two looks whether they have ended, at the end.
const LOOK_LAST: Duration = Duration::from_millis(50);

/// Meets every elder that has a door.
pub(crate) fn meet(shared: &Shared) {
    let mut elders = shared.succession.elders();
    for pid in super::leaving(&shared.home) {
        elders.meet(pid, now_ms());
    }
}

/// Keeps in touch, for ever.
pub(crate) async fn keep(shared: Arc<Shared>) {
    loop {
        if shared.succession.has_left() || shared.succession.elders().living().next().is_none() {
            shared.succession.elders().settle(now_ms());
            // Elders come only with the beginning, but a gone one is still to be settled.
            let _later = timeout(10 * LOOK, shared.succession.company.notified()).await;
            continue;
        }
        look(&shared).await;
        relay(&shared).await;
        end_overdue(&shared).await;
        shared.succession.elders().settle(now_ms());
        sleep(LOOK).await;
    }
}

/// Learns what all of them hold and have counted.
pub(crate) async fn look(shared: &Arc<Shared>) {
    for (pid, answer) in each(shared, &Ask::Look).await {
        if let Ok(Answer::Seen(seen)) = answer {
            let table = shared.table.load();
            shared.succession.elders().heard(pid, *seen, &|pool| table.has_pool(pool));
        }
    }
}

/// Hands the table that is served to those who route by an older one.
pub(crate) async fn relay(shared: &Arc<Shared>) {
    let table = shared.table.load_full();
    let fence = table.source.fence;
    let behind = shared.succession.elders().living().any(|it| it.serving() < fence);
    if !behind {
        return;
    }
    for (pid, answer) in each(shared, &Ask::Serve(Box::new(table.source.clone()))).await {
        match answer {
            Ok(Answer::Serving(fence)) => shared.succession.elders().serves(pid, fence),
            Ok(Answer::Refused { because }) => {
                log::warn(format_args!("the leaving edge {pid} refuses the table: {because}"));
            }
            Ok(_) | Err(_) => log::warn(format_args!("the leaving edge {pid} takes no table")),
        }
    }
}

/// The oldest table by which anybody routes.
pub(crate) fn serving(shared: &Shared) -> Fence {
    shared.succession.elders().serving(shared.table.load().source.fence)
}

/// Whether any of them would send a request to the instance; `None` when one does not say.
pub(crate) async fn routes_to(shared: &Arc<Shared>, id: &InstanceId) -> Option<bool> {
    let mut any = false;
    for (pid, answer) in each(shared, &Ask::RoutesTo(id.clone())).await {
        match answer {
            Ok(Answer::RoutesTo(routed)) => any |= routed,
            Ok(_) => return None,
            Err(_silent) if shared.succession.elders().living().all(|it| it.pid != pid) => {}
            Err(_silent) => return None,
        }
    }
    Some(any)
}

/// Tells them to end, and waits until they have, for as long as any end takes.
pub(crate) async fn end(shared: &Arc<Shared>) {
    let until = Instant::now() + shared.around.limits.shutdown + ELDER_WAIT;
    let _ending = each(shared, &Ask::End).await;
    while shared.succession.elders().living().next().is_some() && Instant::now() < until {
        sleep(LOOK_LAST).await;
        look(shared).await;
    }
}

/// Asks all of them the same. One whose door is closed for good is noted as gone.
async fn each(shared: &Arc<Shared>, ask: &Ask) -> Vec<(u32, io::Result<Answer>)> {
    let pids: Vec<u32> = shared.succession.elders().living().map(|it| it.pid).collect();
    if pids.is_empty() {
        return Vec::new();
    }
    let mut asked = JoinSet::new();
    for pid in pids {
        let (door, ask) = (door(shared, pid), ask.clone());
        asked.spawn_local(async move {
            let answer = timeout(ELDER_WAIT, dialect::ask(&door, Some(pid), ask)).await;
            (pid, answer.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into())))
        });
    }
    let answers = asked.join_all().await;
    for (pid, answer) in &answers {
        let gone = answer.as_ref().err().is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
        });
        if gone {
            log::info(format_args!("the edge {pid} has ended"));
            shared.succession.elders().went(*pid, now_ms());
            // What it left behind leads nowhere.
            drop(std::fs::remove_file(door(shared, *pid)));
        }
    }
    answers
}

fn door(shared: &Shared, pid: u32) -> PathBuf {
    shared.home.join(layout::leaving_edge_socket(pid))
}

/// Kills who should have ended long ago: what it holds is lost by its own limits, and as long as it
/// is there no instance that it knows can be stopped.
async fn end_overdue(shared: &Arc<Shared>) {
    let most = ms(shared.around.limits.leave + ELDER_OVERDUE);
    let now = now_ms();
    let overdue: Vec<u32> = {
        let elders = shared.succession.elders();
        elders.living().filter(|it| it.age_ms(now) >= most).map(|it| it.pid).collect()
    };
    for pid in overdue {
        let Ok(stream) = UnixStream::connect(door(shared, pid)).await else { continue };
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let Some(Ok(process)) = number.map(|it| pidfd_open(it, PidfdFlags::empty())) else {
            continue;
        };
        // The handle was opened while the door's owner lived, so it is the door's owner.
        if pid_behind(&stream) == Some(pid) && pid != std::process::id() {
            log::warn(format_args!("the leaving edge {pid} does not end and is killed"));
            let _gone_already = pidfd_send_signal(&process, Signal::KILL);
        }
    }
}
