//! The conformance suite: what every store must do, checked against a model in memory.
//!
//! It runs a seeded stream of calls, right ones and wrong ones, on a store and on a few lines that
//! are obviously right, and compares every answer. A failure names the seed and the step.

use std::collections::BTreeMap;

use evenkeel_kernel::model::{Epoch, ReleaseId};

use crate::chain::Hash;
use crate::error::{Kind, StoreError};
use crate::store::{Entry, Row, Saved, Seq, Store, Version};

/// The format that the suite's controller reads and writes.
const FORMAT: u32 = 3;
/// Calls per seed: enough for some dozen commits, reopenings and refusals.
const STEPS: u32 = 200;

/// Opens the store under test, again and again: each time as a new process would. The one opened
/// before is gone by then.
pub trait Bench {
    /// Opens it for a controller that reads formats up to `reads`.
    ///
    /// # Errors
    /// As the store's own way to be opened.
    fn open(&mut self, reads: u32) -> Result<Box<dyn Store>, StoreError>;
}

/// Runs every check with `seed`; each needs a bench whose store is new.
///
/// # Panics
/// When the store does not do what it must.
pub fn run(mut new_bench: impl FnMut() -> Box<dyn Bench>, seed: u64) {
    follows_the_model(new_bench().as_mut(), seed);
    refuses_a_newer_format(new_bench().as_mut());
    stays_poisoned(new_bench().as_mut());
}

/// What a store is, without a disk.
#[derive(Debug, Default)]
struct Model {
    claimed: Epoch,
    rows: Vec<Row>,
    saved: Option<Saved>,
    meta: BTreeMap<String, String>,
}

impl Model {
    fn version(&self) -> Version {
        self.saved.as_ref().map_or(Version(0), |saved| saved.version)
    }

    fn commit(&mut self, rows: Vec<Row>, body: String) {
        let at = rows.last().map(|row| row.at).or(self.saved.as_ref().map(|saved| saved.at));
        self.rows.extend(rows);
        self.saved = Some(Saved {
            version: Version(self.version().0 + 1),
            epoch: self.claimed,
            format: FORMAT,
            at: at.unwrap_or(0),
            head: Seq(self.rows.len() as u64),
            body,
        });
    }
}

fn follows_the_model(bench: &mut dyn Bench, seed: u64) {
    let mut random = Random(seed);
    let mut model = Model::default();
    let mut store = open(bench);
    for step in 0..STEPS {
        let refused = act(store.as_mut(), &mut model, &mut random, seed, step);
        if refused || random.below(12) == 0 {
            drop(store);
            store = open(bench);
            compare_chain(store.as_mut(), &model, &format!("seed {seed}, step {step}"));
        }
        let case = format!("seed {seed}, step {step}");
        assert_eq!(store.load().expect("a sound store loads"), model.saved, "{case}");
        compare_rows(store.as_mut(), &model, &mut random, &case);
        for (key, value) in &model.meta {
            assert_eq!(
                store.meta(key).expect("a sound store reads").as_ref(),
                Some(value),
                "{case}"
            );
        }
    }
}

/// One call. Says whether it was a wrong one, after which the store must be opened again.
fn act(
    store: &mut dyn Store,
    model: &mut Model,
    random: &mut Random,
    seed: u64,
    step: u32,
) -> bool {
    let case = format!("seed {seed}, step {step}");
    let (rows, body) = (random.rows(), random.text());
    let kind = |error: Option<StoreError>| error.map(|error| error.kind);
    match random.below(10) {
        0 => {
            let epoch = store.claim().expect("a sound store can be claimed");
            assert!(epoch > model.claimed, "{case}: {epoch} after {}", model.claimed);
            model.claimed = epoch;
            false
        }
        1 => {
            let (key, value) = (format!("key {}", random.below(3)), random.name());
            store.set_meta(model.claimed, &key, &value).expect("the newest epoch writes");
            model.meta.insert(key, value);
            false
        }
        2 => {
            let older = model.claimed.0.checked_sub(1).filter(|_| random.below(2) == 0);
            let wrong = Epoch(older.unwrap_or(model.claimed.0 + 1));
            let refused = if random.below(2) == 0 {
                store.commit(model.version(), wrong, &rows, FORMAT, &body).err()
            } else {
                store.set_meta(wrong, "key", "value").err()
            };
            assert_eq!(kind(refused), Some(Kind::Fenced { claimed: model.claimed }), "{case}");
            true
        }
        3 => {
            let found = model.version();
            let older = found.0.checked_sub(1).filter(|_| random.below(2) == 0);
            let expected = Version(older.unwrap_or(found.0 + 1 + random.below(3)));
            let refused = store.commit(expected, model.claimed, &rows, FORMAT, &body).err();
            assert_eq!(kind(refused), Some(Kind::Conflict { expected, found }), "{case}");
            true
        }
        _ => {
            let version = store
                .commit(model.version(), model.claimed, &rows, FORMAT, &body)
                .expect("the newest epoch commits on the newest version");
            model.commit(rows, body);
            assert_eq!(version, model.version(), "{case}");
            false
        }
    }
}

fn compare_rows(store: &mut dyn Store, model: &Model, random: &mut Random, case: &str) {
    let after = usize::try_from(random.below(model.rows.len() as u64 + 2)).unwrap_or(0);
    let limit = usize::try_from(random.below(20)).unwrap_or(0);
    let found = store.tail(Seq(after as u64), limit).expect("a sound store reads");
    let wanted: Vec<_> = model.rows.iter().skip(after).take(limit).collect();
    assert_eq!(found.iter().map(|entry| &entry.row).collect::<Vec<_>>(), wanted, "{case}");
}

fn compare_chain(store: &mut dyn Store, model: &Model, case: &str) {
    let all = all(store);
    assert_eq!(all.len(), model.rows.len(), "{case}");
    let mut prev = Hash::ZERO;
    for (entry, seq) in all.iter().zip(1..) {
        assert_eq!(entry.seq, Seq(seq), "{case}");
        assert!(entry.follows(prev), "{case}: the chain breaks at {}", entry.seq);
        prev = entry.hash;
    }
}

/// Every entry, page by page.
fn all(store: &mut dyn Store) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let after = all.last().map_or(Seq(0), |entry| entry.seq);
        let page = store.tail(after, 7).expect("a sound store reads");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn refuses_a_newer_format(bench: &mut dyn Bench) {
    let mut store = open(bench);
    let epoch = store.claim().expect("a new store can be claimed");
    store.commit(Version(0), epoch, &[], FORMAT + 1, "{}").expect("a new store is at version 0");
    drop(store);
    let refused = bench.open(FORMAT).and_then(|mut store| store.load()).err();
    let wanted = Kind::Newer { found: FORMAT + 1, reads: FORMAT };
    assert_eq!(refused.map(|error| error.kind), Some(wanted));
    let read = bench.open(FORMAT + 1).and_then(|mut store| store.load());
    assert!(matches!(read, Ok(Some(_))), "a newer program reads it: {read:?}");
}

fn stays_poisoned(bench: &mut dyn Bench) {
    let mut store = open(bench);
    let old = store.claim().expect("a new store can be claimed");
    let new = store.claim().expect("and again");
    assert!(store.commit(Version(0), old, &[], FORMAT, "{}").is_err());
    let refusals = [
        store.load().err(),
        store.claim().err(),
        store.commit(Version(0), new, &[], FORMAT, "{}").err(),
        store.tail(Seq(0), 1).err(),
        store.meta("key").err(),
        store.set_meta(new, "key", "value").err(),
    ];
    for refused in refusals {
        assert_eq!(refused.map(|error| error.kind), Some(Kind::Poisoned));
    }
    drop(store);
    assert_eq!(open(bench).load().expect("opened again it is sound"), None);
}

fn open(bench: &mut dyn Bench) -> Box<dyn Store> {
    bench.open(FORMAT).expect("the store can be opened again")
}

/// A seeded stream of numbers (splitmix64).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Mostly short, sometimes longer than a page of a database.
    fn text(&mut self) -> String {
        let length = match self.below(64) {
            // So large that it may be kept in another form.
            0 => 60_000,
            1..8 => 9_000,
            _ => self.below(40),
        };
        (0..length)
            .map(|_| ['a', '"', '\'', '{', '\n', 'é', '\u{1f6a2}', '0'][(self.next() % 8) as usize])
            .collect()
    }

    /// Short enough for a name.
    fn name(&mut self) -> String {
        self.text().chars().take(20).collect()
    }

    fn rows(&mut self) -> Vec<Row> {
        (0..self.below(4))
            .map(|_| Row {
                release: (self.below(3) > 0).then(|| ReleaseId(self.next())),
                at: self.next(),
                actor: self.name(),
                kind: "decided".to_owned(),
                body: self.text(),
            })
            .collect()
    }
}
