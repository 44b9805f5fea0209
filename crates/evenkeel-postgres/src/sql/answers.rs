//! Answers that stand in comments: which words they begin with, and which thing each belongs to.
//!
//! A comment after something on its line belongs to what began last before it; a comment on a line
//! of its own belongs to what begins next.

use squawk_syntax::{SyntaxElement, SyntaxKind, SyntaxNode};

/// An answer as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Where the comment begins, in bytes.
    pub(super) offset: usize,
    /// One of [`WORDS`].
    pub(super) word: &'static str,
    /// What follows the colon.
    pub(super) text: String,
    /// Whether it stands on a line of its own, above what it is about.
    pub(super) above: bool,
}

const WORDS: [&str; 6] = ["was", "up", "down", "undo", "gone", "kept"];

/// All answers in a file, in their order.
pub(super) fn find(root: &SyntaxNode, text: &str) -> Vec<Answer> {
    root.descendants_with_tokens()
        .filter_map(SyntaxElement::into_token)
        .filter(|token| token.kind() == SyntaxKind::COMMENT)
        .filter_map(|token| {
            let offset = usize::from(token.text_range().start());
            let said = token.text().strip_prefix("--")?.trim();
            let (word, rest) = said.split_once(':')?;
            let word = WORDS.into_iter().find(|it| word.trim().eq_ignore_ascii_case(it))?;
            let line = text[..offset].rfind('\n').map_or(0, |at| at + 1);
            Some(Answer {
                offset,
                word,
                text: rest.trim().to_owned(),
                above: text[line..offset].trim().is_empty(),
            })
        })
        .collect()
}

/// The names in a list, and what follows a `=` after it.
pub(super) fn listed(text: &str) -> (impl Iterator<Item = &str>, Option<&str>) {
    let (names, value) = match text.split_once('=') {
        Some((names, value)) => (names, Some(value.trim())),
        None => (text, None),
    };
    (names.split(',').map(str::trim), value)
}

/// Something that an answer can be about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Thing<T> {
    /// Where it begins, in bytes.
    pub(super) start: usize,
    /// Where the statement that it is part of ends.
    pub(super) end: usize,
    /// What it is.
    pub(super) what: T,
}

/// Which of the things (in the order in which they begin) the answer is about. A comment on a line of
/// its own that stands within a statement, after all that begins in it, is about the last of that.
pub(super) fn about<'a, T>(answer: &Answer, things: &'a [Thing<T>]) -> Option<&'a T> {
    let next = things.partition_point(|it| it.start < answer.offset);
    let before = next.checked_sub(1).and_then(|at| things.get(at));
    let after = things.get(next);
    let within = before.is_some_and(|it| {
        answer.offset < it.end && after.is_none_or(|after| after.start >= it.end)
    });
    if answer.above && !within { after.or(before) } else { before }.map(|it| &it.what)
}
