//! Problems: what is wrong in a file, where, and what would be right.
//!
//! Knows positions and how to show them; knows nothing of what a stack is.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The most problems handed out for one file; more than this nobody reads, and a file of garbage
/// would have one per word.
pub const PROBLEMS_MAX: usize = 200;

/// The widest source line that is shown below a problem, in characters; longer lines are cut
/// around the problem.
const SHOWN_WIDTH: usize = 160;

/// One mistake in a stack file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
    /// How many characters of that line it concerns, at least 1.
    pub length: usize,
    /// What is wrong: a lower-case fragment without a full stop.
    pub message: String,
    /// What would be right there.
    pub expected: Option<String>,
    /// What the writer probably meant, or how to get there.
    pub hint: Option<String>,
    /// Where in the stack: `service.web.rollout.strategy`; empty for the file as a whole.
    pub path: String,
    /// The line may hold a secret and is not shown.
    #[serde(default)]
    pub private: bool,
}

impl Problem {
    /// The problem with its source line, for a terminal without colour:
    ///
    /// ```text
    /// evenkeel.toml:5:1: error: unknown key `replica` in `service.web`
    ///   |
    /// 5 | replica = 3
    ///   | ^^^^^^^ expected `run`, `dir`, …
    ///   = help: did you mean `replicas`?
    /// ```
    #[must_use]
    pub fn render(&self, file_name: &str, text: &str) -> String {
        let Self { line, column, message, .. } = self;
        let mut out = format!("{file_name}:{line}:{column}: error: {message}\n");
        if self.private {
            let told = self.expected.as_deref().map(|it| format!("expected {it}"));
            for told in told.iter().chain(&self.hint) {
                writeln!(out, "  = help: {told}").expect("writing to a String cannot fail");
            }
            return out;
        }
        let margin = " ".repeat(line.to_string().len());
        let source = text.lines().nth(line - 1).unwrap_or_default();
        let (shown, marks) = self.underlined(source.trim_start_matches('\u{feff}'));
        let expected = self.expected.as_deref().map(|it| format!(" expected {it}"));
        let expected = expected.unwrap_or_default();
        for row in [
            format!("{margin} |"),
            format!("{line} | {shown}"),
            format!("{margin} | {marks}{expected}"),
        ] {
            writeln!(out, "{}", row.trim_end()).expect("writing to a String cannot fail");
        }
        if let Some(hint) = &self.hint {
            writeln!(out, "{margin} = help: {hint}").expect("writing to a String cannot fail");
        }
        out
    }

    /// The part of the source line that is shown, and the marks below it.
    fn underlined(&self, source: &str) -> (String, String) {
        let width = source.chars().count();
        let start = (self.column - 1).min(width);
        let skipped = if width <= SHOWN_WIDTH { 0 } else { start.saturating_sub(SHOWN_WIDTH / 4) };
        // A tab is shown as a tab and a control character as a dot, so that the marks stay below
        // what they mark and a file cannot speak to the terminal.
        let clean = |c: char| match c {
            '\t' => '\t',
            c if c.is_control() => '·',
            c => c,
        };
        let shown: String = source.chars().skip(skipped).take(SHOWN_WIDTH).map(clean).collect();
        let blank = |c: char| if c == '\t' { '\t' } else { ' ' };
        let before: String = shown.chars().take(start - skipped).map(blank).collect();
        let room = SHOWN_WIDTH.saturating_sub(start - skipped).max(1);
        (shown, before + &"^".repeat(self.length.clamp(1, room)))
    }
}

/// A mistake at a range of bytes, before lines and columns are known.
#[derive(Clone, Debug)]
pub(crate) struct Mistake {
    pub(crate) span: Range<usize>,
    pub(crate) path: String,
    message: String,
    expected: Option<String>,
    hint: Option<String>,
    /// It says that something is absent, which may only look so because a line could not be read.
    absence: bool,
}

impl Mistake {
    pub(crate) fn at(span: &Range<usize>, path: &str, message: impl Into<String>) -> Self {
        Self {
            span: span.clone(),
            path: path.to_owned(),
            message: message.into(),
            expected: None,
            hint: None,
            absence: false,
        }
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    pub(crate) fn absence(mut self) -> Self {
        self.absence = true;
        self
    }
}

/// Every mistake of one file, in the order found.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    /// The file is not TOML here.
    pub(crate) syntax: Vec<Mistake>,
    /// It is TOML, but not a stack.
    pub(crate) meaning: Vec<Mistake>,
}

impl Mistakes {
    pub(crate) fn add(&mut self, mistake: Mistake) {
        self.meaning.push(mistake);
    }

    pub(crate) fn extend(&mut self, mistakes: impl IntoIterator<Item = Mistake>) {
        self.meaning.extend(mistakes);
    }

    /// The problems by position. One line that cannot be read is one problem: what follows from
    /// it is left out.
    pub(crate) fn into_problems(mut self, text: &str) -> Vec<Problem> {
        let lines = Lines::of(text);
        self.syntax.sort_by_key(|mistake| mistake.span.start);
        self.syntax.dedup_by_key(|mistake| lines.line(mistake.span.start));
        let unread: Vec<usize> =
            self.syntax.iter().map(|mistake| lines.line(mistake.span.start)).collect();
        self.meaning.retain(|mistake| {
            let follows = mistake.absence && !unread.is_empty();
            !follows && unread.binary_search(&lines.line(mistake.span.start)).is_err()
        });
        let mut all = self.syntax;
        all.append(&mut self.meaning);
        all.sort_by_key(|mistake| mistake.span.start);
        // Positions are counted only for what is shown: counting is linear in the line's length.
        let more = (all.len() + 1).saturating_sub(PROBLEMS_MAX);
        all.truncate(PROBLEMS_MAX);
        let mut problems: Vec<Problem> = all.into_iter().map(|it| lines.problem(it)).collect();
        let private = private_lines(text);
        for problem in &mut problems {
            problem.private |= private.contains(&problem.line);
        }
        if let Some(last) = problems.last_mut()
            && more > 1
        {
            last.message = format!("{more} more problems from here on");
            (last.expected, last.hint) = (None, None);
        }
        problems
    }
}

/// The lines, from 1, in which secrets are named: somebody may have written one down there. Told by
/// the text alone, so that it holds also where that is not TOML.
fn private_lines(text: &str) -> BTreeSet<usize> {
    let mut private = BTreeSet::new();
    let (mut in_table, mut at_top, mut open) = (false, true, false);
    let mut in_database = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').filter(|_| !open) {
            let mut parts = header.trim_start_matches('[').split([']', '.']).map(str::trim);
            let first = parts.clone().next();
            in_database = first == Some(DATABASE);
            in_table = first == Some(NOTIFY) || parts.any(|it| it == SECRETS || it == GATE);
            at_top = false;
        }
        let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let private_word = |word: &&str| {
            PRIVATE.contains(word)
                || (at_top && *word == NOTIFY)
                || (*word == GATE && may_hold_secret(line))
        };
        let begins = words.find(private_word);
        // Whatever its key is called: an address has a password in it.
        let address = in_database && line.contains('"') && line.contains(':');
        if in_table || open || begins.is_some() || address {
            private.insert(number);
        }
        // An inline table may go on below.
        let tail = begins.and_then(|word| line.rsplit(word).next()).unwrap_or(line);
        open = (begins.is_some() || open)
            && tail.matches('{').count() + usize::from(open) > tail.matches('}').count();
    }
    private
}

/// Whether the gate in this line may have a webhook, under whichever name.
fn may_hold_secret(line: &str) -> bool {
    let table = line.split_once(GATE).map_or(line, |(_, table)| table);
    let goes_on = table.contains('{') && !table.contains('}');
    goes_on || table.contains("://") || table.contains("secret")
}

/// The key below which nothing is repeated.
const SECRETS: &str = "secrets";
/// The table of which nothing is repeated: its URLs are secrets more often than not.
const NOTIFY: &str = "notify";
/// Tables whose addresses hold passwords.
const DATABASE: &str = "database";
/// The table that may have a webhook of its own.
const GATE: &str = "gate";
/// Keys whose line is not repeated, wherever it stands.
const PRIVATE: [&str; 3] = [SECRETS, "webhook", "slack"];

/// Where each line of a text begins.
#[derive(Debug)]
pub(crate) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(crate) fn of(text: &'t str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// The line of a byte, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }

    /// Line and column, in characters, of a byte; both from 1.
    pub(crate) fn position(&self, at: usize) -> (usize, usize) {
        let at = self.text.floor_char_boundary(at);
        let line = self.line(at);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..at).unwrap_or_default();
        (line, before.trim_start_matches('\u{feff}').chars().count() + 1)
    }

    fn problem(&self, mistake: Mistake) -> Problem {
        let (line, column) = self.position(mistake.span.start);
        let Mistake { span, path, message, expected, hint, absence: _ } = mistake;
        let span = self.text.get(span).unwrap_or_default();
        let length = span.lines().next().unwrap_or_default().trim_end().chars().count().max(1);
        Problem { line, column, length, message, expected, hint, path, private: false }
    }
}
