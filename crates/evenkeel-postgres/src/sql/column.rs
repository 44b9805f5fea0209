//! Columns and constraints.

use squawk_syntax::ast::{self, AstNode as _};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::expression;
use super::node::{last_name, offset, word};
use super::statement::Complain;
use crate::kind::Kind;
use crate::name::Name;
use crate::shape::{Column, Constraint, Made, Rule};

/// A column with the constraints that stand beside it, under the names the server gives them.
pub(super) fn column(
    table: &Name,
    node: &SyntaxNode,
    name: Option<SyntaxNode>,
    ty: Option<ast::Type>,
    complain: Complain<'_>,
) -> Option<(Column, Vec<Constraint>)> {
    let name = word(&name?)?;
    let ty = ty?;
    let written = ty.syntax().text().to_string().to_lowercase();
    let serial = written.contains("serial");
    let mut column = Column {
        name: name.clone(),
        kind: kind(&ty),
        collation: node.children().find_map(ast::Collate::cast).and_then(|it| collation(&it)),
        not_null: serial,
        default: None,
        made: if serial { Made::Serial } else { Made::Written },
        sequence: None,
        last: None,
    };
    let mut constraints = Vec::new();
    for child in node.children() {
        if ast::NotNullConstraint::can_cast(child.kind()) {
            column.not_null = true;
        } else if let Some(it) = ast::DefaultConstraint::cast(child.clone()) {
            column.default = it.expr().map(|it| expression::read(it.syntax(), table));
        } else if let Some(it) = ast::GeneratedConstraint::cast(child.clone()) {
            column.made = generated(&it);
            column.not_null |= column.made != Made::Computed;
        } else if ast::NullConstraint::can_cast(child.kind()) {
            // The default says the same.
        } else if ast::Constraint::can_cast(child.kind()) {
            match beside(table, &name, &child) {
                Some(constraint) => {
                    column.not_null |= matches!(constraint.rule, Rule::Primary { .. });
                    constraints.push(constraint);
                }
                None => complain(offset(&child), "this constraint is not modelled".to_owned()),
            }
        }
    }
    Some((column, constraints))
}

/// A constraint that stands beside a column, and is about it.
pub(super) fn beside(table: &Name, column: &Name, node: &SyntaxNode) -> Option<Constraint> {
    let given = constraint_name(node);
    let named = |suffix: &str| {
        given.clone().unwrap_or_else(|| Name::made(&[table.as_str(), column.as_str(), suffix]))
    };
    let columns = vec![column.clone()];
    if let Some(it) = ast::CheckConstraint::cast(node.clone()) {
        let expression = expression::read(it.expr()?.syntax(), table);
        return Some(Constraint { name: named("check"), rule: Rule::Check { expression } });
    }
    if ast::UniqueConstraint::can_cast(node.kind()) {
        let rule = Rule::Unique { columns, include: included(node), rest: unique_rest(node) };
        return Some(Constraint { name: named("key"), rule });
    }
    if ast::PrimaryKeyConstraint::can_cast(node.kind()) {
        let name = given.unwrap_or_else(|| Name::made(&[table.as_str(), "pkey"]));
        return Some(Constraint { name, rule: Rule::Primary { columns } });
    }
    let it = ast::ReferencesConstraint::cast(node.clone())?;
    let to = node.children().find_map(ast::ColumnNameRef::cast);
    let rule = Rule::Foreign {
        columns,
        table: last_name(it.table()?.syntax())?,
        to: to.and_then(|it| word(it.syntax())).into_iter().collect(),
        rest: foreign_rest(node),
    };
    Some(Constraint { name: named("fkey"), rule })
}

/// A constraint that stands alone.
pub(super) fn constraint(table: &Name, node: &SyntaxNode) -> Option<Constraint> {
    let given = constraint_name(node);
    let named = |columns: &[Name], suffix: &str| {
        let columns: Vec<&str> = columns.iter().map(Name::as_str).collect();
        given.clone().unwrap_or_else(|| match columns.as_slice() {
            [] => Name::made(&[table.as_str(), suffix]),
            columns => Name::made(&[table.as_str(), &columns.join("_"), suffix]),
        })
    };
    if let Some(it) = ast::CheckConstraint::cast(node.clone()) {
        let expression = expression::read(it.expr()?.syntax(), table);
        // The server names the column too where there is one alone.
        let mut columns: Vec<Name> = expression.columns().cloned().collect();
        columns.sort();
        columns.dedup();
        let one: &[Name] = if columns.len() == 1 { &columns } else { &[] };
        return Some(Constraint { name: named(one, "check"), rule: Rule::Check { expression } });
    }
    if ast::UniqueConstraint::can_cast(node.kind()) {
        let columns = listed(node);
        let name = named(&columns, "key");
        return Some(Constraint {
            name,
            rule: Rule::Unique { columns, include: included(node), rest: unique_rest(node) },
        });
    }
    if ast::PrimaryKeyConstraint::can_cast(node.kind()) {
        let name = named(&[], "pkey");
        return Some(Constraint { name, rule: Rule::Primary { columns: listed(node) } });
    }
    if let Some(it) = ast::ForeignKeyConstraint::cast(node.clone()) {
        let lists: Vec<Vec<Name>> = node
            .children()
            .filter_map(ast::ForeignKeyColumnList::cast)
            .map(|list| listed_in(list.syntax()))
            .collect();
        let mut lists = lists.into_iter();
        let columns = lists.next()?;
        let name = named(&columns, "fkey");
        let rule = Rule::Foreign {
            columns,
            table: last_name(it.table_name_ref()?.syntax())?,
            to: lists.next().unwrap_or_default(),
            rest: foreign_rest(node),
        };
        return Some(Constraint { name, rule });
    }
    None
}

/// Who makes the values of a generated column.
pub(super) fn generated(it: &ast::GeneratedConstraint) -> Made {
    let words = it.syntax().text().to_string().to_lowercase();
    match (words.contains("identity"), words.contains("by default")) {
        (false, _) => Made::Computed,
        (true, true) => Made::IdentityByDefault,
        (true, false) => Made::IdentityAlways,
    }
}

pub(super) fn kind(ty: &ast::Type) -> Kind {
    Kind::parse(&ty.syntax().text().to_string())
}

pub(super) fn collation(it: &ast::Collate) -> Option<String> {
    it.syntax()
        .children()
        .find_map(ast::CollationRef::cast)
        .map(|it| it.syntax().text().to_string())
}

pub(super) fn constraint_name(node: &SyntaxNode) -> Option<Name> {
    let clause = node.children().find_map(ast::ConstraintNameClause::cast)?;
    word(clause.constraint_name()?.syntax())
}

/// The columns in the list of a key.
pub(super) fn listed(node: &SyntaxNode) -> Vec<Name> {
    node.descendants()
        .find(|it| it.kind() == SyntaxKind::CONSTRAINT_COLUMN_REF_LIST)
        .map(|list| listed_in(&list))
        .unwrap_or_default()
}

pub(super) fn listed_in(list: &SyntaxNode) -> Vec<Name> {
    list.children()
        .filter_map(ast::ColumnNameRef::cast)
        .filter_map(|it| word(it.syntax()))
        .collect()
}

/// The columns that the index of a unique constraint holds beside its own.
pub(super) fn included(node: &SyntaxNode) -> Vec<Name> {
    node.descendants()
        .find(|it| it.kind() == SyntaxKind::CONSTRAINT_INCLUDE_CLAUSE)
        .into_iter()
        .flat_map(|it| it.descendants().filter_map(ast::NameRef::cast).collect::<Vec<_>>())
        .map(|it| Name::new(it.text()))
        .collect()
}

/// What a unique constraint says beside its columns.
pub(super) fn unique_rest(node: &SyntaxNode) -> String {
    let options = node
        .descendants()
        .filter(|it| {
            matches!(it.kind(), SyntaxKind::NULLS_DISTINCT | SyntaxKind::NULLS_NOT_DISTINCT)
                || ast::ConstraintOption::can_cast(it.kind())
        })
        .map(|it| it.text().to_string());
    options.collect::<Vec<_>>().join(" ")
}

/// What a foreign key says beside its columns and its table. `NOT VALID` is how it is made here
/// anyway.
pub(super) fn foreign_rest(node: &SyntaxNode) -> String {
    let options = node
        .children()
        .filter(|it| {
            ast::MatchType::can_cast(it.kind())
                || ast::ReferentialAction::can_cast(it.kind())
                || (ast::ConstraintOption::can_cast(it.kind())
                    && it.kind() != SyntaxKind::NOT_VALID)
        })
        .map(|it| it.text().to_string());
    options.collect::<Vec<_>>().join(" ")
}
