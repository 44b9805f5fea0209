//! The arithmetic of the calendar, with the rules of two real zones written down.

use proptest::prelude::*;

use super::*;

/// Berlin around 2026: an hour ahead of UTC, two in summer. The clocks are put forward on March 29
/// at 01:00 UTC (02:00 is 03:00), and back on October 25 at 01:00 UTC (03:00 is 02:00).
fn berlin() -> Offsets {
    let forward = Civil::new(2026, 3, 29, 60).unwrap().seconds();
    let back = Civil::new(2026, 10, 25, 60).unwrap().seconds();
    Offsets { first: 3_600, changes: vec![(forward, 7_200), (back, 3_600)] }
}

fn utc(text: &str) -> i64 {
    match Moment::from(text) {
        Some(Moment::Dated(civil)) => civil.seconds(),
        other => panic!("{text} is {other:?}"),
    }
}

fn window(from: &str, to: &str) -> Window {
    Window::between(Moment::from(from).unwrap(), Moment::to(to).unwrap()).unwrap()
}

/// The window that is open at a moment of UTC, told in UTC.
fn open(window: &Window, zone: &Offsets, at: &str) -> String {
    match window.open_at(utc(at), zone) {
        Some((from, to)) => {
            format!("{} to {}", Civil::of_seconds(from), Civil::of_seconds(to))
        }
        None => "closed".to_owned(),
    }
}

#[test]
fn days_are_counted_as_the_calendar_has_them() {
    assert_eq!(Civil::new(1970, 1, 1, 0).unwrap().seconds(), 0);
    assert_eq!(Civil::new(2026, 11, 25, 0).unwrap().seconds(), 1_795_564_800);
    assert_eq!(Civil::new(2026, 11, 25, 5).unwrap().weekday(), Weekday::Wed);
    assert_eq!(Civil::new(1970, 1, 1, 0).unwrap().weekday(), Weekday::Thu);
    // Leap days come every four years, but in full centuries only every fourth.
    for (year, leaps) in [(2024, true), (2026, false), (2000, true), (2100, false)] {
        assert_eq!(Civil::new(year, 2, 29, 0).is_some(), leaps, "{year}");
    }
    for (month, day) in [(0, 1), (13, 1), (4, 31), (2, 30), (1, 0)] {
        assert_eq!(Civil::new(2028, month, day, 0), None);
    }
}

#[test]
fn moments_are_read_as_people_write_them() {
    let read = |text| (Moment::from(text), Moment::to(text));
    let (monday, friday) = (Moment::Weekly(8 * 60), Moment::Weekly(4 * 1_440 + 16 * 60));
    assert_eq!(read("Mon 08:00"), (Some(monday), Some(monday)));
    assert_eq!(read("fri 16:00"), (Some(friday), Some(friday)));
    // A day without a time is meant whole; Sunday ends where Monday begins.
    assert_eq!(read("Sun"), (Some(Moment::Weekly(6 * 1_440)), Some(Moment::Weekly(0))));
    let dated = |day, minute| Some(Moment::Dated(Civil::new(2026, 12, day, minute).unwrap()));
    assert_eq!(read("2026-12-20"), (dated(20, 0), dated(21, 0)));
    assert_eq!(read("2026-12-20 16:05"), (dated(20, 965), dated(20, 965)));
    assert_eq!(read("2026-12-20T16:05"), (dated(20, 965), dated(20, 965)));
    for bad in [
        "",
        "Fr",
        "Friday",
        "Fri 24:00",
        "Fri 8:00",
        "Fri 08:60",
        "Fri  08:00",
        "16:00",
        "2026-2-3",
        "2026-02-29",
        "2026-12-20 16",
        "26-12-20",
        "2026-12-20-1",
        "+026-12-20",
        "Fri 08:00 ",
        "Tue T",
    ] {
        assert_eq!(read(bad), (None, None), "{bad}");
    }
}

#[test]
fn a_week_end_is_frozen_over_the_end_of_the_week() {
    let weekend = window("Fri 16:00", "Mon 08:00");
    let zone = Offsets::fixed(0);
    for (at, expected) in [
        ("2026-11-27 15:59", "closed"),
        ("2026-11-27 16:00", "2026-11-27 16:00 to 2026-11-30 08:00"),
        ("2026-11-29 12:00", "2026-11-27 16:00 to 2026-11-30 08:00"),
        ("2026-11-30 00:00", "2026-11-27 16:00 to 2026-11-30 08:00"),
        ("2026-11-30 07:59", "2026-11-27 16:00 to 2026-11-30 08:00"),
        ("2026-11-30 08:00", "closed"),
        // Over the new year, and over a leap day.
        ("2027-01-01 23:00", "2027-01-01 16:00 to 2027-01-04 08:00"),
        ("2028-02-28 07:00", "2028-02-25 16:00 to 2028-02-28 08:00"),
    ] {
        assert_eq!(open(&weekend, &zone, at), expected, "{at}");
    }
    // Within one week, and days alone.
    let night = window("Tue 22:00", "Wed 06:00");
    assert_eq!(open(&night, &zone, "2026-11-25 05:00"), "2026-11-24 22:00 to 2026-11-25 06:00");
    let sunday = window("Sun", "Sun");
    assert_eq!(open(&sunday, &zone, "2026-11-29 23:59"), "2026-11-29 00:00 to 2026-11-30 00:00");
    assert_eq!(open(&sunday, &zone, "2026-11-30 00:00"), "closed");
}

#[test]
fn dates_are_meant_to_the_end_of_the_last_day() {
    let holidays = window("2026-12-20", "2027-01-04");
    let zone = Offsets::fixed(-5 * 3_600);
    for (at, expected) in [
        ("2026-12-20 04:59", "closed"),
        ("2026-12-20 05:00", "2026-12-20 05:00 to 2027-01-05 05:00"),
        ("2026-12-31 23:59", "2026-12-20 05:00 to 2027-01-05 05:00"),
        ("2027-01-05 04:59", "2026-12-20 05:00 to 2027-01-05 05:00"),
        ("2027-01-05 05:00", "closed"),
    ] {
        assert_eq!(open(&holidays, &zone, at), expected, "{at}");
    }
    let leap = window("2028-02-28", "2028-02-29");
    assert_eq!(open(&leap, &zone, "2028-02-29 12:00"), "2028-02-28 05:00 to 2028-03-01 05:00");
}

#[test]
fn the_zone_says_when_a_week_end_begins_and_ends() {
    // The clocks are put forward on its Sunday, so it is an hour shorter.
    let weekend = window("Fri 16:00", "Mon 08:00");
    let spring = "2026-03-27 15:00 to 2026-03-30 06:00";
    assert_eq!(open(&weekend, &berlin(), "2026-03-27 14:59"), "closed");
    assert_eq!(open(&weekend, &berlin(), "2026-03-27 15:00"), spring);
    assert_eq!(open(&weekend, &berlin(), "2026-03-30 05:59"), spring);
    assert_eq!(open(&weekend, &berlin(), "2026-03-30 06:00"), "closed");
    // And back, so it is longer.
    let autumn = "2026-10-23 14:00 to 2026-10-26 07:00";
    assert_eq!(open(&weekend, &berlin(), "2026-10-26 06:59"), autumn);
    assert_eq!(open(&weekend, &berlin(), "2026-10-26 07:00"), "closed");
}

#[test]
fn what_begins_or_ends_in_a_time_that_is_left_out_does_so_at_the_jump() {
    // 02:30 is not on March 29.
    let ends = window("Sun 00:00", "Sun 02:30");
    assert_eq!(open(&ends, &berlin(), "2026-03-29 00:59"), "2026-03-28 23:00 to 2026-03-29 01:00");
    assert_eq!(open(&ends, &berlin(), "2026-03-29 01:00"), "closed");
    let begins = window("Sun 02:30", "Sun 04:00");
    assert_eq!(open(&begins, &berlin(), "2026-03-29 00:59"), "closed");
    assert_eq!(
        open(&begins, &berlin(), "2026-03-29 01:00"),
        "2026-03-29 01:00 to 2026-03-29 02:00"
    );
}

#[test]
fn what_begins_or_ends_in_an_hour_that_comes_twice_is_as_long_as_it_can_be() {
    // 02:30 is at 00:30 and at 01:30 UTC on October 25. It does not open a second time in between.
    let ends = window("Sun 00:00", "Sun 02:30");
    let whole = "2026-10-24 22:00 to 2026-10-25 01:30";
    for at in ["2026-10-25 00:15", "2026-10-25 00:45", "2026-10-25 01:29"] {
        assert_eq!(open(&ends, &berlin(), at), whole, "{at}");
    }
    assert_eq!(open(&ends, &berlin(), "2026-10-25 01:30"), "closed");
    let begins = window("Sun 02:30", "Sun 04:00");
    assert_eq!(open(&begins, &berlin(), "2026-10-25 00:29"), "closed");
    assert_eq!(
        open(&begins, &berlin(), "2026-10-25 00:45"),
        "2026-10-25 00:30 to 2026-10-25 03:00"
    );
}

#[test]
fn a_window_without_length_is_none() {
    let between = |from, to| Window::between(Moment::from(from).unwrap(), Moment::to(to).unwrap());
    assert_eq!(between("Fri 16:00", "Fri 16:00"), None);
    assert_eq!(between("2026-12-20 08:00", "2026-12-20 08:00"), None);
    assert_eq!(between("2027-01-04", "2026-12-20"), None);
    assert_eq!(between("Fri 16:00", "2026-12-20"), None);
    assert_eq!(window("Fri 16:00", "Mon 08:00").to_string(), "Fri 16:00 to Mon 08:00");
}

proptest! {
    #[test]
    fn every_second_has_its_date(seconds in -100_000_000_000_i64..100_000_000_000) {
        let civil = Civil::of_seconds(seconds);
        prop_assert_eq!(civil.seconds(), seconds - seconds.rem_euclid(60));
        prop_assert_eq!(Civil::new(civil.year, civil.month, civil.day, civil.minute), Some(civil));
        let next = civil.later(1);
        prop_assert!(next > civil);
    }
}

proptest! {
    // Each case looks at every ten minutes of a week.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_weekly_window_is_open_as_often_as_it_is_long(from in 0_u16..1_008, to in 0_u16..1_008) {
        prop_assume!(from != to);
        let (from, to) = (from * 10, to * 10);
        let window = Window::Weekly { from, to };
        let length = i64::from((to + 10_080 - from) % 10_080) * 60;
        let week = utc("2026-11-23");
        let open = (0..1_008).filter(|ten| {
            let at = week + ten * 600;
            let found = window.open_at(at, &Offsets::fixed(0));
            assert!(found.is_none_or(|(from, to)| to - from == length));
            found.is_some()
        });
        prop_assert_eq!(i64::try_from(open.count()).unwrap() * 600, length);
    }
}
