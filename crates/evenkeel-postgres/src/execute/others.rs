//! What others do while rows are filled: how long they wait, and who stands in the way.

use std::thread;
use std::time::{Duration, Instant};

use super::{Failed, Session};

/// Questions that are asked to know how long one takes.
const QUESTIONS: usize = 15;
/// How long is waited for old snapshots to go before turns are given up for a region; and how long
/// once they did not go.
const HORIZON: Duration = Duration::from_secs(3);
const HORIZON_AGAIN: Duration = Duration::from_millis(300);
const HORIZON_LOOK: Duration = Duration::from_millis(10);

/// How long a small request takes, as any client's would: it reads from the table, and what it
/// commits is on the disk.
pub(super) fn question(session: &mut Session, table: &str) -> Result<Duration, Failed> {
    let began = Instant::now();
    session.run(&format!(
        "BEGIN; SET LOCAL synchronous_commit = on; \
         SELECT 1 FROM ONLY {table} WHERE ctid = '(0,1)'; SELECT txid_current(); COMMIT"
    ))?;
    Ok(began.elapsed())
}

/// How long it takes when nothing is filled.
pub(super) fn usual(session: &mut Session, table: &str) -> Result<Duration, Failed> {
    let mut all = Vec::with_capacity(QUESTIONS);
    for _ in 0..QUESTIONS {
        all.push(question(session, table)?);
    }
    all.sort();
    Ok(all[QUESTIONS / 2])
}

/// How far the slowest replica is behind, if there is one.
pub(super) fn lag(session: &mut Session) -> Result<Option<Duration>, Failed> {
    let lag = session
        .one("SELECT max(extract(epoch FROM replay_lag))::float8 FROM pg_stat_replication")?;
    let seconds: Option<f64> = lag.and_then(|it| it.parse().ok());
    Ok(seconds.and_then(|it| Duration::try_from_secs_f64(it).ok()))
}

/// Old snapshots, which need what was left behind.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    /// The transaction after which nobody needs what the last turn left behind.
    pub(super) turned: Option<String>,
    /// Whether a snapshot was waited for in vain.
    stayed: bool,
}

impl Horizon {
    /// Whether a snapshot is held that still needs what the last turn left behind; waits for it.
    pub(super) fn is_held(&mut self, session: &mut Session) -> Result<bool, Failed> {
        let Some(turned) = &self.turned else { return Ok(false) };
        // Who vacuums has a snapshot, and keeps nobody from cleaning up.
        let query = format!(
            "SELECT count(*) FROM (
                 SELECT backend_xmin AS xmin FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()
                     AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
                 UNION ALL SELECT xmin FROM pg_replication_slots
                 UNION ALL SELECT transaction FROM pg_prepared_xacts
             ) AS held WHERE age(xmin) > age(({turned}::bigint % 4294967296)::text::xid)"
        );
        let patience = if self.stayed { HORIZON_AGAIN } else { HORIZON };
        let began = Instant::now();
        self.stayed = false;
        while session.number(&query)? > 0 {
            if began.elapsed() > patience {
                self.stayed = true;
                return Ok(true);
            }
            thread::sleep(HORIZON_LOOK);
        }
        Ok(false)
    }
}
