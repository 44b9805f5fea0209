//! The chain: each entry carries the hash of the one before it, so that a change of any of them is
//! a change of all that follow.
//!
//! SHA-256 and not BLAKE3, because the house already has SHA-256 for content addresses and a commit
//! hashes some kilobytes: the disk takes a thousand times longer. The chain does not stop someone
//! who may write the file from computing it anew; only a hash that is kept elsewhere does.

use std::fmt;

use sha2::Digest as _;

use crate::store::{Row, Saved, Seq};

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What the first entry follows.
    pub const ZERO: Self = Self([0; 32]);
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Feeds values to a hash so that different values never feed the same bytes: numbers have a fixed
/// width, texts are preceded by their length, and each kind of record starts with its own name.
struct Encoder(sha2::Sha256);

impl Encoder {
    fn of(record: &str) -> Self {
        Self(sha2::Sha256::new()).text(record)
    }

    fn number(mut self, number: u64) -> Self {
        self.0.update(number.to_be_bytes());
        self
    }

    fn option(self, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.number(1).number(number),
            None => self.number(0),
        }
    }

    fn text(self, text: &str) -> Self {
        // A length is at most 2^63 on every machine, so the cast loses nothing.
        let mut counted = self.number(text.len() as u64);
        counted.0.update(text.as_bytes());
        counted
    }

    fn hash(mut self, hash: Hash) -> Self {
        self.0.update(hash.0);
        self
    }

    fn done(self) -> Hash {
        Hash(self.0.finalize().into())
    }
}

/// The hash of the entry at `seq` that follows `prev` and says `row`.
pub(crate) fn link(prev: Hash, seq: Seq, row: &Row) -> Hash {
    Encoder::of("evenkeel journal 1")
        .hash(prev)
        .number(seq.0)
        .option(row.release.map(|release| release.0))
        .number(row.at)
        .text(&row.actor)
        .text(&row.kind)
        .text(&row.body)
        .done()
}

/// The hash of a state whose last row has the hash `head`: it belongs to that journal only.
pub(crate) fn seal(saved: &Saved, head: Hash) -> Hash {
    Encoder::of("evenkeel state 1")
        .number(saved.version.0)
        .number(saved.epoch.0)
        .number(u64::from(saved.format))
        .number(saved.at)
        .number(saved.head.0)
        .hash(head)
        .text(&saved.body)
        .done()
}

/// The hash of a small fact.
pub(crate) fn fact(key: &str, value: &str) -> Hash {
    Encoder::of("evenkeel meta 1").text(key).text(value).done()
}

#[cfg(test)]
mod tests {
    use evenkeel_kernel::model::ReleaseId;

    use super::*;

    fn row(actor: &str, kind: &str, body: &str) -> Row {
        let text = str::to_owned;
        Row { release: None, at: 5, actor: text(actor), kind: text(kind), body: text(body) }
    }

    #[test]
    fn no_two_rows_are_encoded_alike() {
        let base = row("ann", "started", "{}");
        let rows = [
            base.clone(),
            row("an", "nstarted", "{}"),
            row("ann", "started{}", ""),
            row("", "annstarted", "{}"),
            Row { release: Some(ReleaseId(0)), ..base.clone() },
            Row { release: Some(ReleaseId(5)), ..base.clone() },
            Row { at: 6, ..base },
        ];
        let mut hashes: Vec<_> =
            rows.iter().map(|row| link(Hash::ZERO, Seq(1), row).to_string()).collect();
        hashes.push(link(Hash::ZERO, Seq(2), &rows[0]).to_string());
        hashes.push(link(Hash([1; 32]), Seq(1), &rows[0]).to_string());
        let all = hashes.len();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), all);
    }

    /// What is written today must still be verified by every later version.
    #[test]
    fn the_encoding_does_not_change() {
        let row = Row { release: Some(ReleaseId(7)), ..row("ann", "started", r#"{"a":1}"#) };
        expect_test::expect!["1e5dd2fb649bca7465ae2380034ba9dbb05794ae51563efa76350ac594713612"]
            .assert_eq(&link(Hash::ZERO, Seq(1), &row).to_string());
    }
}
