//! Environment files: lines of `NAME=value`, as `.env` files are written everywhere.
//!
//! - An empty line, or one that begins with `#`, says nothing; `export ` before a name is passed
//!   over.
//! - A bare value ends with its line, or before ` #`; spaces around it are not part of it.
//! - A value in `'…'` is taken as it is, one in `"…"` with the escapes `\n \r \t \\ \" \$`; both
//!   may span lines. Nothing is ever replaced in a value.
//! - The last line for a name wins.
//!
//! Values are secrets until proven otherwise: no message repeats any part of a line but the name
//! of a variable.

use std::collections::BTreeMap;

use super::problem::Lines;
use super::value::TEXT_MAX;
use super::word::is_variable;

/// The largest environment file, in bytes; beyond what a process can be started with.
pub const ENV_FILE_MAX: usize = 1 << 20;
/// The most mistakes told of one file.
const MISTAKES_MAX: usize = 50;

/// A mistake in an environment file: where, what, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) position: (usize, usize),
    pub(crate) message: String,
    pub(crate) expected: &'static str,
}

/// The variables of a file, and everything wrong in it.
pub(crate) fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Mistake>) {
    let mut reader = Reader { text, at: 0, lines: Lines::of(text), mistakes: Vec::new() };
    let mut variables = BTreeMap::new();
    if text.len() > ENV_FILE_MAX {
        reader.wrong(0, "the file is too large", "at most 1 MiB");
        return (variables, reader.mistakes);
    }
    if text.starts_with('\u{feff}') {
        reader.at = '\u{feff}'.len_utf8();
    }
    while reader.at < text.len() && reader.mistakes.len() < MISTAKES_MAX {
        if let Some((name, value)) = reader.line() {
            variables.insert(name, value);
        }
    }
    (variables, reader.mistakes)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    lines: Lines<'t>,
    mistakes: Vec<Mistake>,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn rest_of_line(&self) -> &'t str {
        self.rest().split('\n').next().unwrap_or_default()
    }

    fn next_line(&mut self) {
        self.at += self.rest_of_line().len() + 1;
    }

    fn wrong(&mut self, at: usize, message: impl Into<String>, expected: &'static str) {
        let position = self.lines.position(at);
        self.mistakes.push(Mistake { position, message: message.into(), expected });
    }

    fn skip_blanks(&mut self) {
        let line = self.rest_of_line();
        self.at += line.len() - line.trim_start().len();
    }

    /// Reads one variable, and leaves `at` at the beginning of the line after it.
    fn line(&mut self) -> Option<(String, String)> {
        self.skip_blanks();
        let start = self.at;
        let line = self.rest_of_line();
        if line.trim().is_empty() || line.starts_with('#') {
            self.next_line();
            return None;
        }
        let exported = line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
        let Some((before, _)) = line.split_once('=') else {
            self.wrong(start, "this line is no variable", "NAME=value");
            self.next_line();
            return None;
        };
        let name = match exported {
            Some(_) => before.strip_prefix("export").unwrap_or(before).trim(),
            None => before.trim_end(),
        };
        if !is_variable(name) {
            let expected = "letters, digits and `_`, not beginning with a digit, then `=`";
            self.wrong(start, "what stands before `=` is not a name for a variable", expected);
            self.next_line();
            return None;
        }
        self.at = start + before.len() + 1;
        self.skip_blanks();
        let from = self.at;
        let value = match self.rest().chars().next() {
            Some('\'') => self.quoted('\'', name)?,
            Some('"') => self.quoted('"', name)?,
            _ => self.bare(),
        };
        if value.contains('\0') || value.len() > TEXT_MAX {
            let wrong = format!("`{name}` contains a NUL character or is too long");
            self.wrong(from, wrong, "a text of less than 128 KiB");
            return None;
        }
        Some((name.to_owned(), value))
    }

    fn bare(&mut self) -> String {
        let line = self.rest_of_line();
        self.next_line();
        let comment = line
            .char_indices()
            .zip(std::iter::once(' ').chain(line.chars()))
            .find(|((_, c), before)| *c == '#' && matches!(before, ' ' | '\t'));
        let end = comment.map_or(line.len(), |((at, _), _)| at);
        line.get(..end).unwrap_or(line).trim().to_owned()
    }

    fn quoted(&mut self, quote: char, name: &str) -> Option<String> {
        let opening = self.at;
        let body = self.rest().get(1..).unwrap_or_default();
        let mut value = String::new();
        let mut wrong_escapes = Vec::new();
        let mut chars = body.char_indices();
        let end = loop {
            let Some((at, c)) = chars.next() else { break None };
            match c {
                c if c == quote => break Some(at),
                '\\' if quote == '"' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, c @ ('\\' | '"' | '$'))) => value.push(c),
                    Some(_) => wrong_escapes.push(opening + 1 + at),
                    None => break None,
                },
                c => value.push(c),
            }
        };
        let Some(end) = end else {
            self.wrong(opening, format!("the quote of `{name}` is never closed"), "its end");
            // The lines after it are read again, so that their mistakes are found too.
            self.next_line();
            return None;
        };
        let sound = wrong_escapes.is_empty();
        for at in wrong_escapes.into_iter().take(MISTAKES_MAX) {
            let wrong = format!("`{name}` has an unknown escape");
            self.wrong(at, wrong, r#"`\n`, `\r`, `\t`, `\\`, `\"` or `\$`"#);
        }
        self.at = opening + 1 + end + quote.len_utf8();
        let after = self.rest_of_line().trim_start();
        if !after.is_empty() && !after.starts_with('#') {
            self.skip_blanks();
            let at = self.at;
            self.wrong(
                at,
                format!("something follows the quotes of `{name}`"),
                "the end of the line",
            );
        }
        self.next_line();
        sound.then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn check(text: &str, expected: &Expect) {
        let (variables, mistakes) = parse(text);
        let read = variables.iter().map(|(name, value)| format!("{name} is {value:?}\n"));
        let wrong =
            mistakes.iter().map(|Mistake { position: (line, column), message, expected }| {
                format!("{line}:{column}: {message}; expected {expected}\n")
            });
        expected.assert_eq(&read.chain(wrong).collect::<String>());
    }

    #[test]
    fn lines_are_read_as_people_write_them() {
        check(
            "\u{feff}# shop\n\nA=1\r\nexport B = two words  # why\n  C='$A \\n # x'\n\
             D=\"a\\r\\tb \\\"c\\\" \\$A \\\\\"  # yes\nE=\nF=x#y\nG=#z\nKEY=\"line one\nline two\n\"\n\
             exported=1\nA=2",
            &expect![[r#"
                A is "2"
                B is "two words"
                C is "$A \\n # x"
                D is "a\r\tb \"c\" $A \\"
                E is ""
                F is "x#y"
                G is ""
                KEY is "line one\nline two\n"
                exported is "1"
            "#]],
        );
    }

    #[test]
    fn every_mistake_is_told_and_no_value() {
        check(
            "hunter2\nMY-KEY=hunter2\n1A=x\nB=\"hunter\\2\"\nC='hunter2' 3\n é = 1\n=x\nD='hunter2\nOK=1",
            &expect![[r#"
                C is "hunter2"
                OK is "1"
                1:1: this line is no variable; expected NAME=value
                2:1: what stands before `=` is not a name for a variable; expected letters, digits and `_`, not beginning with a digit, then `=`
                3:1: what stands before `=` is not a name for a variable; expected letters, digits and `_`, not beginning with a digit, then `=`
                4:10: `B` has an unknown escape; expected `\n`, `\r`, `\t`, `\\`, `\"` or `\$`
                5:13: something follows the quotes of `C`; expected the end of the line
                6:2: what stands before `=` is not a name for a variable; expected letters, digits and `_`, not beginning with a digit, then `=`
                7:1: what stands before `=` is not a name for a variable; expected letters, digits and `_`, not beginning with a digit, then `=`
                8:3: the quote of `D` is never closed; expected its end
            "#]],
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[A-C=#'\"\\\\ \n\r\té export]{0,60}") {
            parse(&text);
        }

        #[test]
        fn a_value_in_double_quotes_comes_back(value in "[^\0]{0,40}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let (variables, mistakes) = parse(&format!("A=\"{escaped}\"\n"));
            prop_assert_eq!(mistakes, vec![]);
            prop_assert_eq!(variables.get("A"), Some(&value));
        }
    }
}
