//! Schemas of databases: the new shape before the code that needs it, and the old one for as long as
//! anybody may go back to it.

use std::sync::Arc;

use expect_test::expect;

use super::*;
use crate::model::{Database, KeptSecret, SchemaChange, SecretSource};
use crate::want;
use crate::world::{SchemaTarget, Trouble};

/// Seconds that a backfill takes; everything else takes one.
const FILLS_IN: u64 = 4;

/// A revision whose indexes take long.
const LARGE: u32 = 9;
const BUILDS_IN: u64 = 2000;

/// What is done with a database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doing {
    revision: u32,
    target: Option<SchemaTarget>,
    since: u64,
    /// Since when it is paused.
    held: Option<u64>,
    done: Option<SchemaTarget>,
}

/// `reads main`: the database, and where a file that was just read looks for its tables.
pub(super) fn read(name: &str) -> (DatabaseName, String) {
    (name.parse().unwrap(), "public".to_owned())
}

/// Edits the file: `main@2` has migrations that lead to revision 2, `main@2-name` such that take
/// `name` away, `main@` none that are left to be run.
pub(super) fn edit(file: &mut Stack, change: &str) -> bool {
    let Some((name, revision)) = change.split_once('@') else { return false };
    let (revision, loses) = revision.split_once('-').unwrap_or((revision, ""));
    let change = revision.parse().ok().map(|revision: u32| {
        Arc::new(SchemaChange {
            revision,
            views: format!("public_r{revision}"),
            files: vec![format!("{revision}.sql")],
            script: "".into(),
            expand: vec![format!("revision {revision}")],
            contract: Vec::new(),
            loses: (!loses.is_empty()).then(|| loses.to_owned()).into_iter().collect(),
            hazards: Vec::new(),
        })
    });
    let url = KeptSecret { from: SecretSource::Env("DB".to_owned()), digest: None };
    let database = Database {
        url,
        schema: "public".to_owned(),
        migrations: Some("/m".to_owned()),
        desired: None,
        owner: None,
        views: None,
        change,
    };
    file.databases.insert(name.parse().unwrap(), database);
    true
}

impl Story {
    /// Takes up what is wanted of databases.
    pub(super) fn migrate(&mut self, wanted: Vec<want::Schema>) {
        for schema in wanted {
            let revision = schema.change.revision;
            let fresh =
                Doing { revision, target: None, since: self.second, held: None, done: None };
            let doing = self.migrations.entry(schema.database).or_insert(fresh);
            if doing.revision != revision {
                *doing = fresh;
            }
            let held = doing.held.filter(|_| !schema.paused);
            doing.since += held.map_or(0, |held| self.second - held);
            doing.held = schema.paused.then(|| doing.held.unwrap_or(self.second));
            if doing.target != schema.target {
                doing.done = done(doing, self.second);
                (doing.target, doing.since) = (schema.target, self.second);
            }
        }
    }

    pub(super) fn schemas(&self) -> BTreeMap<DatabaseName, world::Schema> {
        let seen = |(name, doing): (&DatabaseName, &Doing)| {
            let fate = self.fates.get(name.as_str());
            let stuck = fate.is_some();
            let trouble = fate.map(|fate| match fate {
                Fate::Never => Trouble { why: "pid 7 has orders".to_owned(), is_final: false },
                Fate::Crashes | Fate::Sick | Fate::Fails => {
                    Trouble { why: "rows of orders break a rule".to_owned(), is_final: true }
                }
            });
            let done = if stuck { doing.done } else { done(doing, self.second) };
            let revision = doing.revision;
            let doing = is_doing(doing, self.second);
            (name.clone(), world::Schema { revision, done, doing, trouble })
        };
        self.migrations.iter().map(seen).collect()
    }
}

/// What is being done by now. A second of filling is for 100 rows; who fills hears a second later
/// that something else is wanted.
fn is_doing(doing: &Doing, second: u64) -> Option<world::Doing> {
    let passed = doing.held.unwrap_or(second) - doing.since;
    let target = doing.target.filter(|it| *it == SchemaTarget::Ready || passed > 0);
    if doing.revision == LARGE && target == Some(SchemaTarget::Ready) {
        return Some(world::Doing::Tightening);
    }
    let is = match target.unwrap_or(SchemaTarget::Ready) {
        SchemaTarget::Ready => world::Doing::Filling(world::Filling {
            rows: passed * 100,
            of: FILLS_IN * 100,
            permille: u16::try_from(passed * 1000 / FILLS_IN).unwrap_or(1000),
            rate: Some(100),
            left: Some(Duration::from_secs(FILLS_IN.saturating_sub(passed))),
        }),
        SchemaTarget::Contracted => world::Doing::Contracting,
        SchemaTarget::Undone => world::Doing::Undoing,
    };
    Some(if doing.held.is_some() { is.paused() } else { is })
}

/// What is done by now.
fn done(doing: &Doing, second: u64) -> Option<SchemaTarget> {
    let takes = match doing.target {
        Some(SchemaTarget::Ready) if doing.revision == LARGE => BUILDS_IN,
        Some(SchemaTarget::Ready) => FILLS_IN,
        Some(SchemaTarget::Contracted | SchemaTarget::Undone) | None => 1,
    };
    let second = doing.held.unwrap_or(second);
    let target = doing.target.filter(|_| second >= doing.since + takes);
    target.or(doing.done)
}

#[test]
fn the_new_shape_is_there_before_the_code_and_the_old_one_until_its_code_is_gone() {
    check(
        "web 1 blue-green bake 2 reads main
         other 1 rolling",
        "0 apply main@
         20 apply web:v2 main@2
         60 apply web:v3 main@
         80 end",
        &expect![[r#"
            0 > apply main@
            0 < release #1 is started
            0 release #1 started by ann: other r1, web r1
            0   other r1 1+0 0 % | web r1 1+0 0 %
            3 shifting other to r1: step 1 of 1
            3 other: 100 % of the traffic goes to r1
            3   other r1 1+0 100 % | web r1 1+0 0 %
            4 shifting web to r1: step 1 of 1
            4 web: 100 % of the traffic goes to r1
            4   other r1 1+0 100 % | web r1 1+0 100 %
            5 promoted
            5 nothing was replaced, so nothing is stopped
            5 release #1 ended: promoted
            20 > apply web:v2 main@2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20 database main: revision 2 of its schema is being made beside the old one
            24   other r1 1+0 100 % | web r1 1+0 100 % r2 1+0 0 %
            27 shifting web to r2: step 1 of 1
            27 web: 100 % of the traffic goes to r2
            27   other r1 1+0 100 % | web r1 1+0 0 % r2 1+0 100 %
            28 promoted; what it replaced is kept for 2s
            30 the old revisions are stopped now
            30   other r1 1+0 100 % | web r1 0+1 0 % r2 1+0 100 %
            31   other r1 1+0 100 % | web r2 1+0 100 %
            32 database main: revision 2 of its schema stays, the old one goes now
            33 release #2 ended: promoted
            60 > apply web:v3 main@
            60 < release #3 is started
            60 release #3 started by ann: web r2 to r3
            60   other r1 1+0 100 % | web r2 1+0 100 % r3 1+0 0 %
            63 shifting web to r3: step 1 of 1
            63 web: 100 % of the traffic goes to r3
            63   other r1 1+0 100 % | web r2 1+0 0 % r3 1+0 100 %
            64 promoted; what it replaced is kept for 2s
            66 the old revisions are stopped now
            66   other r1 1+0 100 % | web r2 0+1 0 % r3 1+0 100 %
            67   other r1 1+0 100 % | web r3 1+0 100 %
            68 release #3 ended: promoted
        "#]],
    );
}

#[test]
fn on_the_way_back_the_new_shape_goes_after_its_code() {
    check(
        "web 1 blue-green bake 30 reads main",
        "0 apply main@
         60 apply web:v2 main@2
         75 rollback
         90 end",
        &expect![[r#"
            0 > apply main@
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 1+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            60 > apply web:v2 main@2
            60 < release #2 is started
            60 release #2 started by ann: web r1 to r2
            60 database main: revision 2 of its schema is being made beside the old one
            64   web r1 1+0 100 % r2 1+0 0 %
            67 shifting web to r2: step 1 of 1
            67 web: 100 % of the traffic goes to r2
            67   web r1 1+0 0 % r2 1+0 100 %
            68 promoted; what it replaced is kept for 30s
            75 > rollback
            75 < release #2 is taken back
            75 release #2 turns back: rolled back by ann
            75   web r1 1+0 100 % r2 0+1 0 %
            75   web r1 1+0 100 %
            76 database main: revision 2 of its schema is being taken away again
            77 release #2 ended: fast_rolled_back, rolled back by ann
        "#]],
    );
}

#[test]
fn rows_that_break_a_rule_take_the_release_back() {
    check(
        "web 1 blue-green bake 2 reads main",
        "0 apply main@
         20 apply web:v2 main@2
         22 sick main
         23 why
         25 well main
         40 end",
        &expect![[r#"
            0 > apply main@
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 1+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2 main@2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20 database main: revision 2 of its schema is being made beside the old one
            22 release #2 turns back: the schema of database main cannot be changed: rows of orders break a rule
            22 database main: revision 2 of its schema is being taken away again
            23 ? database main loses its new shape, revision 2 (rows of orders break a rule)
            23 ? release #2 is taken back: the new instances drain (the schema of database main cannot be changed: rows of orders break a rule)
            25 release #2 ended: rolled_back, the schema of database main cannot be changed: rows of orders break a rule
        "#]],
    );
}

#[test]
fn code_that_stays_as_it_is_must_not_lose_what_it_reads() {
    check(
        "web 1 blue-green bake 2 reads main
         worker 1 blue-green bake 2 reads main",
        "0 apply main@
         20 apply web:v2 main@2-orders.name
         21 apply worker:v2
         40 end",
        &expect![[r#"
            0 > apply main@
            0 < release #1 is started
            0 release #1 started by ann: web r1, worker r1
            0   web r1 1+0 0 % | worker r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 1+0 100 % | worker r1 1+0 0 %
            4 shifting worker to r1: step 1 of 1
            4 worker: 100 % of the traffic goes to r1
            4   web r1 1+0 100 % | worker r1 1+0 100 %
            5 promoted
            5 nothing was replaced, so nothing is stopped
            5 release #1 ended: promoted
            20 > apply web:v2 main@2-orders.name
            20 < refused: worker uses database main and stays as it is, but orders.name would be gone for it
            21 > apply worker:v2
            21 < release #2 is started
            21 release #2 started by ann: web r1 to r2, worker r1 to r2
            21 database main: revision 2 of its schema is being made beside the old one
            25   web r1 1+0 100 % r2 1+0 0 % | worker r1 1+0 100 % r2 1+0 0 %
            28 shifting web to r2: step 1 of 1
            28 web: 100 % of the traffic goes to r2
            28   web r1 1+0 0 % r2 1+0 100 % | worker r1 1+0 100 % r2 1+0 0 %
            29 shifting worker to r2: step 1 of 1
            29 worker: 100 % of the traffic goes to r2
            29   web r1 1+0 0 % r2 1+0 100 % | worker r1 1+0 0 % r2 1+0 100 %
            30 promoted; what it replaced is kept for 2s
            32 the old revisions are stopped now
            32   web r1 0+1 0 % r2 1+0 100 % | worker r1 0+1 0 % r2 1+0 100 %
            33   web r2 1+0 100 % | worker r2 1+0 100 %
            34 database main: revision 2 of its schema stays, the old one goes now
            35 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn there_is_no_way_back_to_code_of_a_shape_that_is_gone() {
    check(
        "web 1 blue-green bake 2 reads main",
        "0 apply main@
         20 apply web:v2 main@2
         50 rollback
         51 end",
        &expect![[r#"
            0 > apply main@
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 1+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2 main@2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20 database main: revision 2 of its schema is being made beside the old one
            24   web r1 1+0 100 % r2 1+0 0 %
            27 shifting web to r2: step 1 of 1
            27 web: 100 % of the traffic goes to r2
            27   web r1 1+0 0 % r2 1+0 100 %
            28 promoted; what it replaced is kept for 2s
            30 the old revisions are stopped now
            30   web r1 0+1 0 % r2 1+0 100 %
            31   web r2 1+0 100 %
            32 database main: revision 2 of its schema stays, the old one goes now
            33 release #2 ended: promoted
            50 > rollback
            50 < refused: web r1 reads database main in a shape that is gone
        "#]],
    );
}

#[test]
fn what_is_waited_for_tells_how_far_rows_are_filled() {
    check(
        "web 1 blue-green bake 2 reads main",
        "0 apply main@
         20 apply web:v2 main@2
         22 why
         23 abort
         23 why
         30 end",
        &expect![[r#"
            0 > apply main@
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 1+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2 main@2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20 database main: revision 2 of its schema is being made beside the old one
            22 ? database main gets its new shape, revision 2: 200 of about 400 rows, 50 %, 100 rows a second, about 2s left
            23 > abort
            23 < release #2 is taken back
            23 release #2 turns back: aborted by ann
            23 database main: revision 2 of its schema is being taken away again
            23 ? database main loses its new shape, revision 2
            23 ? release #2 is taken back: the new instances drain
            24 release #2 ended: aborted, aborted by ann
        "#]],
    );
}

#[test]
fn a_pause_keeps_rows_from_being_filled_for_as_long_as_it_lasts() {
    check(
        "web 1 blue-green bake 2 reads main",
        "0 apply main@
         20 apply web:v2 main@2
         22 pause
         2000 why
         2000 resume
         2001 why
         2002 end",
        &expect![[r#"
            0 > apply main@
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 1+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2 main@2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20 database main: revision 2 of its schema is being made beside the old one
            22 > pause
            22 < release #2 paused by ann
            22 release #2 paused by ann
            2000 ? release #2 is paused by ann
            2000 ? database main gets its new shape, revision 2: paused, 200 of about 400 rows, 50 %
            2000 > resume
            2000 < release #2 resumed by ann
            2000 release #2 resumed by ann
            2001 ? database main gets its new shape, revision 2: 300 of about 400 rows, 75 %, 100 rows a second, about 1s left
        "#]],
    );
}

#[test]
fn an_index_may_take_as_long_as_it_does_and_who_is_in_the_way_may_not() {
    check(
        "web 1 blue-green bake 0 reads main",
        "0 apply main@
         20 apply web:v2 main@9
         2050 end",
        &expect![[r#"
            0 > apply main@
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 1+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2 main@9
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20 database main: revision 9 of its schema is being made beside the old one
            2020   web r1 1+0 100 % r2 1+0 0 %
            2023 shifting web to r2: step 1 of 1
            2023 web: 100 % of the traffic goes to r2
            2023   web r1 1+0 0 % r2 1+0 100 %
            2024 promoted
            2024 the old revisions are stopped now
            2024   web r1 0+1 0 % r2 1+0 100 %
            2025   web r2 1+0 100 %
            2026 database main: revision 9 of its schema stays, the old one goes now
            2027 release #2 ended: promoted
        "#]],
    );
    check(
        "web 1 blue-green bake 0 reads main",
        "0 apply main@
         20 apply web:v2 main@9
         1500 never main
         1600 why
         3000 end",
        &expect![[r#"
            0 > apply main@
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 1+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2 main@9
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20 database main: revision 9 of its schema is being made beside the old one
            1550 release #2 turns back: no progress for 1m
            1550 database main: revision 9 of its schema is being taken away again
            1600 ? database main loses its new shape, revision 9 (pid 7 has orders)
            1600 ? release #2 is taken back: the new instances drain (no progress for 1m)
        "#]],
    );
}
