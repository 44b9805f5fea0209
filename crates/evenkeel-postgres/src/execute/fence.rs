//! Who may carry out plans of a schema: of one home only its newest control.
//!
//! The lock that a session holds keeps two from acting at the same moment. It does not keep one that
//! was stopped for a while, and that another has followed since, from going on with what it was
//! about to do. So whoever takes the schema over writes down who it is, and every transaction of a
//! plan looks first whether it is still that one. A take-over waits for those under way.

use postgres::error::SqlState;

use super::{Failed, Session, ledger};
use crate::name::{Name, literal};
use crate::plan::OWN;

/// Who carries out plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Its home: epochs of one are in order, and say nothing of those of another.
    pub home: String,
    /// The higher, the newer.
    pub epoch: u64,
}

/// What the database says when another has taken over.
const SUPERSEDED: &str = "EKEEL";

/// Whether an error says so.
pub(super) fn refuses(code: &SqlState) -> bool {
    code.code() == SUPERSEDED
}

/// What every transaction of a plan begins with.
pub(super) fn begin(schema: &Name, driver: &Driver) -> String {
    let Driver { home, epoch } = driver;
    let look = format!(
        "BEGIN
            PERFORM FROM {own}.driver WHERE schema = {schema} AND home = {home} AND epoch = {epoch}
                FOR SHARE;
            IF NOT FOUND THEN
                RAISE 'another control has taken the schema over' USING ERRCODE = {SUPERSEDED};
            END IF;
        END",
        own = Name::new(OWN),
        schema = literal(schema.as_str()),
        home = literal(home),
        SUPERSEDED = literal(SUPERSEDED),
    );
    format!("BEGIN; DO {}", literal(&look))
}

/// Shuts out earlier controls of the same home, and ends the session of one, so that nobody waits
/// for a process that was stopped.
pub(super) fn shut_out(
    session: &mut Session,
    schema: &Name,
    driver: &Driver,
) -> Result<(), Failed> {
    let own = Name::new(OWN);
    let Driver { home, epoch } = driver;
    let (name, home) = (literal(schema.as_str()), literal(home));
    let last = session
        .one(&format!("SELECT epoch FROM {own}.driver WHERE schema = {name} AND home = {home}"))?;
    let last: Option<u64> = last.and_then(|it| it.parse().ok());
    if last.is_some_and(|last| last > *epoch) {
        return Err(Failed::Superseded);
    }
    if last.is_some_and(|last| last < *epoch) {
        // Where that is not allowed its transactions are refused all the same.
        drop(session.run(&format!(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l \
             JOIN pg_database d ON d.oid = l.database \
             WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted \
                 AND l.objsubid = 2 AND l.classid::bigint = {} AND l.objid::bigint = {}",
            unsigned(&literal(OWN)),
            unsigned(&name)
        )));
    }
    let raise = format!(
        "BEGIN; SET LOCAL lock_timeout = '{}ms'; \
         UPDATE {own}.driver SET epoch = {epoch} \
             WHERE schema = {name} AND home = {home} AND epoch < {epoch}; COMMIT",
        ledger::TAKE.as_millis()
    );
    match session.run(&raise) {
        Err(error) if error.passes() => Err(Failed::Busy),
        done => done,
    }
}

/// Writes down who has taken the schema over. Whoever holds its lock may.
pub(super) fn take(session: &mut Session, schema: &Name, driver: &Driver) -> Result<(), Failed> {
    let Driver { home, epoch } = driver;
    let taken = session.one(&format!(
        "INSERT INTO {own}.driver AS it (schema, home, epoch) VALUES ({}, {home}, {epoch}) \
         ON CONFLICT (schema) DO UPDATE SET home = excluded.home, epoch = excluded.epoch \
         WHERE it.home <> excluded.home OR it.epoch <= excluded.epoch RETURNING 1",
        literal(schema.as_str()),
        own = Name::new(OWN),
        home = literal(home),
    ))?;
    taken.map(drop).ok_or(Failed::Superseded)
}

/// A key of an advisory lock, as `pg_locks` shows it.
fn unsigned(text: &str) -> String {
    format!("(hashtext({text})::bigint & 4294967295)")
}
