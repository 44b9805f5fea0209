//! A second table beside the first, as tools of other databases do it: triggers that carry every write
//! over, the rows copied in ranges of the key, indexes built afterwards, and then one takes the
//! other's place. Written for this table: no keys of others point at it, and nobody else has triggers.

use std::time::Duration;

use anyhow::Context as _;
use postgres::Client;

use super::change::{COLUMNS, Change};
use super::engine::{Engine, LOCK_TIMEOUT, Locking, patiently, pid};
use super::server::Server;

/// Rows that are copied in one transaction.
const BATCH: i32 = 10_000;
/// The schema of the second table.
const COPIED: &str = "copied";

pub(super) struct Copy {
    locking: Locking,
    change: Change,
}

impl Copy {
    pub(super) fn new(server: &Server, change: Change) -> anyhow::Result<Self> {
        Ok(Self { locking: Locking::new(server)?, change })
    }

    fn client(&mut self) -> &mut Client {
        &mut self.locking.client
    }

    /// The columns of the second table.
    fn columns(&self) -> Vec<&'static str> {
        let new = self.change.copied().into_iter().map(|it| it.column);
        COLUMNS.into_iter().chain(new.filter(|it| !COLUMNS.contains(it))).collect()
    }

    /// What the second table holds for a row of the first.
    fn values(&self, row: &str) -> Vec<String> {
        let all = self.change.copied();
        let value = |column: &'static str| {
            let new = all.iter().find(|it| it.column == column);
            new.map_or_else(|| format!("{row}{column}"), |it| it.up.replace("{}", row))
        };
        self.columns().into_iter().map(value).collect()
    }
}

/// What writes a row into a table, whether it has it or not.
fn upsert(table: &str, columns: &[&str], values: &[String]) -> String {
    let set: Vec<String> = columns.iter().map(|it| format!("{it} = excluded.{it}")).collect();
    format!(
        "INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}",
        columns.join(", "),
        values.join(", "),
        set.join(", ")
    )
}

/// A function that carries a write over, whose own writes are carried nowhere.
fn carries(name: &str, upsert: &str, delete: &str) -> String {
    format!(
        "CREATE FUNCTION {COPIED}.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF TG_OP = 'DELETE' THEN {delete}; ELSE {upsert}; END IF;
             RETURN NULL;
         END $$"
    )
}

fn trigger(name: &str, table: &str) -> String {
    format!(
        "CREATE TRIGGER {name} AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW \
         WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION {COPIED}.{name}()"
    )
}

impl Engine for Copy {
    fn name(&self) -> String {
        "second table".to_owned()
    }

    fn pid(&mut self) -> anyhow::Result<u32> {
        pid(self.client())
    }

    fn new_shape(&self) -> Option<String> {
        Some(format!("{COPIED}, public"))
    }

    /// A row that is not copied yet is not there.
    fn is_whole_at_once(&self) -> bool {
        false
    }

    fn expand(&mut self) -> anyhow::Result<()> {
        let kinds: Vec<String> = self
            .change
            .copied()
            .iter()
            .map(|it| {
                if COLUMNS.contains(&it.column) {
                    format!(
                        "ALTER COLUMN {0} DROP DEFAULT, ALTER COLUMN {0} TYPE {1} USING NULL, \
                             ALTER COLUMN {0} SET NOT NULL{2}",
                        it.column, it.kind, it.default
                    )
                } else {
                    format!("ADD COLUMN {} {} NOT NULL", it.column, it.kind)
                }
            })
            .collect();
        // A row that was deleted while it was copied is written down, and deleted again.
        let gone = format!(
            "DELETE FROM {COPIED}.orders WHERE id = OLD.id; \
             INSERT INTO {COPIED}.gone VALUES (OLD.id) ON CONFLICT DO NOTHING"
        );
        let over = upsert(&format!("{COPIED}.orders"), &self.columns(), &self.values("NEW."));
        let over = format!("{over}; DELETE FROM {COPIED}.gone WHERE id = NEW.id");
        self.client().batch_execute(&format!(
            "CREATE SCHEMA {COPIED};
             CREATE TABLE {COPIED}.orders (LIKE public.orders INCLUDING DEFAULTS);
             ALTER TABLE {COPIED}.orders {}, ADD PRIMARY KEY (id),
                 ALTER COLUMN id SET DEFAULT nextval('public.orders_id_seq');
             CREATE TABLE {COPIED}.gone (id int PRIMARY KEY);
             {}",
            kinds.join(", "),
            carries("_over", &over, &gone),
        ))?;
        patiently(&mut self.locking, &trigger("_over", "public.orders"))
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let (columns, values) = (self.columns().join(", "), self.values("o.").join(", "));
        let client = self.client();
        let last: Option<i32> =
            client.query_one("SELECT max(id) FROM public.orders", &[])?.try_get(0)?;
        client.batch_execute("SET synchronous_commit = off")?;
        let copy = client.prepare(&format!(
            "INSERT INTO {COPIED}.orders ({columns}) SELECT {values} FROM public.orders o \
             WHERE id > $1 AND id <= $2 ON CONFLICT (id) DO NOTHING"
        ))?;
        let mut from = 0;
        while from < last.context("the table is empty")? {
            client.execute(&copy, &[&from, &(from + BATCH)])?;
            from += BATCH;
        }
        client.batch_execute("RESET synchronous_commit")?;
        Ok(())
    }

    fn tighten(&mut self) -> anyhow::Result<()> {
        let back = self.change.back("NEW.");
        let columns: Vec<&str> = COLUMNS.to_vec();
        let values: Vec<String> = columns
            .iter()
            .map(|it| back.get(it).cloned().unwrap_or_else(|| format!("NEW.{it}")))
            .collect();
        let back = carries(
            "_back",
            &upsert("public.orders", &columns, &values),
            "DELETE FROM public.orders WHERE id = OLD.id",
        );
        for statement in [
            // Writes are carried over meanwhile, so nothing may lock the table.
            &format!("CREATE INDEX CONCURRENTLY ON {COPIED}.orders (customer_id)"),
            &format!("CREATE INDEX CONCURRENTLY ON {COPIED}.orders (full_name)"),
            &format!(
                "DELETE FROM {COPIED}.orders o USING {COPIED}.gone g WHERE o.id = g.id \
                 AND NOT EXISTS (SELECT FROM public.orders p WHERE p.id = g.id)"
            ),
            &format!("ANALYZE {COPIED}.orders"),
            &back,
            &trigger("_back", &format!("{COPIED}.orders")),
        ] {
            self.client().batch_execute(statement)?;
        }
        Ok(())
    }

    fn contract(&mut self) -> anyhow::Result<()> {
        self.locking.run(
            LOCK_TIMEOUT,
            &format!(
                "DROP TRIGGER _over ON public.orders; DROP TRIGGER _back ON {COPIED}.orders; \
                 CREATE SCHEMA before; ALTER TABLE public.orders SET SCHEMA before; \
                 ALTER TABLE {COPIED}.orders SET SCHEMA public"
            ),
        )?;
        Ok(())
    }

    fn held(&self) -> Duration {
        self.locking.held
    }
}
