//! The chapter of the demo in which the schema of a database changes with the code that needs it:
//! forward for good, and half of the way and back.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use evenkeel_control::api::types::{Answer, Reason};

use super::super::database::Database;
use super::super::order::{OLDER, Order};
use super::super::stack::{self, MIGRATIONS, Migration, Variant};
use super::{Chapter, REACHED_MAX, Script};

/// Orders of a revision that show that it takes part: this part of a second's requests, within these
/// bounds.
const TAKEN_PART: u32 = 10;
const TAKEN: (u32, u32) = (3, 20);
/// Every order as the last revision of the schema has it, past all views.
const ALL: &str = "SELECT id, first_name || ' ' || last_name, cents FROM public.orders";
/// The columns of the table itself.
const COLUMNS: &str = "
    SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
    FROM pg_attribute
    WHERE attrelid = 'public.orders'::regclass AND attnum > 0 AND NOT attisdropped";

impl Script<'_> {
    /// Plays the chapter, where there is a PostgreSQL; says what is left out where there is none,
    /// and returns that.
    pub(super) async fn orders(&self) -> anyhow::Result<Option<String>> {
        let database = match self.stage.database().await {
            Ok(database) => database,
            Err(why) => {
                let text = format!("left out: a schema that changes with its code, as {why:#}");
                self.says("left-out", &text).await;
                return Ok(Some(text));
            }
        };
        let major = database.major();
        self.step(&format!("web r6 takes orders, into a PostgreSQL {major} of the demo's own"))
            .await;
        self.show.borrow_mut().file("evenkeel.toml", &stack::addition());
        self.opens(database).await?;
        self.step("web r7 wants names in two parts, and room for larger amounts").await;
        self.there().await?;
        self.step("web r8 wants prices; halfway it is not wanted any more").await;
        self.back(database).await?;
        Ok(None)
    }

    /// The first web with orders.
    async fn opens(&self, database: &Database) -> anyhow::Result<()> {
        self.shows(Variant::Orders);
        let release = self.stage.apply(Variant::Orders).await?;
        self.promoted(release, Variant::Orders).await?;
        self.over(release).await?;
        let orders: Vec<Order> = (1..=OLDER).map(Order::of).collect();
        let ids: Vec<i64> = orders.iter().map(|it| it.id).collect();
        let names: Vec<&str> = orders.iter().map(|it| it.name.as_str()).collect();
        let cents: Vec<i64> = orders.iter().map(|it| it.cents).collect();
        let client = database.connect().await?;
        client
            .execute(
                "INSERT INTO public.orders
                 SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[])",
                &[&ids, &names, &cents],
            )
            .await
            .context("could not write older orders")?;
        self.load()?.order();
        self.taken(Variant::Orders).await?;
        self.says("filled", &format!("{OLDER} older orders are there, and new ones come in")).await;
        Ok(())
    }

    /// Forward for good.
    async fn there(&self) -> anyhow::Result<()> {
        self.shows(Variant::Names);
        let (new, old) = (Variant::Names.version(), Variant::Orders.version());
        let text = format!(
            "up fills new columns before r{new} starts, down the old ones while r{old} runs"
        );
        self.says("shapes", &text).await;
        let release = self.stage.apply(Variant::Names).await?;
        self.promoted(release, Variant::Names).await?;
        let (forth, back) = {
            let record = self.load()?.record();
            (record.orders.across(new, old), record.orders.across(old, new))
        };
        let text = format!(
            "on the same rows: r{new} read {forth} orders that r{old} took, and r{old} read {back} \
             of r{new}'s"
        );
        self.says("both", &text).await;
        self.over(release).await
    }

    /// Half of the way, and back.
    async fn back(&self, database: &Database) -> anyhow::Result<()> {
        let client = database.connect().await?;
        let columns = async || -> anyhow::Result<String> {
            let row =
                client.query_one(COLUMNS, &[]).await.context("could not look at the table")?;
            Ok(row.try_get(0)?)
        };
        let before = columns().await?;
        self.shows(Variant::Prices);
        let release = self.stage.apply(Variant::Prices).await?;
        self.taken(Variant::Prices).await?;
        self.says("command", "$ evenkeel abort").await;
        self.stage.post::<_, Answer>("/v1/abort", &Reason::default()).await?;
        self.over(release).await?;
        let after = columns().await?;
        ensure!(before == after, "the table was {before}, and is {after}");
        let version = Variant::Prices.version();
        let taken = self.load()?.record().orders.taken_by(version);
        self.compare().await?;
        let text = format!(
            "the table is as it was ({after}), and the {taken} orders of web r{version} are in it"
        );
        self.says("taken-back", &text).await;
        Ok(())
    }

    /// Shows the migration that comes with a variant.
    fn shows(&self, variant: Variant) {
        if let Some(Migration { file, text }) = variant.migration() {
            self.show.borrow_mut().file(&format!("{MIGRATIONS}/{file}"), text);
        }
    }

    /// Waits until a variant has all traffic.
    async fn promoted(&self, release: u64, variant: Variant) -> anyhow::Result<()> {
        let release = self.settled(release).await?;
        if !release.promoted {
            let because = release.because.unwrap_or_default();
            bail!("the release of web r{variant} was taken back: {because}");
        }
        Ok(())
    }

    /// Waits until a version has taken some orders.
    async fn taken(&self, variant: Variant) -> anyhow::Result<()> {
        let what = format!("orders taken by web r{variant}");
        let enough = (self.rate / TAKEN_PART).clamp(TAKEN.0, TAKEN.1) as usize;
        let taken = async || {
            let taken = self.load()?.record().orders.taken_by(variant.version());
            Ok((taken >= enough).then_some(()))
        };
        self.stage.until(&what, REACHED_MAX, taken).await
    }

    /// Compares the table with every order: those that were there, and those that were taken until
    /// now.
    pub(super) async fn compare(&self) -> anyhow::Result<Chapter> {
        let taken: Vec<u64> = self.load()?.record().orders.taken.keys().copied().collect();
        let client = self.stage.database().await?.connect().await?;
        let rows = client.query(ALL, &[]).await.context("could not read all orders")?;
        let mut there = BTreeMap::new();
        for row in rows {
            let order =
                Order { id: row.try_get(0)?, name: row.try_get(1)?, cents: row.try_get(2)? };
            there.insert(order.id, order);
        }
        let (mut lost, mut wrong) = (0, 0);
        for order in (1..=OLDER).chain(taken).map(Order::of) {
            match there.get(&order.id) {
                Some(found) if *found == order => {}
                Some(_) => wrong += 1,
                None => lost += 1,
            }
        }
        ensure!(lost + wrong == 0, "{lost} orders are lost, {wrong} are not as they were taken");
        Ok(Chapter::Kept { rows: there.len() })
    }
}
