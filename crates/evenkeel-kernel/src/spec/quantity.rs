//! Quantities as people write them: `500ms`, `64MiB`, `5%`, `0.5`.
//!
//! Every reader has the pattern of what it accepts beside it, which goes into the JSON Schema; a
//! test holds the two together.

use std::time::Duration;

use crate::model::Weight;

/// What [`span`] reads.
pub(crate) const SPAN: &str = "^([0-9]+([.][0-9]+)? ?(ms|s|m|h|d) ?)+$";
/// What [`size`] reads.
pub(crate) const SIZE: &str = "^[0-9]+([.][0-9]+)? ?([kKmMgGtT][iI]?)?[bB]$";
/// What [`percent`] reads.
pub(crate) const PERCENT: &str = "^[0-9]+([.][0-9]+)? ?%$";
/// What [`cpu`] reads.
pub(crate) const CPU: &str = "^[0-9]+([.][0-9]+)?( ?[m%])?$";

/// More digits than any quantity needs, few enough that nothing overflows.
const DIGITS_MAX: usize = 18;

/// A number as it was written: `mantissa / 10^scale`.
#[derive(Clone, Copy)]
struct Decimal {
    mantissa: u128,
    scale: u32,
}

impl Decimal {
    /// Reads a number at the start of `text`; also gives the rest.
    fn prefix(text: &str) -> Option<(Self, &str)> {
        let digits =
            |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (whole, rest) = text.split_at(digits(text));
        let (part, rest) = match rest.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", rest),
        };
        let dotted = text.len() - rest.len() > whole.len();
        if whole.is_empty() || (dotted && part.is_empty()) || whole.len() + part.len() > DIGITS_MAX
        {
            return None;
        }
        let mantissa = format!("{whole}{part}").parse().ok()?;
        Some((Self { mantissa, scale: u32::try_from(part.len()).ok()? }, rest))
    }

    /// This many units of `unit`, if that is a whole number.
    fn exactly(self, unit: u128) -> Option<u64> {
        let (product, divisor) = (self.mantissa * unit, 10_u128.pow(self.scale));
        product.is_multiple_of(divisor).then(|| u64::try_from(product / divisor).ok()).flatten()
    }

    /// This many units of `unit`, rounded down.
    fn about(self, unit: u128) -> Option<u64> {
        u64::try_from(self.mantissa * unit / 10_u128.pow(self.scale)).ok()
    }
}

/// Reads `500ms`, `1.5s`, `1m30s`, `2 h`, `1d`.
#[must_use]
pub fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = Decimal::prefix(rest)?;
        let after = after.strip_prefix(' ').unwrap_or(after);
        let letters = after.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let unit = match after.get(..after.len() - letters.len())? {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.exactly(unit)?)?;
        rest = letters.strip_prefix(' ').unwrap_or(letters);
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// Reads `64MiB`, `1.5 GB`, `512 b` as bytes.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit) = Decimal::prefix(text)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let bytes = match unit.as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    number.about(bytes)
}

/// Reads `5%`, `0.5 %` as a part of the whole, at most everything.
pub(crate) fn percent(text: &str) -> Option<Weight> {
    let (number, rest) = Decimal::prefix(text)?;
    if !matches!(rest, "%" | " %") {
        return None;
    }
    let weight = Weight(u16::try_from(number.exactly(100)?).ok()?);
    (weight <= Weight::ALL).then_some(weight)
}

/// Reads `0.5`, `500m`, `50%` as thousandths of one core.
pub(crate) fn cpu(text: &str) -> Option<u32> {
    let (number, rest) = Decimal::prefix(text)?;
    let unit = match rest.strip_prefix(' ').unwrap_or(rest) {
        "" if rest.is_empty() => 1_000,
        "m" => 1,
        "%" => 10,
        _ => return None,
    };
    u32::try_from(number.exactly(unit)?).ok()
}

/// Reads `0.5`, `-3`, `1e-3` in millionths, if that is a whole number.
pub(crate) fn millionths(text: &str) -> Option<i64> {
    let (digits, power) = match text.split_once(['e', 'E']) {
        Some((digits, power)) => (digits, power.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let (number, "") = Decimal::prefix(digits)? else { return None };
    let unit = 10_u128.checked_pow(u32::try_from(power.checked_add(6)?).ok()?)?;
    number.mantissa.checked_mul(unit)?;
    let exact = i64::try_from(number.exactly(unit)?).ok()?;
    Some(if negative { -exact } else { exact })
}

/// Writes bytes the way [`size`] reads them, in the largest unit that is exact.
pub(crate) fn size_text(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads each text with every reader, and writes what each made of it.
    fn check(texts: &[&str], expected: &[&str]) {
        let read: Vec<String> = texts
            .iter()
            .map(|text| {
                let span = span(text).map(|it| format!("{}ms", it.as_millis()));
                let size = size(text).map(|it| format!("{it} bytes"));
                let percent = percent(text).map(|it| format!("{} parts", it.0));
                let cpu = cpu(text).map(|it| format!("{it} millicores"));
                [span, size, percent, cpu].into_iter().flatten().collect::<Vec<_>>().join(", ")
            })
            .collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn quantities_are_read_as_people_write_them() {
        check(
            &["500ms", "2m", "1m30s", "1h 5m", "1.5s", "2 h", "1d", "0s"],
            &[
                "500ms",
                "120000ms, 2 millicores",
                "90000ms",
                "3900000ms",
                "1500ms",
                "7200000ms",
                "86400000ms",
                "0ms",
            ],
        );
        check(
            &["64MiB", "1.5 GB", "512B", "1kb", "1KiB", "1gib", "1 TB"],
            &[
                "67108864 bytes",
                "1500000000 bytes",
                "512 bytes",
                "1000 bytes",
                "1024 bytes",
                "1073741824 bytes",
                "1000000000000 bytes",
            ],
        );
        check(
            &["5%", "0.01 %", "100%", "0.5", "2", "500m", "50%"],
            &[
                "500 parts, 50 millicores",
                "1 parts",
                "10000 parts, 1000 millicores",
                "500 millicores",
                "2000 millicores",
                "30000000ms, 500 millicores",
                "5000 parts, 500 millicores",
            ],
        );
    }

    #[test]
    fn numbers_are_read_exactly_or_not_at_all() {
        let texts = ["0.5", "-3", "+2", "1e-3", "1.5E3", "0", "0.0000001", "nan", "inf", "1e40"];
        let read = texts.map(millionths);
        let small = [Some(500_000), Some(-3_000_000), Some(2_000_000), Some(1_000)];
        assert_eq!(read[..4], small);
        assert_eq!(read[4..], [Some(1_500_000_000), Some(0), None, None, None, None]);
    }

    #[test]
    fn what_is_no_quantity_is_not_guessed() {
        let texts = [
            "",
            " ",
            "s",
            "5 minutes",
            "-5s",
            "5S",
            "1.s",
            ".5s",
            "1e3s",
            "0.5ms",
            "64M",
            "MiB",
            "1.2.3MB",
            "0.001%",
            "%",
            "５s",
            "1  h",
            "99999999999999999999d",
            "5s\n",
        ];
        check(&texts, &[""; 19]);
        assert_eq!(percent("101%"), None);
    }

    proptest! {
        #[test]
        fn the_patterns_accept_what_the_readers_accept(text in "[0-9]{0,3}[.]?[0-9]{0,2} ?[a-zA-Z%]{0,3} ?[0-9]{0,2}[smh]?") {
            let matches = |pattern: &str| regex_lite::Regex::new(pattern).expect("a pattern").is_match(&text);
            if span(&text).is_some() { prop_assert!(matches(SPAN)); }
            if percent(&text).is_some() { prop_assert!(matches(PERCENT)); }
            if cpu(&text).is_some() { prop_assert!(matches(CPU)); }
            prop_assert_eq!(size(&text).is_some(), matches(SIZE));
        }

        #[test]
        fn what_is_written_is_read_back(bytes in any::<u64>(), weight in 0_u16..=10_000) {
            // Beyond the digits that are read, nobody has memory.
            let bytes = bytes >> 8;
            prop_assert_eq!(size(&size_text(bytes)), Some(bytes));
            prop_assert_eq!(percent(&Weight(weight).to_string()), Some(Weight(weight)));
        }
    }
}
