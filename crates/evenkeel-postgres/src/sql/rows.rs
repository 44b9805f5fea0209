//! Statements that write rows.

use squawk_syntax::ast::{self, AstNode as _};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::node::{last_name, word};
use super::{Action, expression, lookup};
use crate::name::Name;
use crate::shape::Expression;

/// Rows that are written into the table that is named by `node`.
pub(super) fn data(node: Option<SyntaxNode>) -> Action {
    Action::Data { table: node.and_then(|node| last_name(&node)) }
}

/// `UPDATE t SET a = f(b)`, for every row, or for those whose `a` is NULL.
pub(super) fn fill(it: &ast::Update) -> Option<(Name, Vec<(Name, Expression)>)> {
    let node = it.syntax();
    let table = last_name(it.relation_name()?.syntax())?;
    let other = it.from_clause().is_some()
        || it.with_clause().is_some()
        || it.returning_clause().is_some()
        || it.alias().is_some();
    if other {
        return None;
    }
    let mut columns = Vec::new();
    for column in it.set_clause()?.set_column_list()?.set_columns() {
        let ast::SetColumn::SetSingleColumn(one) = column else { return None };
        let name = word(one.column_target()?.syntax())?;
        let value = one.set_expr()?.syntax().children().find(|it| ast::Expr::can_cast(it.kind()));
        let value = value.or_else(|| {
            one.set_expr().map(|it| it.syntax().clone()).filter(|it| ast::Expr::can_cast(it.kind()))
        })?;
        columns.push((name, expression::read(&value, &table)));
    }
    let condition = node.children().find_map(ast::WhereClause::cast);
    let fine = match condition {
        None => true,
        // `WHERE a IS NULL`: rows that have it already keep it, as they do when a column is filled.
        Some(condition) => {
            let said = condition.expr()?.syntax().text().to_string();
            let words: Vec<&str> = said.split_whitespace().collect();
            match (words.as_slice(), columns.as_slice()) {
                ([column, is, null], [(filled, _)]) => {
                    is.eq_ignore_ascii_case("is")
                        && null.eq_ignore_ascii_case("null")
                        && column.trim_matches('"').eq_ignore_ascii_case(filled.as_str())
                }
                _ => false,
            }
        }
    };
    fine.then_some((table, columns))
}

/// `INSERT INTO t (a, b) SELECT x, f(y) FROM u WHERE …`, and nothing else.
pub(super) fn copy(it: &ast::Insert) -> Option<Action> {
    let node = it.syntax();
    let query = node.children().find(|it| it.kind() == SyntaxKind::SELECT)?;
    let known = [SyntaxKind::RELATION_NAME_REF, SyntaxKind::COLUMN_TARGET_LIST, SyntaxKind::SELECT];
    let clauses = [SyntaxKind::SELECT_CLAUSE, SyntaxKind::FROM_CLAUSE, SyntaxKind::WHERE_CLAUSE];
    let whole = node.children().all(|it| known.contains(&it.kind()))
        && query.children().all(|it| clauses.contains(&it.kind()));
    let (from, here) = lookup::from_one(&query).filter(|_| whole)?;
    let into = node.children().find(|it| it.kind() == SyntaxKind::COLUMN_TARGET_LIST)?;
    let into: Vec<Name> = into.children().filter_map(|it| word(&it)).collect();
    let select = query.children().find(|it| it.kind() == SyntaxKind::SELECT_CLAUSE)?;
    let targets = select.descendants().find(|it| it.kind() == SyntaxKind::TARGET_LIST)?;
    // Each value stands alone: a name for it would be a second child.
    let value = |it: SyntaxNode| {
        let value = it.first_child().filter(|it| ast::Expr::can_cast(it.kind()))?;
        expression::read_alone(&value, &here)
    };
    let values: Vec<Expression> = targets.children().map(value).collect::<Option<_>>()?;
    let when = match query.children().find_map(ast::WhereClause::cast) {
        Some(condition) => Some(expression::read_alone(condition.expr()?.syntax(), &here)?),
        None => None,
    };
    // Another clause, such as DISTINCT, makes it another thing.
    if select.children().count() != 1 || into.len() != values.len() || into.is_empty() {
        return None;
    }
    let table = last_name(it.relation_name_ref()?.syntax())?;
    Some(Action::Copy { table, from, columns: into.into_iter().zip(values).collect(), when })
}
