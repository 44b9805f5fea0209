//! Single values: a TOML value and the kind it should be, to a typed value or what is wrong.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a value of no kind that is asked for is one case, however many kinds there are"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeString, DeTable, DeValue};

use super::check::{Span, Value, last};
use super::freeze::is_zone;
use super::hint::{as_name, binary, brief, full_address, moment, percent_sign, unit};
use super::problem::{Mistake, Mistakes};
use super::schema::{Kind, nearest, span_text};
use super::word::{host, is_reserved, is_variable, url, url_path};
use super::{command, quantity};
use crate::calendar::Moment;
use crate::model::traffic::is_token;
use crate::model::{Number, Share, StackName, Weight};

/// The longest text a process can be given in one piece (Linux: 32 pages).
pub(crate) const TEXT_MAX: usize = 128 * 1024 - 1;
/// The most elements of a list of texts; a command line of more is a mistake.
const TEXTS_MAX: usize = 1_000;
/// The most environment variables of one service.
pub(crate) const VARIABLES_MAX: usize = 1_000;

/// What is wrong with a value, besides that it is not what was expected.
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Wrong {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// Reads a value that is not a table of the description.
pub(crate) fn read(
    kind: Kind,
    value: &Spanned<DeValue<'_>>,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<Value> {
    let span = value.span();
    let read = match (kind, value.get_ref()) {
        (Kind::Variables | Kind::Headers, DeValue::Table(table)) => {
            return variables(kind, table, &span, path, mistakes);
        }
        (Kind::Command | Kind::Texts | Kind::Services, DeValue::Array(list)) => {
            return texts(kind, list, &span, path, mistakes).map(Value::Texts);
        }
        (Kind::Addresses, DeValue::Array(list)) => {
            let texts = texts(kind, list, &span, path, mistakes)?;
            return addresses(&texts, path, mistakes);
        }
        (Kind::Address | Kind::Addresses, DeValue::String(text)) => {
            return addresses(&[(text.clone().into_owned(), span)], path, mistakes);
        }
        (_, DeValue::String(text)) => from_text(kind, text, &span, path),
        (_, DeValue::Boolean(flag)) => from_flag(kind, *flag, path),
        (_, DeValue::Integer(number)) => from_integer(kind, number, path),
        (Kind::Cpu, DeValue::Float(number)) => from_float(number.as_str()),
        (Kind::Number, DeValue::Float(number)) => decimal(number.as_str()),
        (Kind::Moment, DeValue::Datetime(date)) => {
            let hint = format!("write `{} = \"{}\"`", last(path), date);
            Err(Wrong::new(wrong_type(path, value.get_ref())).hint(hint))
        }
        (_, other) => Err(Wrong::new(wrong_type(path, other))),
    };
    match read {
        Ok(value) => Some(value),
        Err(wrong) => {
            let mistake = Mistake::at(&span, path, wrong.message);
            mistakes.add(mistake.expected(kind.expected()).hint(wrong.hint));
            None
        }
    }
}

fn from_text(kind: Kind, text: &str, span: &Span, path: &str) -> Result<Value, Wrong> {
    let key = last(path);
    let no = |what: &str| Wrong::new(format!("`{}` is not {what}", brief(text)));
    if text.contains('\0') {
        return Err(Wrong::new(format!("`{key}` contains a NUL character")));
    }
    if text.len() > TEXT_MAX {
        return Err(Wrong::new(format!("`{key}` is longer than {TEXT_MAX} bytes")));
    }
    let value = match kind {
        Kind::Name => match text.parse::<StackName>() {
            Ok(_) => Value::Text(text.to_owned()),
            Err(_) => {
                let hint = as_name(text).map(|name| format!("write `\"{name}\"`"));
                return Err(no("a name").hint(hint));
            }
        },
        Kind::Text | Kind::YesOrText if text.is_empty() => {
            return Err(Wrong::new(format!("`{key}` is empty")));
        }
        Kind::Flag | Kind::Yes | Kind::YesOrText | Kind::FlagOr(_)
            if matches!(text, "true" | "false") =>
        {
            let hint = format!("write `{key} = {text}`, without quotes");
            return Err(Wrong::new(format!("`{key}` is a text")).hint(hint));
        }
        Kind::Text | Kind::YesOrText => Value::Text(text.to_owned()),
        Kind::Span { min, max } => {
            let span = quantity::span(text).ok_or_else(|| no("a duration").hint(unit(text)))?;
            let range = span_text(min)..=span_text(max);
            let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            if !(min..=max).contains(&ms) {
                let side = if ms < min { "shorter than" } else { "longer than" };
                let bound = if ms < min { range.start() } else { range.end() };
                return Err(Wrong::new(format!("`{key}` is {side} \"{bound}\"")));
            }
            Value::Span(span)
        }
        Kind::Size { min } => {
            let bytes = quantity::size(text).ok_or_else(|| no("a size").hint(binary(text)))?;
            Value::Count(at_least(bytes, min, key)?)
        }
        Kind::Cpu => {
            Value::Cpu(cores(quantity::cpu(text).ok_or_else(|| no("an amount of cores"))?)?)
        }
        Kind::Weight => {
            let weight = quantity::percent(text)
                .ok_or_else(|| no("a part of the whole").hint(percent_sign(text)))?;
            if weight == Weight::NONE || weight == Weight::ALL {
                let hint = (weight == Weight::ALL)
                    .then(|| "leave it out: all traffic comes after the last step".to_owned());
                return Err(no("a step").hint(hint));
            }
            Value::Weight(weight)
        }
        Kind::Part => Value::Weight(
            quantity::percent(text).ok_or_else(|| no("a part").hint(percent_sign(text)))?,
        ),
        Kind::Share => Value::Share(Share::Percent(
            quantity::percent(text).ok_or_else(|| no("a share").hint(percent_sign(text)))?,
        )),
        Kind::Command => Value::Texts(
            command::split(text)?.into_iter().map(|word| (word, span.clone())).collect(),
        ),
        Kind::Texts | Kind::Services => Value::Texts(vec![(text.to_owned(), span.clone())]),
        Kind::Service => Value::Text(text.to_owned()),
        Kind::Choice(choices) => Value::Text(choice(choices, text)?),
        Kind::Signal => {
            let name = text.strip_prefix("SIG").unwrap_or(text);
            Value::Text(choice(super::service::SIGNALS, name)?)
        }
        Kind::Host => Value::Text(host(text)?),
        Kind::HostPattern => Value::Text(super::route::host_pattern(text)?),
        Kind::UrlPath => Value::Text(url_path(text)?),
        // What stands there may be a secret, so it is never repeated.
        Kind::Url if url(text) || super::service::source(text, "/").is_some() => {
            Value::Text(text.to_owned())
        }
        Kind::Url => {
            return Err(Wrong::new(format!("`{key}` is not a URL, nor where one is kept")));
        }
        Kind::Secret if super::service::source(text, "/").is_some() => Value::Text(text.to_owned()),
        Kind::Secret => {
            let hint = "a secret itself never stands in this file".to_owned();
            return Err(Wrong::new(format!("`{key}` does not say where it comes from")).hint(hint));
        }
        Kind::Moment => {
            Moment::from(text).ok_or_else(|| no("a moment").hint(moment(text)))?;
            Value::Text(text.to_owned())
        }
        Kind::Zone if is_zone(text) => Value::Text(text.to_owned()),
        Kind::Zone => return Err(no("a time zone")),
        Kind::Count { .. } | Kind::Number if text.parse::<f64>().is_ok() => {
            let hint = format!("write `{key} = {text}`, without quotes");
            return Err(Wrong::new(format!("`{key}` is a text")).hint(hint));
        }
        Kind::Flag
        | Kind::Yes
        | Kind::Number
        | Kind::Count { .. }
        | Kind::Variables
        | Kind::Headers
        | Kind::Address
        | Kind::Addresses
        | Kind::FlagOr(_)
        | Kind::Table(_)
        | Kind::Tables { .. }
        | Kind::List { .. } => return Err(Wrong::new(format!("`{key}` is a text"))),
    };
    Ok(value)
}

fn from_flag(kind: Kind, flag: bool, path: &str) -> Result<Value, Wrong> {
    let key = last(path);
    match kind {
        Kind::Flag | Kind::FlagOr(_) => Ok(Value::Flag(flag)),
        Kind::Yes if flag => Ok(Value::Flag(true)),
        // What it says more is nothing.
        Kind::YesOrText if flag => Ok(Value::Text(String::new())),
        Kind::Yes | Kind::YesOrText => {
            Err(Wrong::new(format!("`{key}` is `false`")).hint("leave it out".to_owned()))
        }
        _ => Err(Wrong::new(format!("`{key}` is true or false"))),
    }
}

fn from_integer(kind: Kind, number: &DeInteger<'_>, path: &str) -> Result<Value, Wrong> {
    let key = last(path);
    let Ok(number) = i128::from_str_radix(number.as_str(), number.radix()) else {
        return Err(Wrong::new(format!("`{key}` is too large")));
    };
    let wrong = |what: &str| Wrong::new(format!("`{key}` {what}"));
    let positive = u64::try_from(number).ok();
    match kind {
        Kind::Count { min, max } => match positive {
            Some(count) if count < min => Err(wrong(&format!("is {count}"))),
            Some(count) if count > max => Err(wrong(&format!("is {count}"))),
            Some(count) => Ok(Value::Count(count)),
            None => Err(wrong(&format!("is {number}"))),
        },
        Kind::Share => match positive.and_then(|count| u32::try_from(count).ok()) {
            Some(count) if u64::from(count) <= super::keys::REPLICAS_MAX => {
                Ok(Value::Share(Share::Count(count)))
            }
            _ => Err(wrong(&format!("is {number}"))),
        },
        Kind::Size { min } => match positive {
            Some(bytes) => Ok(Value::Count(at_least(bytes, min, key)?)),
            None => Err(wrong(&format!("is {number}"))),
        },
        Kind::Cpu => {
            let milli = positive.and_then(|cores| cores.checked_mul(1_000));
            let milli = milli.and_then(|milli| u32::try_from(milli).ok());
            Ok(Value::Cpu(cores(milli.ok_or_else(|| wrong(&format!("is {number}")))?)?))
        }
        Kind::Number => decimal(&number.to_string()),
        Kind::Span { .. } => {
            Err(wrong("has no unit").hint(format!("write `{key} = \"{number}s\"` for seconds")))
        }
        Kind::Weight | Kind::Part => {
            Err(wrong("has no unit").hint(format!("write `{key} = \"{number}%\"`")))
        }
        _ => Err(wrong("is a number")),
    }
}

/// A number in millionths.
fn decimal(text: &str) -> Result<Value, Wrong> {
    let number = quantity::millionths(&text.replace('_', ""));
    let wrong = || Wrong::new(format!("`{}` has too many digits", brief(text)));
    number.map(|it| Value::Number(Number(it))).ok_or_else(wrong)
}

fn from_float(text: &str) -> Result<Value, Wrong> {
    match quantity::cpu(text.strip_prefix('+').unwrap_or(text)) {
        Some(milli) => Ok(Value::Cpu(cores(milli)?)),
        None => Err(Wrong::new(format!("`{}` is not an amount of cores", brief(text)))),
    }
}

fn cores(milli: u32) -> Result<u32, Wrong> {
    // A thousand cores are more than any machine has; none is no process.
    if (1..=1_000_000).contains(&milli) {
        return Ok(milli);
    }
    Err(Wrong::new(format!("{}.{:03} cores cannot be had", milli / 1000, milli % 1000)))
}

fn at_least(bytes: u64, min: u64, key: &str) -> Result<u64, Wrong> {
    if bytes >= min {
        return Ok(bytes);
    }
    let hint = format!("a bare number is bytes; write `{key} = \"{bytes}MiB\"`");
    let hint = (1..min).contains(&bytes).then_some(hint);
    Err(Wrong::new(format!("`{key}` is less than \"{}\"", quantity::size_text(min))).hint(hint))
}

fn choice(choices: &[&str], text: &str) -> Result<String, Wrong> {
    if choices.contains(&text) {
        return Ok(text.to_owned());
    }
    let folded = text.to_lowercase().replace('_', "-");
    let same =
        choices.iter().find(|it| it.to_lowercase().replace('-', "") == folded.replace('-', ""));
    let hint = same.copied().or_else(|| nearest(text, choices.iter().copied()));
    let hint = hint.map(|name| format!("did you mean `\"{name}\"`?"));
    Err(Wrong::new(format!("`{}` is not known here", brief(text))).hint(hint))
}

/// Texts of a list, each checked for what every process argument must be.
fn texts(
    kind: Kind,
    list: &DeArray<'_>,
    span: &Span,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<Vec<(String, Span)>> {
    let key = last(path);
    let mut say = |span: &Span, message: String, hint: Option<String>| {
        mistakes.add(Mistake::at(span, path, message).expected(kind.expected()).hint(hint));
    };
    if list.len() > TEXTS_MAX {
        say(span, format!("`{key}` has more than {TEXTS_MAX} elements"), None);
        return None;
    }
    let mut all = Vec::with_capacity(list.len());
    for element in list.iter() {
        let span = element.span();
        match element.get_ref() {
            DeValue::String(text) if text.contains('\0') => {
                say(&span, format!("this part of `{key}` contains a NUL character"), None);
            }
            DeValue::String(text) if text.len() > TEXT_MAX => {
                say(&span, format!("this part of `{key}` is longer than {TEXT_MAX} bytes"), None);
            }
            DeValue::String(text) => all.push((text.clone().into_owned(), span)),
            other => {
                let hint = scalar(other).map(|text| format!("write `\"{text}\"`"));
                say(&span, format!("this part of `{key}` is {}", type_of(other)), hint);
            }
        }
    }
    if list.is_empty() && matches!(kind, Kind::Command) {
        say(span, format!("`{key}` is empty"), None);
        return None;
    }
    if all.first().is_some_and(|(program, _)| program.is_empty()) && matches!(kind, Kind::Command) {
        say(span, format!("the program in `{key}` is an empty text"), None);
        return None;
    }
    (all.len() == list.len()).then_some(all)
}

fn addresses(texts: &[(String, Span)], path: &str, mistakes: &mut Mistakes) -> Option<Value> {
    let mut all: Vec<(SocketAddr, Span)> = Vec::with_capacity(texts.len());
    for (text, span) in texts {
        let wrong = match text.parse::<SocketAddr>() {
            Ok(addr) if addr.port() == 0 => Wrong::new("port 0 is not one port"),
            Ok(addr) if all.iter().any(|(other, _)| *other == addr) => {
                Wrong::new(format!("`{addr}` is there twice"))
            }
            Ok(addr) => {
                all.push((addr, span.clone()));
                continue;
            }
            Err(_) => {
                let message = format!("`{}` is not an address with a port", brief(text));
                Wrong::new(message).hint(full_address(text))
            }
        };
        let mistake = Mistake::at(span, path, wrong.message).hint(wrong.hint);
        mistakes.add(mistake.expected(Kind::Addresses.expected()));
    }
    (all.len() == texts.len()).then_some(Value::Addresses(all))
}

fn variables(
    kind: Kind,
    table: &DeTable<'_>,
    span: &Span,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<Value> {
    let mut all = BTreeMap::new();
    if table.len() > VARIABLES_MAX {
        let wrong = format!("`{}` has more than {VARIABLES_MAX} variables", last(path));
        mistakes.add(Mistake::at(span, path, wrong));
        return None;
    }
    for (name, value) in table {
        let word = brief(name.get_ref());
        let at = format!("{path}.{word}");
        let wrong = match kind {
            Kind::Headers => wrong_header(name, &at),
            _ => wrong_variable(name, &at),
        };
        if let Some(mistake) = wrong {
            mistakes.add(mistake);
        }
        // A value may be a secret, so it is never repeated in what is said of it.
        match scalar(value.get_ref()) {
            Some(text) if text.contains('\0') || text.len() > TEXT_MAX => {
                let wrong = format!("`{word}` contains a NUL character or is too long");
                let expected = format!("a text of at most {TEXT_MAX} bytes");
                mistakes.add(Mistake::at(&value.span(), &at, wrong).expected(expected));
            }
            Some(text) => {
                all.insert(name.get_ref().clone().into_owned(), (text, name.span()));
            }
            None => {
                let wrong = format!("`{word}` is {}", type_of(value.get_ref()));
                let expected = "a text, a number, `true` or `false`";
                mistakes.add(Mistake::at(&value.span(), &at, wrong).expected(expected));
            }
        }
    }
    Some(Value::Variables(all))
}

fn wrong_variable(name: &Spanned<DeString<'_>>, at: &str) -> Option<Mistake> {
    let word = name.get_ref().as_ref();
    if !is_variable(word) {
        let wrong = format!("`{}` is not a name for a variable", brief(word));
        let expected = "letters, digits and `_`, not beginning with a digit";
        return Some(Mistake::at(&name.span(), at, wrong).expected(expected));
    }
    let hint = (word == "PORT")
        .then(|| "leave it out: every instance gets a free port of its own".to_owned());
    let wrong = format!("`{word}` is given by Evenkeel");
    is_reserved(word)
        .then(|| Mistake::at(&name.span(), at, wrong).expected("another name").hint(hint))
}

fn wrong_header(name: &Spanned<DeString<'_>>, at: &str) -> Option<Mistake> {
    let word = name.get_ref().as_ref();
    let wrong = format!("`{}` is not a name for a header or a cookie", brief(word));
    (!is_token(word)).then(|| {
        let expected = "letters, digits and `-`, such as `X-Beta`";
        Mistake::at(&name.span(), at, wrong).expected(expected)
    })
}

/// A number or flag as it was written; a text as it is.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => {
            let parsed = i128::from_str_radix(number.as_str(), number.radix());
            Some(parsed.map_or_else(|_| number.to_string(), |number| number.to_string()))
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

pub(crate) fn wrong_type(path: &str, value: &DeValue<'_>) -> String {
    format!("`{}` is {}", last(path), type_of(value))
}

pub(crate) fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
