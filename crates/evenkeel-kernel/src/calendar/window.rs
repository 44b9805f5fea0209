//! Windows of civil time: those that come every week, and those between two dates.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Civil, Offsets, Weekday};

/// Minutes of a week.
const WEEK: u16 = 7 * 1_440;

/// One end of a window, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// `Fri 16:00`, in minutes since the beginning of Monday.
    Weekly(u16),
    /// `2026-12-20 16:00`
    Dated(Civil),
}

impl Moment {
    /// Reads `Fri 16:00` or `2026-12-20 16:00`, as the beginning of a window. Without a time the
    /// day is meant from its beginning.
    #[must_use]
    pub fn from(text: &str) -> Option<Self> {
        Self::read(text, 0)
    }

    /// The same as the end of a window. Without a time the day is meant to its end, because who
    /// names the last day of a holiday means the whole of it.
    #[must_use]
    pub fn to(text: &str) -> Option<Self> {
        Self::read(text, 1_440)
    }

    fn read(text: &str, otherwise: u16) -> Option<Self> {
        // `2026-12-20T16:00` is how machines write it; `Tue` has a T of its own.
        let split =
            text.split_once(' ').or_else(|| text.split_once('T').filter(|it| it.0.len() == 10));
        let (day, time) = match split {
            Some((day, time)) => (day, minute(time)?),
            None => (text, otherwise),
        };
        let weekday = Weekday::ALL.into_iter().find(|it| it.name().eq_ignore_ascii_case(day));
        if let Some(weekday) = weekday {
            return Some(Self::Weekly((weekday as u16 * 1_440 + time) % WEEK));
        }
        let mut parts = day.split('-');
        let mut part = |digits: usize| {
            let part = parts.next().filter(|it| it.len() == digits)?;
            part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u16>().ok()).flatten()
        };
        let (year, month, day) = (part(4)?, part(2)?, part(2)?);
        let midnight =
            Civil::new(i32::from(year), u8::try_from(month).ok()?, u8::try_from(day).ok()?, 0)?;
        parts.next().is_none().then(|| Self::Dated(midnight.later(i64::from(time))))
    }
}

/// `16:00` in minutes.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |part: &str, below: u16| {
        let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse().ok().filter(|number: &u16| digits && *number < below)
    };
    Some(number(hour, 24)? * 60 + number(minute, 60)?)
}

/// A time in which something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// Every week, from one minute of it to another, over its end if need be. Minutes count from
    /// the beginning of Monday.
    Weekly {
        /// The first minute.
        from: u16,
        /// The minute after the last.
        to: u16,
    },
    /// Once.
    Dated {
        /// The beginning.
        from: Civil,
        /// The end, which is not part of it.
        to: Civil,
    },
}

impl Window {
    /// The window between two moments; `None` if they are of two kinds, or it has no length.
    #[must_use]
    pub fn between(from: Moment, to: Moment) -> Option<Self> {
        match (from, to) {
            (Moment::Weekly(from), Moment::Weekly(to)) if from != to => {
                Some(Self::Weekly { from, to })
            }
            (Moment::Dated(from), Moment::Dated(to)) if from < to => Some(Self::Dated { from, to }),
            _ => None,
        }
    }

    /// The window that is open at `utc`: its first second, and the one after its last.
    #[must_use]
    pub fn open_at(&self, utc: i64, zone: &Offsets) -> Option<(i64, i64)> {
        let found = match *self {
            Self::Dated { from, to } => vec![(from, to)],
            Self::Weekly { from, to } => {
                let length = (to + WEEK - from) % WEEK;
                let week = zone.civil(utc).week();
                let begins = |weeks| week.later(weeks * i64::from(WEEK) + i64::from(from));
                // One that began last week may last, and a clock that is put back on a Monday may
                // begin the next one now.
                let around = (-1..=1).map(begins);
                around.map(|from| (from, from.later(i64::from(length)))).collect()
            }
        };
        let told = found.into_iter().map(|(from, to)| (zone.instants(from).0, zone.instants(to).1));
        told.into_iter().find(|(from, to)| (*from..*to).contains(&utc))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weekly = |minute: &u16| {
            let (day, minute) = (minute / 1_440, minute % 1_440);
            let day = Weekday::ALL[usize::from(day) % 7].name();
            format!("{day} {:02}:{:02}", minute / 60, minute % 60)
        };
        match self {
            Self::Weekly { from, to } => write!(f, "{} to {}", weekly(from), weekly(to)),
            Self::Dated { from, to } => write!(f, "{from} to {to}"),
        }
    }
}
