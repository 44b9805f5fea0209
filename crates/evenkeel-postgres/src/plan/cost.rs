//! What it will cost to fill rows, as far as that can be told before: from the size of the table and
//! the types of the new columns. The numbers are those of docs/measured.md.

use crate::kind::Kind;
use crate::shape::Size;

/// What a backfill comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// By how much the table grows, in per cent.
    pub(super) growth: u64,
    /// Bytes that are written to the WAL.
    pub(super) wal: u64,
}

/// Smaller tables are not worth a word.
const LARGE: u64 = 16_000_000;
/// Bytes that a row has besides its columns: its header, and the pointer to it.
const HEADER: u64 = 28;
/// Bytes that a row gets longer besides its new columns: a longer header, what they are aligned to,
/// and a second pointer.
const BESIDES: u64 = 12;
/// Bytes of WAL for each row besides what is in it: that it is locked, changed and cleaned up after.
const RECORDS: u64 = 130;
/// Bytes of WAL for a row's entry into an index.
const ENTRY: u64 = 70;
/// The share of rows, in per cent, that leave their pages besides those that have no room.
const MORE_LEAVE: u64 = 4;

/// What it costs to fill new columns of a table that has these columns and so many indexes; nothing
/// where that is little.
pub(super) fn cost(size: Size, columns: &[&Kind], new: &[&Kind], indexes: usize) -> Option<Cost> {
    if size.bytes < LARGE || size.rows == 0 {
        return None;
    }
    let row = (size.bytes / size.rows).max(1);
    let fixed: u64 = columns.iter().filter_map(|it| width(it)).sum();
    let varying = columns.iter().filter(|it| width(it).is_none()).count() as u64;
    // As wide as those that are there.
    let other = row.saturating_sub(fixed + HEADER) / varying.max(1);
    let added = new.iter().map(|it| width(it).unwrap_or(other)).sum::<u64>() + BESIDES;
    let leave = added * 100 / (row + added) + MORE_LEAVE;
    let entries = leave * indexes as u64 * ENTRY / 100;
    // Every page is written down as a whole once, and every row as it is then.
    let wal = size.rows * (row + row + added + RECORDS + entries);
    Some(Cost { growth: (added * 100).div_ceil(row), wal })
}

/// The bytes of a value, where all have as many.
fn width(kind: &Kind) -> Option<u64> {
    Some(match kind.as_str() {
        "boolean" => 1,
        "smallint" => 2,
        "integer" | "real" | "date" => 4,
        "bigint" | "double precision" => 8,
        "uuid" => 16,
        it if it.ends_with("]") => return None,
        it if it.starts_with("timestamp") || it.starts_with("time") => 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `cargo xtask bench schema`, and what was measured with it.
    #[test]
    fn it_is_about_what_was_measured() {
        let kinds = |text: &str| text.split(' ').map(Kind::parse).collect::<Vec<_>>();
        let old = kinds("integer integer text integer text text text timestamptz");
        let old: Vec<&Kind> = old.iter().collect();
        let size = Size { rows: 1_000_000, bytes: 113_000_000 };
        let about = |new: &str| cost(size, &old, &kinds(new).iter().collect::<Vec<_>>(), 3);
        assert_eq!(about("bigint"), Some(Cost { growth: 18, wal: 415_000_000 }));
        let many = about("bigint bigint jsonb varchar");
        assert_eq!(many, Some(Cost { growth: 54, wal: 495_000_000 }));
        let small = Size { rows: 100_000, bytes: 11_300_000 };
        assert_eq!(cost(small, &old, &[&Kind::parse("bigint")], 3), None);
    }
}
