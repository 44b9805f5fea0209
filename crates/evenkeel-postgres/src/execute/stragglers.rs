//! Connections of code of the old shape: they say so by their names (`web@public_r3`), which the
//! addresses that instances are given make them say.

use super::{Failed, Session};
use crate::name::literal;
use crate::plan::Plan;

/// Who still reads another shape than that of the plan. Of another role's connections the server tells
/// their names, and not what they are.
pub(super) fn find(session: &mut Session, plan: &Plan) -> Result<Vec<String>, Failed> {
    let mut old = vec![plan.schema.as_str()];
    old.extend(plan.before.as_ref().map(|it| it.as_str()));
    let old: Vec<String> = old.into_iter().map(literal).collect();
    let rows = session.rows(&format!(
        "SELECT application_name, pid FROM pg_stat_activity
         WHERE datname = current_database()
           AND coalesce(backend_type, 'client backend') = 'client backend'
           AND trim('\"' FROM substring(application_name FROM '@(.*)$')) IN ({})
         ORDER BY pid",
        old.join(", ")
    ))?;
    let one = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter().flatten();
        let (name, pid) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        format!("{name} (pid {pid})")
    };
    Ok(rows.into_iter().map(one).collect())
}
