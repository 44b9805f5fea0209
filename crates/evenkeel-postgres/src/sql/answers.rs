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
    /// `was`, `up`, `down` or `undo`.
    pub(super) word: &'static str,
    /// What follows the colon.
    pub(super) text: String,
    /// Whether it stands on a line of its own, above what it is about.
    pub(super) above: bool,
}

const WORDS: [&str; 4] = ["was", "up", "down", "undo"];

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

/// Which of the things that begin at `starts` (rising) the answer is about.
pub(super) fn about(answer: &Answer, starts: &[usize]) -> Option<usize> {
    let next = starts.partition_point(|start| *start < answer.offset);
    if answer.above { (next < starts.len()).then_some(next) } else { next.checked_sub(1) }
}
