//! Rules on the failure scenarios and on the ways in which requests get dropped: the tables say of
//! each where it is played, and it is true.
//!
//! A test that plays a scenario begins with its number, `s07_`, or with those of several; one that
//! plays a row of the drop catalogue begins with `d07_`. So tables and tests can be held against
//! each other.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::Problem;
use super::tree::Files;

/// Where the tables are.
const TABLE: &str = "docs/scenarios.md";
/// How a row says why it is not played.
const NOT_YET: &str = "not yet: ";

/// One of the tables.
struct Kind {
    /// What its rows begin with; in names of tests it is small.
    letter: char,
    /// How many rows there are.
    last: u32,
    /// Those that must be played, unless their row says why not yet.
    required: &'static [RangeInclusive<u32>],
}

const KINDS: [Kind; 2] = [
    Kind { letter: 'S', last: 40, required: &[1..=16, 23..=33, 36..=40] },
    Kind { letter: 'D', last: 17, required: &[1..=17] },
];

/// A row's letter and number.
type Mark = (char, u32);

/// A row of the table.
struct Row<'a> {
    line: usize,
    text: &'a str,
}

impl Row<'_> {
    /// The tests it names, each between backticks.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.text.split('`').skip(1).step_by(2).filter(|name| !numbers(name).is_empty())
    }
}

/// Every problem of the table and the tests.
pub(crate) fn check(files: &Files) -> Vec<Problem> {
    let Some(text) = files.get(TABLE) else {
        return vec![Problem::new(TABLE, 1, "is missing: it says where each scenario is played")];
    };
    let mut problems = Vec::new();
    let rows = rows(text);
    let tests = tests(files);
    let marks = KINDS.iter().flat_map(|kind| (1..=kind.last).map(move |number| (kind, number)));
    for (kind, number) in marks {
        let (letter, small) = (kind.letter, kind.letter.to_ascii_lowercase());
        let Some(row) = rows.get(&(letter, number)) else {
            problems.push(Problem::new(TABLE, 1, format!("has no row for {letter}{number}")));
            continue;
        };
        let mut say = |says: String| problems.push(Problem::new(TABLE, row.line, says));
        for name in row.names() {
            if !tests.contains_key(name) {
                say(format!("names the test `{name}`, which does not exist"));
            } else if !numbers(name).contains(&(letter, number)) {
                say(format!(
                    "names the test `{name}`, which does not begin with {small}{number:02}_"
                ));
            }
        }
        let required = kind.required.iter().any(|range| range.contains(&number));
        if required && row.names().next().is_none() && !row.text.contains(NOT_YET) {
            say(format!("names no test for {letter}{number}, and no reason after `{NOT_YET}`"));
        }
    }
    for (name, (file, line)) in &tests {
        for (letter, number) in numbers(name) {
            let named =
                rows.get(&(letter, number)).is_some_and(|row| row.names().any(|it| it == *name));
            if !named {
                let says = format!("`{name}` is not in the row of {letter}{number} in {TABLE}");
                problems.push(Problem::new(file, *line, says));
            }
        }
    }
    problems
}

/// The rows by what they begin with.
fn rows(text: &str) -> BTreeMap<Mark, Row<'_>> {
    let rows = text.lines().zip(1..).filter_map(|(text, line)| {
        let mark = text.strip_prefix("| ")?.split(' ').next()?;
        let letter = KINDS.iter().map(|kind| kind.letter).find(|it| mark.starts_with(*it))?;
        let number = mark.get(1..)?.parse().ok()?;
        Some(((letter, number), Row { line, text }))
    });
    rows.collect()
}

/// Every function that is named after a row, and where it is.
fn tests(files: &Files) -> BTreeMap<&str, (&str, usize)> {
    let sources = files.iter().filter(|(file, _)| file.ends_with(".rs"));
    let lines = sources.flat_map(|(file, text)| {
        text.lines().zip(1..).map(move |(line, number)| (line, (file.as_str(), number)))
    });
    let named = lines.filter_map(|(line, place)| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
        let name = line.strip_prefix("fn ")?.split('(').next()?;
        (!numbers(name).is_empty()).then_some((name, place))
    });
    named.collect()
}

/// The rows that a test says it plays: what it begins with.
fn numbers(name: &str) -> Vec<Mark> {
    let number = |part: &str| {
        let letters = KINDS.iter().map(|kind| kind.letter);
        let mut letters = letters.filter(|it| part.starts_with(it.to_ascii_lowercase()));
        let letter = letters.next()?;
        let digits = part.get(1..).filter(|digits| digits.len() == 2)?;
        Some((letter, digits.parse().ok()?))
    };
    name.split('_').map_while(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks tables in which all rows but those of `given` say why not, beside one source. Those
    /// of the drop catalogue are given from 101.
    fn says(given: &[(u32, &str)], source: &str) -> Vec<String> {
        let row = |number: u32| {
            let played = given.iter().find(|(it, _)| *it == number).map(|(_, played)| *played);
            format!(
                "| S{number} | it fails | it holds | {} |\n",
                played.unwrap_or("not yet: later")
            )
        };
        let scenarios = (1..=KINDS[0].last).map(row);
        let drops = (1..=KINDS[1].last).map(|number| {
            let played = given.iter().find(|(it, _)| *it == 100 + number).map(|(_, it)| *it);
            format!(
                "| D{number} | it is lost | it is kept | {} |\n",
                played.unwrap_or("not yet: later")
            )
        });
        let table: String = scenarios.chain(drops).collect();
        let files = [(TABLE, table), ("a.rs", source.to_owned())];
        let files = files.map(|(name, text)| (name.to_owned(), text)).into();
        check(&files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_table_that_agrees_with_the_tests_is_silent() {
        assert!(says(&[(7, "`s07_it` and words")], "    fn s07_it() {").is_empty());
        let both = [(7, "`s07_s08_it`"), (8, "`s07_s08_it`")];
        assert!(says(&both, "pub(crate) fn s07_s08_it() {").is_empty());
        assert!(says(&[(17, "with the databases")], "fn seen(it: u8) {").is_empty());
        let kinds = [(7, "`s07_d09_it`"), (109, "`s07_d09_it`")];
        assert!(says(&kinds, "fn s07_d09_it() {").is_empty());
    }

    #[test]
    fn what_does_not_agree_is_said_at_its_line() {
        assert_eq!(
            says(&[(7, "`s07_gone`")], ""),
            ["docs/scenarios.md:7: names the test `s07_gone`, which does not exist"]
        );
        assert_eq!(
            says(&[(7, "it is played")], ""),
            ["docs/scenarios.md:7: names no test for S7, and no reason after `not yet: `"]
        );
        assert_eq!(
            says(&[(7, "`s07_s08_it`")], "\nfn s07_s08_it() {"),
            ["a.rs:2: `s07_s08_it` is not in the row of S8 in docs/scenarios.md"]
        );
        assert_eq!(
            says(&[(7, "`s07_it` `s08_it`"), (8, "`s08_it`")], "fn s07_it() {\nfn s08_it() {"),
            ["docs/scenarios.md:7: names the test `s08_it`, which does not begin with s07_"]
        );
        assert_eq!(
            says(&[(109, "`d08_it`")], "fn d08_it() {"),
            [
                "docs/scenarios.md:49: names the test `d08_it`, which does not begin with d09_",
                "a.rs:1: `d08_it` is not in the row of D8 in docs/scenarios.md"
            ]
        );
        assert!(check(&Files::new())[0].to_string().contains("is missing"));
    }
}
