//! Who keeps a change waiting: other transactions, with what they hold.

use std::time::Duration;

use super::{Failed, Session};
use crate::name::literal;

/// The most that are named.
const MOST: usize = 3;
/// A transaction that has been open for so long may be in the way of anything.
const LONG: Duration = Duration::from_secs(1);

/// How one is named, from the rows `a` of `pg_stat_activity`, and from what it holds.
const NAMED: &str = "format('pid %s of %s%s%s%s', a.pid, coalesce(a.usename, a.backend_type),
    coalesce(', ' || nullif(a.application_name, ''), ''),
    coalesce(', in a transaction for ' || extract(epoch FROM clock_timestamp() - a.xact_start)::int
             || ' s', ''),
    coalesce(', holds ' || held.what, ''))";

/// Those who have had locks on these tables for at least `long`; if nobody has, those who have been
/// in a transaction for long.
pub(super) fn holding(
    session: &mut Session,
    tables: &[String],
    long: Duration,
) -> Result<Vec<String>, Failed> {
    let relations: Vec<String> =
        tables.iter().map(|it| format!("to_regclass({})", literal(it))).collect();
    let relations = if relations.is_empty() { "NULL".to_owned() } else { relations.join(", ") };
    let held = named(
        session,
        &format!(
            "WITH held AS (
                 SELECT l.pid, l.virtualtransaction,
                        string_agg(DISTINCT l.mode || ' on ' || l.relation::regclass, ', ') AS what
                 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                 WHERE d.datname = current_database() AND l.locktype = 'relation' AND l.granted
                     AND l.pid IS DISTINCT FROM pg_backend_pid() AND l.relation IN ({relations})
                 GROUP BY l.pid, l.virtualtransaction
             ), open AS (
                 SELECT {NAMED} AS text, a.xact_start AS since
                 FROM held JOIN pg_stat_activity a ON a.pid = held.pid
                 UNION ALL
                 SELECT format('the prepared transaction %s of %s, holds %s', p.gid, p.owner,
                               held.what), p.prepared
                 FROM held
                 JOIN pg_locks own ON own.virtualtransaction = held.virtualtransaction
                     AND own.locktype = 'transactionid' AND own.pid IS NULL
                 JOIN pg_prepared_xacts p ON p.transaction = own.transactionid
                 WHERE held.pid IS NULL
             )
             SELECT text FROM open
             WHERE coalesce(since < clock_timestamp() - interval '{} milliseconds', true)
             ORDER BY since LIMIT {MOST}",
            long.as_millis()
        ),
    )?;
    if !held.is_empty() {
        return Ok(held);
    }
    named(
        session,
        &format!(
            "SELECT {NAMED} FROM pg_stat_activity a CROSS JOIN (SELECT NULL::text) AS held (what)
             WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
                 AND a.xact_start < clock_timestamp() - interval '{} milliseconds'
             ORDER BY a.xact_start LIMIT {MOST}",
            LONG.as_millis()
        ),
    )
}

/// Those that a process of the server waits for at the moment.
pub(super) fn of(session: &mut Session, pid: i64) -> Result<Vec<String>, Failed> {
    named(
        session,
        &format!(
            "SELECT {NAMED} FROM pg_stat_activity a CROSS JOIN (SELECT NULL::text) AS held (what)
             WHERE a.pid = ANY (pg_blocking_pids({pid})) ORDER BY a.xact_start LIMIT {MOST}"
        ),
    )
}

fn named(session: &mut Session, query: &str) -> Result<Vec<String>, Failed> {
    let rows = session.rows(query)?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// Those in the way, as one fragment.
pub(super) fn told(all: &[String]) -> String {
    match all {
        [] => "nobody has been in a transaction for long".to_owned(),
        all => all.join("; "),
    }
}
