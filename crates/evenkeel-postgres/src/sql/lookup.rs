//! Queries within an expression that look a value up in another table.

use std::collections::BTreeSet;

use squawk_syntax::ast::{self, AstNode as _};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use crate::name::Name;
use crate::shape::Lookup;

/// The queries within an expression about `table` that read one other table each.
pub(super) fn find(node: &SyntaxNode, table: &Name) -> Vec<Lookup> {
    node.descendants()
        .filter(|it| it.kind() == SyntaxKind::SELECT)
        .filter_map(|query| read(&query, table))
        .collect()
}

fn read(query: &SyntaxNode, own: &Name) -> Option<Lookup> {
    let (table, here) = from_one(query)?;
    let mut columns = BTreeSet::new();
    for name in query.descendants().filter(|it| ast::NameRef::can_cast(it.kind())) {
        let field = name.parent().filter(|it| it.kind() == SyntaxKind::FIELD_EXPR);
        columns.extend(match field {
            Some(field) => column_of(&field, &here),
            None => bare(&name),
        });
    }
    let condition = query.children().find_map(ast::WhereClause::cast).and_then(|it| it.expr());
    let by = condition.and_then(|it| equal(it.syntax(), own, &here));
    Some(Lookup { table, columns, by })
}

/// The one table that a query reads, and what it is called there.
pub(super) fn from_one(query: &SyntaxNode) -> Option<(Name, Name)> {
    let from = query.children().find(|it| it.kind() == SyntaxKind::FROM_CLAUSE)?;
    let mut items = from.children();
    let item = items.next().filter(|it| it.kind() == SyntaxKind::RELATION_FROM_ITEM)?;
    if items.next().is_some() {
        return None;
    }
    let segment = |it: SyntaxNode| {
        it.descendants().filter(|it| it.kind() == SyntaxKind::PATH_SEGMENT_REF).last()
    };
    let relation = item.children().find(|it| it.kind() == SyntaxKind::RELATION_NAME_REF)?;
    let table = Name::new(ast::normalize_name_node(&segment(relation)?));
    let alias = item.children().find(|it| it.kind() == SyntaxKind::FROM_ALIAS);
    let alias = alias.and_then(|it| it.first_child());
    let here = alias.map_or_else(|| table.clone(), |it| Name::new(ast::normalize_name_node(&it)));
    Some((table, here))
}

/// The table that is named without a schema, as one and not as what a `WITH` made.
pub(super) fn bare_table(relation: &SyntaxNode) -> Option<Name> {
    let mut segments =
        relation.descendants().filter(|it| it.kind() == SyntaxKind::PATH_SEGMENT_REF);
    let name = Name::new(ast::normalize_name_node(&segments.next()?));
    let within =
        relation.ancestors().any(|it| it.children().any(|it| it.kind() == SyntaxKind::WITH_CLAUSE));
    (segments.next().is_none() && !within).then_some(name)
}

/// `there = own.column` among the conditions that all have to hold.
fn equal(condition: &SyntaxNode, own: &Name, here: &Name) -> Option<(Name, Name)> {
    if let Some(inner) = ast::ParenExpr::cast(condition.clone()) {
        return equal(inner.expr()?.syntax(), own, here);
    }
    let sides: Vec<SyntaxNode> =
        ast::BinExpr::cast(condition.clone())?.syntax().children().collect();
    let [left, right] = sides.as_slice() else { return None };
    let says = |kind: SyntaxKind| condition.children_with_tokens().any(|it| it.kind() == kind);
    if says(SyntaxKind::AND_KW) {
        return equal(left, own, here).or_else(|| equal(right, own, here));
    }
    if !says(SyntaxKind::EQ) {
        return None;
    }
    let there = |it: &SyntaxNode| column_of(it, here).or_else(|| bare(it));
    let pair = |a: &SyntaxNode, b: &SyntaxNode| Some((there(a)?, column_of(b, own)?));
    pair(left, right).or_else(|| pair(right, left))
}

/// The column of `qualifier.column`.
fn column_of(node: &SyntaxNode, qualifier: &Name) -> Option<Name> {
    let field = ast::FieldExpr::cast(node.clone())?;
    let names: Vec<Name> = field
        .syntax()
        .children()
        .filter(|it| ast::NameRef::can_cast(it.kind()))
        .map(|it| Name::new(ast::normalize_name_node(&it)))
        .collect();
    match names.as_slice() {
        [base, column] if base == qualifier => Some(column.clone()),
        _ => None,
    }
}

fn bare(node: &SyntaxNode) -> Option<Name> {
    ast::NameRef::can_cast(node.kind()).then(|| Name::new(ast::normalize_name_node(node)))
}
