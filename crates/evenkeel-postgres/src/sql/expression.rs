//! Where columns are named in a piece of a syntax tree.
//!
//! A bare name is a column of the table that the piece is about, unless it is the name of a function
//! or stands in a query of its own; there, only `table.column` is.

use squawk_syntax::ast::{self, AstNode as _};
use squawk_syntax::{SourceFile, SyntaxKind, SyntaxNode};

use super::lookup;
use crate::name::Name;
use crate::shape::{Expression, Named};

/// Reads the piece that `node` is, about `table`.
pub(super) fn read(node: &SyntaxNode, table: &Name) -> Expression {
    let strict = ast::Expr::cast(node.clone()).is_some_and(|it| is_strict(&it, table));
    read_between(node, node, table, strict).looking_up(lookup::find(node, table))
}

/// Reads a piece that stands in a query over `table` as if it stood alone.
pub(super) fn read_alone(node: &SyntaxNode, table: &Name) -> Option<Expression> {
    let root = SourceFile::parse(&format!("SELECT {}", node.text())).syntax_node();
    let target = root.descendants().find_map(ast::Target::cast)?;
    Some(read(&target.syntax().first_child()?, table))
}

/// Reads what stands from the beginning of `first` to the end of `last`, which are children of one
/// parent.
pub(super) fn read_between(
    first: &SyntaxNode,
    last: &SyntaxNode,
    table: &Name,
    strict: bool,
) -> Expression {
    let start = first.text_range().start();
    let end = last.text_range().end();
    let mut text = String::new();
    let mut named = Vec::new();
    let mut calls = Vec::new();
    let mut sibling = Some(squawk_syntax::SyntaxElement::Node(first.clone()));
    while let Some(element) = sibling {
        if element.text_range().start() >= end {
            break;
        }
        match &element {
            squawk_syntax::SyntaxElement::Node(node) => {
                text.push_str(&node.text().to_string());
                look(node, table, usize::from(start), &mut named, &mut calls);
            }
            // A comment is not part of what is kept, and would swallow what follows it.
            squawk_syntax::SyntaxElement::Token(token) if token.kind() == SyntaxKind::COMMENT => {
                text.extend(std::iter::repeat_n(' ', token.text().len()));
            }
            squawk_syntax::SyntaxElement::Token(token) => text.push_str(token.text()),
        }
        sibling = element.next_sibling_or_token();
    }
    Expression::read(text, named, calls, strict)
}

/// Collects the columns and tables that are named in `node`, and the functions that are called.
fn look(
    node: &SyntaxNode,
    table: &Name,
    start: usize,
    named: &mut Vec<Named>,
    calls: &mut Vec<Name>,
) {
    if ast::Type::can_cast(node.kind()) {
        return;
    }
    let range = |node: &SyntaxNode| {
        usize::from(node.text_range().start()) - start..usize::from(node.text_range().end()) - start
    };
    let column_at = |node: &SyntaxNode, name: &ast::NameRef| Named {
        at: range(node),
        name: Name::new(name.text()),
        is_table: false,
    };
    if node.kind() == SyntaxKind::RELATION_NAME_REF {
        let table = lookup::bare_table(node);
        named.extend(table.map(|name| Named { at: range(node), name, is_table: true }));
        return;
    }
    if let Some(call) = ast::CallExpr::cast(node.clone())
        && let Some(callee) = call.syntax().first_child()
        && (ast::NameRef::can_cast(callee.kind()) || ast::FieldExpr::can_cast(callee.kind()))
    {
        let last = callee.descendants().filter_map(ast::NameRef::cast).last();
        calls.extend(last.map(|name| Name::new(name.text())));
        for child in node.children().skip(1) {
            look(&child, table, start, named, calls);
        }
        return;
    }
    if let Some(field) = ast::FieldExpr::cast(node.clone()) {
        let names: Vec<_> = field.syntax().children().filter_map(ast::NameRef::cast).collect();
        match names.as_slice() {
            [base, column] if Name::new(base.text()) == *table => {
                named.push(column_at(node, column));
            }
            // A column of another table, or of a composite value.
            [_, _] => {}
            _ => {
                if let Some(base) = field.syntax().first_child() {
                    look(&base, table, start, named, calls);
                }
            }
        }
        return;
    }
    if let Some(name) = ast::NameRef::cast(node.clone()) {
        if is_word_of_sql(node) || is_inside_query(node) {
            return;
        }
        named.push(column_at(node, &name));
        return;
    }
    for child in node.children() {
        look(&child, table, start, named, calls);
    }
}

/// Whether a name is one of those that SQL itself has, such as `current_date`.
fn is_word_of_sql(node: &SyntaxNode) -> bool {
    node.first_token().is_some_and(|token| {
        !matches!(token.kind(), SyntaxKind::IDENT)
            && matches!(
                token.text().to_ascii_lowercase().as_str(),
                "current_catalog"
                    | "current_date"
                    | "current_role"
                    | "current_schema"
                    | "current_time"
                    | "current_timestamp"
                    | "current_user"
                    | "localtime"
                    | "localtimestamp"
                    | "session_user"
                    | "system_user"
                    | "user"
            )
    })
}

/// Whether a name stands in a query within the piece, where a bare name means a column of the query.
fn is_inside_query(node: &SyntaxNode) -> bool {
    node.ancestors().any(|it| it.kind() == SyntaxKind::FROM_CLAUSE)
        || node
            .ancestors()
            .filter(|it| it.kind() == SyntaxKind::SELECT)
            .any(|query| query.children().any(|it| it.kind() == SyntaxKind::FROM_CLAUSE))
}

/// Whether the expression is a column, or a cast of one: NULL exactly where the column is.
#[expect(clippy::wildcard_enum_match_arm, reason = "of all other expressions nothing is known")]
fn is_strict(expression: &ast::Expr, table: &Name) -> bool {
    match expression {
        ast::Expr::NameRef(name) => !is_word_of_sql(name.syntax()),
        ast::Expr::FieldExpr(field) => {
            let base = field.syntax().first_child().and_then(ast::NameRef::cast);
            base.is_some_and(|base| Name::new(base.text()) == *table)
        }
        ast::Expr::CastExpr(cast) => cast.expr().is_some_and(|it| is_strict(&it, table)),
        ast::Expr::ParenExpr(paren) => paren.expr().is_some_and(|it| is_strict(&it, table)),
        _ => false,
    }
}
