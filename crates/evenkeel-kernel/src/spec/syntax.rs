//! Text to a TOML tree with spans, and everything in it that is not TOML.
//!
//! Knows how to go on after a broken line; knows nothing of which keys there are.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Error};

use super::problem::{Mistake, Mistakes};

/// The most values that are cut out and read again; each costs one more pass over the text.
const REPAIRS_MAX: usize = 16;

/// Reads `text` as far as it can be read and hands the tree to `then`.
pub(crate) fn read<T>(
    text: &str,
    mistakes: &mut Mistakes,
    then: impl FnOnce(&Spanned<DeTable<'_>>, &mut Mistakes) -> T,
) -> T {
    let mut repaired = text.to_owned();
    for _ in 0..REPAIRS_MAX {
        let cut = {
            let (table, errors) = DeTable::parse_recoverable(&repaired);
            errors.iter().find_map(|error| swallowing(table.get_ref(), &repaired, error))
        };
        let Some(cut) = cut else { break };
        mistakes.syntax.push(never_closed(&cut, &repaired));
        blank(&mut repaired, cut);
    }
    let (table, errors) = DeTable::parse_recoverable(&repaired);
    mistakes.syntax.extend(errors.iter().map(|error| mistake(error, &repaired)));
    then(&table, mistakes)
}

/// The part of a list or inline table that swallowed the keys below it, because its end is
/// missing: from its beginning to the first line that begins like a key or a header.
fn swallowing(table: &DeTable<'_>, text: &str, error: &Error) -> Option<Range<usize>> {
    let at = error.span()?.start;
    let span = enclosing(table, at)?;
    let body = text.get(span.clone())?;
    let line_start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let depth = indentation(text.get(line_start..)?);
    let mut offset = span.start;
    for (number, line) in body.split_inclusive('\n').enumerate() {
        // What is indented further belongs to the value.
        if number > 0 && begins_anew(line) && indentation(line) <= depth {
            return Some(span.start..offset);
        }
        offset += line.len();
    }
    None
}

/// The outermost list or inline table around a byte, whose own key is not inside.
fn enclosing(table: &DeTable<'_>, at: usize) -> Option<Range<usize>> {
    table.iter().find_map(|(key, value)| match value.get_ref() {
        DeValue::Array(list) if value.span().contains(&at) || value.span().end == at => {
            in_tables(list, at).or_else(|| Some(value.span()))
        }
        // An inline table's span lies behind its key; a header's and a dotted key's do not.
        DeValue::Table(_) if value.span().start > key.span().end && value.span().contains(&at) => {
            Some(value.span())
        }
        DeValue::Table(inner) => enclosing(inner, at),
        DeValue::Array(_)
        | DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => None,
    })
}

/// `[[table]]` is a list too, but one whose elements are headers.
fn in_tables(list: &DeArray<'_>, at: usize) -> Option<Range<usize>> {
    list.iter().find_map(|element| enclosing(element.get_ref().as_table()?, at))
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// Whether a line looks like `key = …` or `[header]`, which no element of a list does.
fn begins_anew(line: &str) -> bool {
    let line = line.trim();
    if let Some(header) = line.strip_prefix('[') {
        let header = header.trim_start_matches('[');
        return header.starts_with(|c: char| c.is_ascii_alphabetic())
            && header.trim_end_matches(']').chars().all(is_dotted)
            && line.ends_with(']');
    }
    let (key, rest) = line.split_at(line.find(|c| !is_dotted(c)).unwrap_or(line.len()));
    !key.is_empty() && rest.trim_start().starts_with('=')
}

fn is_dotted(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn never_closed(cut: &Range<usize>, text: &str) -> Mistake {
    let (opening, closing) = match text.get(cut.start..).and_then(|rest| rest.chars().next()) {
        Some('{') => ('{', '}'),
        _ => ('[', ']'),
    };
    let span = cut.start..cut.start + 1;
    Mistake::at(&span, "", format!("this `{opening}` is never closed"))
        .expected(format!("`{closing}` before the next key"))
}

/// Overwrites a range with an empty text and spaces, so that every position stays the same.
fn blank(text: &mut String, range: Range<usize>) {
    let cut = text.get(range.clone()).unwrap_or_default();
    let spaces: String = cut
        .bytes()
        .enumerate()
        .map(|(i, byte)| match (i, byte) {
            (0 | 1, _) => '"',
            (_, b'\n') => '\n',
            (_, _) => ' ',
        })
        .collect();
    text.replace_range(range, &spaces);
}

fn mistake(error: &Error, text: &str) -> Mistake {
    let span = error.span().unwrap_or(0..0);
    let found = text.get(span.clone()).unwrap_or_default();
    let (message, expected) = match error.message().split_once(", expected ") {
        Some((message, expected)) => (message, Some(expected)),
        None => (error.message(), None),
    };
    let mistake = Mistake::at(&span, "", message);
    match expected {
        Some(_) if message == "string values must be quoted" => {
            let hint = match found {
                "True" | "False" | "TRUE" | "FALSE" => format!("`{}`", found.to_lowercase()),
                "yes" | "on" => "`true`".to_owned(),
                "no" | "off" => "`false`".to_owned(),
                _ => format!("`\"{}\"`", super::hint::brief(found)),
            };
            mistake.expected("quotes around a text").hint(format!("write {hint}"))
        }
        Some("nothing") => mistake.expected("nothing more here"),
        Some(expected) => mistake.expected(expected),
        None => mistake,
    }
}
