//! Dates and times of day as they are written, and their place among all of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Seconds of a day of UTC.
const DAY: i64 = 86_400;
/// Days of 400 years, after which the calendar repeats itself.
const ERA_DAYS: i64 = 146_097;
/// Days from March 1 of year 0 to January 1 of 1970.
const EPOCH_DAYS: i64 = 719_468;

/// A date and a time of day, to the minute, in the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Civil {
    /// The year.
    pub year: i32,
    /// The month, from 1.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
    /// Minutes since midnight.
    pub minute: u16,
}

impl Civil {
    /// The moment, if there is such a day.
    #[must_use]
    pub fn new(year: i32, month: u8, day: u8, minute: u16) -> Option<Self> {
        let civil = Self { year, month, day, minute };
        let there = (1..=12).contains(&month) && (1..=31).contains(&day) && minute < 1_440;
        // Written again, a day that there is not is another one.
        (there && Self::of_seconds(civil.seconds()) == civil).then_some(civil)
    }

    /// Seconds since 1970 where the clocks show UTC.
    ///
    /// The count of days is the one of <https://howardhinnant.github.io/date_algorithms.html>:
    /// years that begin in March have the leap day at their end.
    pub(super) fn seconds(self) -> i64 {
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        (era * ERA_DAYS + days - EPOCH_DAYS) * DAY + i64::from(self.minute) * 60
    }

    /// The same, read backwards.
    pub(super) fn of_seconds(seconds: i64) -> Self {
        let (days, second) = (seconds.div_euclid(DAY) + EPOCH_DAYS, seconds.rem_euclid(DAY));
        let (era, days) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
        let of_era = (days - days / 1_460 + days / 36_524 - days / 146_096) / 365;
        let of_year = days - (365 * of_era + of_era / 4 - of_era / 100);
        let march = (5 * of_year + 2) / 153;
        let month = if march < 10 { march + 3 } else { march - 9 };
        let fits = "a year, a month, a day and a minute are small";
        Self {
            year: i32::try_from(of_era + era * 400 + i64::from(month <= 2)).expect(fits),
            month: u8::try_from(month).expect(fits),
            day: u8::try_from(of_year - (153 * march + 2) / 5 + 1).expect(fits),
            minute: u16::try_from(second / 60).expect(fits),
        }
    }

    /// So many minutes later on the same clock.
    pub(super) fn later(self, minutes: i64) -> Self {
        Self::of_seconds(self.seconds() + minutes * 60)
    }

    /// The day of the week.
    #[must_use]
    pub fn weekday(self) -> Weekday {
        // 1970 began on a Thursday.
        let day = (self.seconds().div_euclid(DAY) + 3).rem_euclid(7);
        Weekday::ALL[usize::try_from(day).expect("one of seven")]
    }

    /// Midnight of the Monday before.
    pub(super) fn week(self) -> Self {
        let midnight = Self { minute: 0, ..self };
        midnight.later(-1_440 * i64::from(self.weekday() as u8))
    }
}

impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, minute } = self;
        write!(f, "{year:04}-{month:02}-{day:02} {:02}:{:02}", minute / 60, minute % 60)
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Weekday {
    /// From Monday on.
    pub const ALL: [Self; 7] =
        [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// Its name in three letters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mon => "Mon",
            Self::Tue => "Tue",
            Self::Wed => "Wed",
            Self::Thu => "Thu",
            Self::Fri => "Fri",
            Self::Sat => "Sat",
            Self::Sun => "Sun",
        }
    }
}
