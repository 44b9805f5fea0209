//! The clocks of the world: what the time zones that somebody names make of now.
//!
//! The rules come from the system's time zone database, and where there is none from the one that
//! is built in. What follows from them is the kernel's to say.

use std::collections::BTreeMap;

use evenkeel_kernel::calendar::{Calendar, OFFSETS_BEFORE, OFFSETS_MAX, Offsets};
use evenkeel_kernel::model::Stack;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What the clocks say now in `zones`.
pub(crate) fn now<'z>(zones: impl IntoIterator<Item = &'z str>) -> Calendar {
    at(Timestamp::now(), zones)
}

fn at<'z>(now: Timestamp, zones: impl IntoIterator<Item = &'z str>) -> Calendar {
    let told = |name: &str| {
        let zone = TimeZone::get(name).map_err(|_unknown| unknown(name))?;
        Ok(offsets(&zone, now))
    };
    let zones: BTreeMap<_, _> =
        zones.into_iter().map(|name| (name.to_owned(), told(name))).collect();
    Calendar { utc: now.as_second(), zones }
}

fn unknown(name: &str) -> String {
    format!("there is no time zone {name}")
}

/// The offsets of a zone around now, as far as a window can reach.
fn offsets(zone: &TimeZone, now: Timestamp) -> Offsets {
    let before = now.checked_sub(OFFSETS_BEFORE).unwrap_or(Timestamp::MIN);
    let changes = zone.following(before).take(OFFSETS_MAX);
    Offsets {
        first: zone.to_offset(before).seconds(),
        changes: changes.map(|it| (it.timestamp().as_second(), it.offset().seconds())).collect(),
    }
}

/// The zones of a stack that nobody knows, and what to say of them.
pub(crate) fn unknown_zones(stack: &Stack) -> Vec<(&str, String)> {
    let named = stack.zones().filter(|name| TimeZone::get(name).is_err());
    named.map(|name| (name, unknown(name))).collect()
}

#[cfg(test)]
mod tests {
    use evenkeel_kernel::calendar::{Moment, Window};
    use jiff::civil::DateTime;

    use super::*;

    const ZONES: [&str; 6] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Pacific/Apia",
    ];

    fn stamp(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_kernel_reads_the_clocks_as_the_database_does() {
        let begin = stamp("2026-01-01T00:07:00Z");
        for hour in (0..3 * 8_766).step_by(7) {
            let now = begin + jiff::SignedDuration::from_hours(hour);
            let calendar = at(now, ZONES);
            for name in ZONES {
                let here = calendar.zones[name].as_ref().unwrap().civil(calendar.utc);
                let there = TimeZone::get(name).unwrap().to_datetime(now);
                let minute = i32::from(there.hour()) * 60 + i32::from(there.minute());
                assert_eq!(
                    (here.year, here.month, here.day, i32::from(here.minute)),
                    (
                        i32::from(there.year()),
                        u8::try_from(there.month()).unwrap(),
                        u8::try_from(there.day()).unwrap(),
                        minute
                    ),
                    "{name} at {now}"
                );
            }
        }
    }

    /// The window that is open in a zone, in UTC.
    fn open(zone: &str, from: &str, to: &str, now: &str) -> Option<(String, String)> {
        let window = Window::between(Moment::from(from).unwrap(), Moment::to(to).unwrap()).unwrap();
        let calendar = at(stamp(now), [zone]);
        let (from, to) = window.open_at(calendar.utc, calendar.zones[zone].as_ref().unwrap())?;
        let text = |second| Timestamp::from_second(second).unwrap().to_string();
        Some((text(from), text(to)))
    }

    #[test]
    fn windows_follow_the_clocks_of_their_zone() {
        let pair = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
        // The week end in which Berlin's clocks are put forward is an hour shorter.
        assert_eq!(
            open("Europe/Berlin", "Fri 16:00", "Mon 08:00", "2026-03-29T12:00:00Z"),
            pair("2026-03-27T15:00:00Z", "2026-03-30T06:00:00Z")
        );
        // An hour that comes twice is frozen both times, and over once.
        assert_eq!(
            open("Europe/Berlin", "Sun 00:00", "Sun 02:30", "2026-10-25T00:45:00Z"),
            pair("2026-10-24T22:00:00Z", "2026-10-25T01:30:00Z")
        );
        // Lord Howe moves its clocks by half an hour.
        assert_eq!(
            open("Australia/Lord_Howe", "2026-10-03", "2026-10-04", "2026-10-04T00:00:00Z"),
            pair("2026-10-02T13:30:00Z", "2026-10-04T13:00:00Z")
        );
        // Over the new year, with changes of the clocks in between.
        assert_eq!(
            open("America/New_York", "2026-10-01", "2027-04-01 09:00", "2026-12-31T23:59:59Z"),
            pair("2026-10-01T04:00:00Z", "2027-04-01T13:00:00Z")
        );
        assert_eq!(
            open("Asia/Kathmandu", "2028-02-29", "2028-02-29", "2028-02-29T12:00:00Z"),
            pair("2028-02-28T18:15:00Z", "2028-02-29T18:15:00Z")
        );
    }

    #[test]
    fn the_ends_of_a_window_are_those_that_the_database_knows() {
        let begins: DateTime = "2026-12-20T16:00:00".parse().unwrap();
        for name in ZONES {
            let zone = TimeZone::get(name).unwrap();
            let expected = zone.to_timestamp(begins).unwrap();
            let now = expected + jiff::SignedDuration::from_hours(1);
            let found = open(name, "2026-12-20 16:00", "2027-01-04", &now.to_string());
            assert_eq!(found.map(|it| it.0), Some(expected.to_string()), "{name}");
        }
    }

    #[test]
    fn a_zone_that_is_not_there_is_told() {
        let calendar = at(stamp("2026-11-25T00:00:00Z"), ["Europe/Berlinn"]);
        let told = &calendar.zones["Europe/Berlinn"];
        assert_eq!(told, &Err("there is no time zone Europe/Berlinn".to_owned()));
    }
}
