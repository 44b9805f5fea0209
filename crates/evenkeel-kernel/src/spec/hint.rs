//! Hints: what a person most likely meant by a value that cannot be read.

use super::schema::{nearest, one_of};
use crate::calendar::{Moment, Weekday};
use crate::model::ServiceName;

pub(crate) fn full_address(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    match host {
        "" => {
            Some(format!("write `\"127.0.0.1:{port}\"`, or `\"0.0.0.0:{port}\"` for every network"))
        }
        "localhost" => Some(format!("write `\"127.0.0.1:{port}\"`")),
        "*" => Some(format!("write `\"0.0.0.0:{port}\"`")),
        _ => None,
    }
}

pub(crate) fn unit(text: &str) -> Option<String> {
    let number = text.trim();
    if number.parse::<u64>().is_ok() {
        return Some(format!("write `\"{number}s\"` for seconds"));
    }
    let spoken =
        [("millisecond", "ms"), ("second", "s"), ("sec", "s"), ("minute", "m"), ("min", "m")];
    let spoken = spoken.into_iter().chain([("hour", "h"), ("hr", "h"), ("day", "d")]);
    let (digits, word) = number.split_at(number.find(|c: char| !c.is_ascii_digit())?);
    let word = word.trim().trim_end_matches('s').to_lowercase();
    let unit = spoken.filter(|(name, _)| word == *name).map(|(_, unit)| unit).next();
    (!digits.is_empty()).then(|| match unit {
        Some(unit) => format!("write `\"{digits}{unit}\"`"),
        None => "the units are `ms`, `s`, `m`, `h` and `d`".to_owned(),
    })
}

pub(crate) fn moment(text: &str) -> Option<String> {
    let (day, time) = text.split_once(' ').unwrap_or((text, ""));
    // `Friday 8:00` has all that is needed, only longer and shorter than it is written here.
    let start = day.get(..3)?;
    let day = Weekday::ALL.into_iter().find(|it| it.name().eq_ignore_ascii_case(start))?.name();
    let time = if time.len() == 4 { format!("0{time}") } else { time.to_owned() };
    let better = format!("{day} {time}").trim().to_owned();
    Moment::from(&better).map(|_| format!("write `\"{better}\"`"))
}

pub(crate) fn binary(text: &str) -> Option<String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = text.get(number.len()..)?.trim().to_ascii_uppercase();
    number.parse::<u64>().ok()?;
    match unit.as_str() {
        "" => Some(format!("write `\"{number}B\"` for bytes, `\"{number}MiB\"` for mebibytes")),
        "K" | "M" | "G" | "T" => {
            Some(format!("write `\"{number}{unit}iB\"`, or `\"{number}{unit}B\"`"))
        }
        _ => None,
    }
}

pub(crate) fn percent_sign(text: &str) -> Option<String> {
    text.trim().parse::<u32>().ok().map(|number| format!("write `\"{number}%\"`"))
}

/// The name that a text could have been, if only its spelling is wrong.
pub(crate) fn as_name(text: &str) -> Option<String> {
    let name: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    let name = name.trim_matches('-').trim_start_matches(|c: char| !c.is_ascii_lowercase());
    name.parse::<ServiceName>().is_ok().then(|| name.to_owned())
}

/// The beginning of a text, short enough for a message and long enough for every name.
pub(crate) fn brief(text: &str) -> String {
    const SHOWN: usize = 64;
    let clean = |c: char| if c.is_control() { '·' } else { c };
    let start: String = text.chars().take(SHOWN).map(clean).collect();
    if text.chars().nth(SHOWN).is_some() { format!("{start}…") } else { start }
}

/// The nearest of some names, as a hint.
pub(crate) fn did_you_mean<'n>(
    word: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Option<String> {
    nearest(word, known).map(|name| format!("did you mean `{name}`?"))
}

/// All of some names, as what was expected.
pub(crate) fn one_among(names: &[&str]) -> String {
    // A stack of a thousand services is not listed in a message.
    let short = names.iter().all(|name| name.len() <= 63);
    if names.len() <= 12 && short {
        one_of(names)
    } else {
        format!("one of {} services", names.len())
    }
}
