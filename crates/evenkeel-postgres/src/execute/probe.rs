//! Asks whether the rows that are there fit the new shape, before anything is run: by reading only,
//! and for a short time.

use std::time::{Duration, Instant};

use super::{Failed, Session};
use crate::name::Name;
use crate::plan::{Hazard, Probe, Weight};

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long one question may take.
    pub each: Duration,
    /// After how long no more are asked.
    pub all: Duration,
    /// Tables of more bytes are not looked at.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        // Whoever wants to see a plan waits for it.
        Self { each: Duration::from_secs(3), all: Duration::from_secs(15), bytes: 2 << 30 }
    }
}

/// How long a question waits for a table.
const LOCK: Duration = Duration::from_millis(60);
/// What comes of rows that do not fit.
const BACK: &str = "they would take the release back";
/// The most rows that are counted.
const MOST: i64 = 1000;

/// What is said of the rows that are there: those that do not fit, and what was not looked at.
///
/// # Errors
///
/// What the database said, if it is not about what was asked.
pub fn ask(
    session: &mut Session,
    schema: &Name,
    probes: &[Probe],
    bounds: Bounds,
) -> Result<Vec<Hazard>, Failed> {
    let began = Instant::now();
    let mut all: Vec<Hazard> = Vec::new();
    for probe in probes {
        let hazard = if probe.bytes > bounds.bytes {
            let what =
                format!("the rows of {} were not looked at: {}", probe.table, large(probe.bytes));
            Some(Hazard { weight: Weight::Note, at: None, what })
        } else if began.elapsed() > bounds.all {
            let seconds = bounds.all.as_secs();
            let what = format!("not all rows were looked at: that takes more than {seconds} s");
            Some(Hazard { weight: Weight::Note, at: None, what })
        } else {
            one(session, schema, probe, bounds)?
        };
        // A value that cannot be had is met by every rule that speaks of it.
        all.extend(hazard.filter(|it| !all.iter().any(|known| known.what == it.what)));
    }
    Ok(all)
}

fn large(bytes: u64) -> String {
    format!("they are {} MB", bytes >> 20)
}

fn one(
    session: &mut Session,
    schema: &Name,
    probe: &Probe,
    bounds: Bounds,
) -> Result<Option<Hazard>, Failed> {
    let Probe { table, wrong, query, .. } = probe;
    let hazard = |weight, what| Some(Hazard { weight, at: probe.at.clone(), what });
    let asked = session.rows(&format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = '{}ms'; SET LOCAL lock_timeout = '{}ms'; \
         SET LOCAL search_path = {schema}; SET LOCAL max_parallel_workers_per_gather = 0; \
         SELECT count(*), min(key) FROM (SELECT key FROM ({query}) AS found (key) LIMIT {}) AS it; \
         COMMIT",
        bounds.each.as_millis(),
        LOCK.as_millis(),
        MOST + 1
    ));
    let rows = match asked {
        Ok(rows) => rows,
        Err(error) => {
            session.run("ROLLBACK")?;
            let Some(said) = error.said() else { return Err(error) };
            // Classes 22, 23 and P0 are about values; all others about how they were asked for, such
            // as a function that the change itself makes.
            let of_a_value = ["22", "23", "P0"].iter().any(|it| said.code().code().starts_with(it));
            let message = said.message();
            return Ok(if of_a_value {
                let what = format!("rows of {table} cannot be filled: {message}; {BACK}");
                hazard(Weight::Warning, what)
            } else {
                let what = format!("whether rows of {table} {wrong} is not known: {message}");
                hazard(Weight::Note, what)
            });
        }
    };
    let mut cells = rows.into_iter().next().unwrap_or_default().into_iter().flatten();
    let count: i64 = cells.next().and_then(|it| it.parse().ok()).unwrap_or_default();
    let Some(key) = cells.next().filter(|_| count > 0) else { return Ok(None) };
    let count = if count > MOST { format!("more than {MOST}") } else { count.to_string() };
    let what = format!("rows of {table} {wrong}: {count}, such as {key}; {BACK}");
    Ok(hazard(Weight::Warning, what))
}
