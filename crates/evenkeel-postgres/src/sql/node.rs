//! Pieces of the tree: names in it, and the text of it.

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use crate::name::Name;

pub(super) fn child<N: AstNode>(node: &SyntaxNode) -> Option<SyntaxNode> {
    node.children().find_map(N::cast).map(|it| it.syntax().clone())
}

pub(super) fn child_text<N: AstNode>(node: &SyntaxNode) -> Option<String> {
    child::<N>(node).map(|it| it.text().to_string())
}

/// All parts of a dotted name.
pub(super) fn names(node: &SyntaxNode) -> Vec<Name> {
    node.descendants()
        .filter(|it| matches!(it.kind(), SyntaxKind::PATH_SEGMENT | SyntaxKind::PATH_SEGMENT_REF))
        .map(|it| Name::new(ast::normalize_name_node(&it)))
        .collect()
}

/// The last part of a dotted name.
pub(super) fn last_name(node: &SyntaxNode) -> Option<Name> {
    names(node).pop()
}

/// A name that has one part.
pub(super) fn word(node: &SyntaxNode) -> Option<Name> {
    let node = node.descendants().find(|it| {
        it.children_with_tokens().any(|it| it.into_token().is_some_and(|it| !it.kind().is_trivia()))
    })?;
    Some(Name::new(ast::normalize_name_node(&node)))
}

pub(super) fn end(node: &SyntaxNode) -> usize {
    usize::from(node.text_range().end())
}

pub(super) fn offset(node: &SyntaxNode) -> usize {
    usize::from(node.text_range().start())
}

/// `ALTER TYPE … ADD VALUE` so that it can be run twice.
pub(super) fn repeatable(node: &SyntaxNode) -> String {
    let says = |kind: SyntaxKind| {
        node.descendants_with_tokens().filter_map(|it| it.into_token()).find(|it| it.kind() == kind)
    };
    let text = sql(node);
    match says(SyntaxKind::VALUE_KW) {
        Some(value) if says(SyntaxKind::IF_KW).is_none() => {
            let before = sql_until(node, usize::from(value.text_range().end()));
            format!("{before} IF NOT EXISTS{}", &text[before.len()..])
        }
        Some(_) | None => text,
    }
}

/// The statement as SQL, without comments and the semicolon.
pub(super) fn sql(node: &SyntaxNode) -> String {
    sql_until(node, end(node)).trim_end_matches(';').trim().to_owned()
}

/// The statement as [`sql`] gives it, up to a byte of the file.
pub(super) fn sql_until(node: &SyntaxNode, end: usize) -> String {
    let mut out = String::new();
    let tokens = node.descendants_with_tokens().filter_map(|it| it.into_token());
    for token in tokens.take_while(|it| usize::from(it.text_range().end()) <= end) {
        let text = if token.kind() == SyntaxKind::COMMENT { " " } else { token.text() };
        out.push_str(text);
    }
    out.trim().to_owned()
}
