//! From when and until when a certificate is good: the one thing that has to be read out of it.
//! Whether it is right otherwise is for those who verify it.

use std::time::Duration;

/// The tags that lie on the way (X.690).
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The time of a certificate, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: i64,
    pub(crate) until: i64,
}

impl Validity {
    /// Reads it out of a certificate (RFC 5280, 4.1).
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let (certificate, _) = open(der, SEQUENCE)?;
        let (mut rest, _) = open(certificate, SEQUENCE)?;
        if let Some((_, after)) = open(rest, VERSION) {
            rest = after;
        }
        // The serial number, how it is signed, by whom.
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            (_, rest) = open(rest, tag)?;
        }
        let (times, _) = open(rest, SEQUENCE)?;
        let (from, rest) = time(times)?;
        let (until, _) = time(rest)?;
        Some(Self { from, until })
    }

    /// When a third of its time is left.
    pub(crate) fn due(self) -> i64 {
        self.until.saturating_sub(self.until.saturating_sub(self.from).max(0) / 3)
    }
}

/// Seconds since 1970 by the wall clock.
pub(crate) fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The content of an element with this tag that `bytes` begin with, and what follows it.
fn open(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first != tag {
        return None;
    }
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        // More than four bytes of length are more than a certificate has.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// The time that `bytes` begin with, and what follows it.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    if let Some((text, rest)) = open(bytes, UTC_TIME) {
        let (year, others) = text.split_at_checked(2)?;
        let year = number(year)?;
        // RFC 5280, 4.1.2.5.1.
        let year = if year >= 50 { 1900 + year } else { 2000 + year };
        return Some((seconds(year, others)?, rest));
    }
    let (text, rest) = open(bytes, GENERALIZED_TIME)?;
    let (year, others) = text.split_at_checked(4)?;
    Some((seconds(number(year)?, others)?, rest))
}

/// `MMDDHHMMSSZ` of a year.
fn seconds(year: i64, rest: &[u8]) -> Option<i64> {
    let digits = rest.strip_suffix(b"Z")?;
    let mut parts = [0; 5];
    if digits.len() != 2 * parts.len() {
        return None;
    }
    for (part, digits) in parts.iter_mut().zip(digits.chunks(2)) {
        *part = number(digits)?;
    }
    let [month, day, hour, minute, second] = parts;
    let right = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    right.then(|| ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(sum * 10 + i64::from(digit))
    })
}

/// Days from 1970 to a day of the Gregorian calendar (Hinnant's `days_from_civil`): years begin in
/// March, so that the day of a leap year comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> (Vec<u8>, Validity) {
        let mut params = CertificateParams::new(vec!["shop.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        let expected = Validity {
            from: params.not_before.unix_timestamp(),
            until: params.not_after.unix_timestamp(),
        };
        let it = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        (it.der().to_vec(), expected)
    }

    #[test]
    fn a_third_of_its_time_is_left_when_it_is_due() {
        assert_eq!(Validity { from: 1_000, until: 1_300 }.due(), 1_200);
        assert_eq!(Validity { from: 1_300, until: 1_000 }.due(), 1_000);
    }

    #[test]
    fn times_of_both_forms_are_read() {
        let at = |tag: u8, text: &str| {
            let mut bytes = vec![tag, u8::try_from(text.len()).unwrap()];
            bytes.extend(text.bytes());
            time(&bytes).map(|(at, _)| at)
        };
        assert_eq!(at(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(at(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(at(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(at(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for wrong in ["", "7001010000Z", "701301000000Z", "700100000000Z", "70010100000xZ", "Z"] {
            assert_eq!(at(UTC_TIME, wrong), None, "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_written_is_read(
            from in (1951..2200i32, 1..=12u8, 1..=28u8),
            until in (1951..2200i32, 1..=12u8, 1..=28u8),
        ) {
            let (der, expected) = certificate(from, until);
            prop_assert_eq!(Validity::read(&der), Some(expected));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _read = Validity::read(&bytes);
        }

        #[test]
        fn a_broken_certificate_is_none_or_read(at in 0..400usize, to: u8, length in 0..400usize) {
            let (mut der, _) = certificate((2026, 1, 1), (2026, 4, 1));
            if let Some(byte) = der.get_mut(at) {
                *byte = to;
            }
            der.truncate(length);
            let _read = Validity::read(&der);
        }
    }
}
