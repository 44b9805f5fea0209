//! A phase as one transaction that is tried until it gets its locks, and never makes anybody wait
//! for long: who waits for a lock is in the way of everybody who comes after, so it waits for a
//! moment only, and lets them pass before it tries again.

use std::thread;
use std::time::{Duration, Instant};

use super::{Failed, Session, blockers};
use crate::plan::Phase;

/// How long is waited for locks.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long one try waits for its locks, all of them together: as long as this others stand
    /// behind it.
    pub per_try: Duration,
    /// How long others pass before the next try.
    pub between: Duration,
    /// After how long it is given up.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            per_try: Duration::from_millis(60),
            between: Duration::from_millis(700),
            total: Duration::from_secs(600),
        }
    }
}

/// Longest that a statement within a phase may run while locks are held. Far more than is needed;
/// a server that is slower gives up, and is tried again.
const STATEMENT: Duration = Duration::from_secs(5);

/// Runs a phase with what is written down of it.
pub(super) fn phase(
    session: &mut Session,
    phase: &Phase,
    written: &[String],
    patience: Patience,
) -> Result<(), Failed> {
    tried(session, phase, written, "COMMIT", patience)?;
    // What was committed without waiting for the disk is on it after this.
    session.run("BEGIN; SET LOCAL synchronous_commit = on; SELECT txid_current(); COMMIT")?;
    Ok(())
}

/// How long locks are waited for to rehearse a phase.
const REHEARSED: Duration = Duration::from_secs(20);

/// Runs a phase and takes it back, so that what would fail is known while there is a way back. One
/// that gets no locks is not rehearsed.
pub(super) fn rehearse(
    session: &mut Session,
    phase: &Phase,
    patience: Patience,
) -> Result<(), Failed> {
    let patience = Patience { total: patience.total.min(REHEARSED), ..patience };
    match tried(session, phase, &[], "ROLLBACK", patience) {
        Err(Failed::Locked { .. }) => Ok(()),
        done => done,
    }
}

fn tried(
    session: &mut Session,
    phase: &Phase,
    written: &[String],
    end: &str,
    patience: Patience,
) -> Result<(), Failed> {
    again(session, &phase.locks, patience, |session| {
        let done = once(session, phase, written, end, patience);
        if done.is_err() {
            // The error of the phase says more than one of the way out of it.
            drop(session.run("ROLLBACK"));
        }
        done
    })
}

fn once(
    session: &mut Session,
    phase: &Phase,
    written: &[String],
    end: &str,
    patience: Patience,
) -> Result<(), Failed> {
    let lock = patience.per_try.as_millis();
    for statement in &phase.alone {
        session.run(statement)?;
    }
    session.run(&format!(
        // Locks are held until the commit is through, so it does not wait for the disk.
        "{}; SET LOCAL lock_timeout = '{lock}ms'; SET LOCAL synchronous_commit = off; \
         SET LOCAL statement_timeout = '{}ms'; SET LOCAL client_min_messages = warning",
        session.begin(),
        STATEMENT.as_millis()
    ))?;
    for statement in &phase.first {
        session.run(statement)?;
    }
    // One message: nobody waits for the way to the server and back while locks are held.
    let mut rest = String::new();
    if !phase.locks.is_empty() {
        rest = format!(
            "SET LOCAL statement_timeout = '{lock}ms'; \
             LOCK TABLE {} IN ACCESS EXCLUSIVE MODE; \
             SET LOCAL statement_timeout = '{}ms';\n",
            phase.locks.join(", "),
            STATEMENT.as_millis()
        );
    }
    rest.push_str(&phase.statements.join(";\n"));
    for statement in written {
        rest.push_str(";\n");
        rest.push_str(statement);
    }
    rest.push_str(";\n");
    rest.push_str(end);
    session
        .run(&rest)
        .map_err(|error| error.while_replacing(&phase.statements).while_changing(&phase.locks))
}

/// Tries until it works or is given up; only what passes by itself is tried again. Who is in the way
/// is told as soon as it was not a matter of a moment.
pub(super) fn again<T>(
    session: &mut Session,
    tables: &[String],
    patience: Patience,
    mut attempt: impl FnMut(&mut Session) -> Result<T, Failed>,
) -> Result<T, Failed> {
    let began = Instant::now();
    let mut tries = 0;
    let done = loop {
        match attempt(session) {
            Err(error) if error.passes() => {}
            other => break other,
        }
        tries += 1;
        if began.elapsed() + patience.between > patience.total {
            break Err(Failed::Locked {
                tables: tables.join(", "),
                seconds: began.elapsed().as_secs(),
                holders: in_the_way(session, tables, patience),
            });
        }
        if tries > 1 {
            let who = in_the_way(session, tables, patience);
            let seconds = began.elapsed().as_secs();
            session.waits(Some(&format!(
                "no short lock on {} was to be had for {seconds} s: {who}",
                tables.join(", ")
            )));
        }
        thread::sleep(patience.between);
    };
    if tries > 1 {
        session.waits(None);
    }
    done
}

fn in_the_way(session: &mut Session, tables: &[String], patience: Patience) -> String {
    match blockers::holding(session, tables, patience.per_try) {
        Ok(who) => blockers::told(&who),
        // What was tried says more than why nobody could be asked.
        Err(_unknown) => blockers::told(&[]),
    }
}
