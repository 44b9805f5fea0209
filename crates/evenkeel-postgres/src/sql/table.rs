//! Tables and indexes, as they are made and changed.

use squawk_syntax::ast::{self, AstNode as _};

use super::column;
use super::node::{end, last_name, offset, sql, word};
use super::statement::{Complain, Read};
use super::{Action, Change, expression};
use crate::name::Name;
use crate::shape::{Expression, Index, Table};

pub(super) fn create_table(it: &ast::CreateTable, complain: Complain<'_>) -> Vec<Read> {
    let node = it.syntax();
    let Some(name) = it.table_name().and_then(|name| last_name(name.syntax())) else {
        return Vec::new();
    };
    let mut table = Table::new(name.clone());
    table.partitioned = it.partition_by().is_some() || it.partition_of().is_some();
    let mut columns = Vec::new();
    for arg in it.table_arg_list().into_iter().flat_map(|list| list.args()) {
        match arg {
            ast::TableArg::Column(column) => {
                let Some((read, constraints)) = column::column(
                    &name,
                    column.syntax(),
                    column.name().map(|it| it.syntax().clone()),
                    column.ty(),
                    complain,
                ) else {
                    continue;
                };
                columns.push((offset(column.syntax()), read.name.clone()));
                table.columns.push(read);
                table.constraints.extend(constraints);
            }
            ast::TableArg::TableConstraint(constraint) => {
                if let Some(read) = column::constraint(&name, constraint.syntax()) {
                    table.constraints.push(read);
                }
            }
            ast::TableArg::LikeClause(like) => complain(
                offset(like.syntax()),
                "LIKE is not modelled: write the columns out".to_owned(),
            ),
        }
    }
    // A primary key refuses NULL, whatever its columns say.
    let key = table.key().to_vec();
    for column in &mut table.columns {
        column.not_null |= key.contains(&column.name);
    }
    vec![Read {
        starts: vec![offset(node)],
        end: end(node),
        sql: sql(node),
        action: Action::CreateTable {
            table,
            lenient: it.if_not_exists().is_some(),
            answers: std::collections::BTreeMap::new(),
            places: std::collections::BTreeMap::new(),
        },
        table: Some(name),
        columns,
    }]
}

pub(super) fn alter_table(it: &ast::AlterTable, complain: Complain<'_>) -> Vec<Read> {
    let Some(table) = it.table_relation_name().and_then(|name| last_name(name.syntax())) else {
        return vec![Read {
            starts: vec![offset(it.syntax())],
            end: end(it.syntax()),
            sql: sql(it.syntax()),
            action: Action::Raw,
            table: None,
            columns: Vec::new(),
        }];
    };
    let mut all = Vec::new();
    for (at, action) in it.actions().enumerate() {
        let node = action.syntax();
        all.push(Read {
            // A comment above the statement is about its first action.
            starts: if at == 0 {
                vec![offset(it.syntax()), offset(node)]
            } else {
                vec![offset(node)]
            },
            end: end(it.syntax()),
            sql: format!("ALTER TABLE {table} {}", sql(node)),
            action: Action::Alter {
                lenient: it.if_exists().is_some(),
                table: table.clone(),
                change: change(&table, &action, complain),
            },
            table: Some(table.clone()),
            columns: Vec::new(),
        });
    }
    all
}

pub(super) fn change(
    table: &Name,
    action: &ast::AlterTableAction,
    complain: Complain<'_>,
) -> Change {
    known_change(table, action, complain).unwrap_or(Change::Other)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is not known is not modelled")]
pub(super) fn known_change(
    table: &Name,
    action: &ast::AlterTableAction,
    complain: Complain<'_>,
) -> Option<Change> {
    Some(match action {
        ast::AlterTableAction::TableRenameTo(it) => {
            Change::Rename { to: last_name(it.table_name()?.syntax())? }
        }
        ast::AlterTableAction::AddColumn(it) => {
            let name = it.column_name().map(|it| it.syntax().clone());
            let (column, constraints) =
                column::column(table, it.syntax(), name, it.ty(), complain)?;
            Change::AddColumn { column, constraints, lenient: it.if_not_exists().is_some() }
        }
        ast::AlterTableAction::DropColumn(it) => Change::DropColumn {
            column: word(it.column_name_ref()?.syntax())?,
            lenient: it.if_exists().is_some(),
        },
        ast::AlterTableAction::RenameColumn(it) => Change::RenameColumn {
            column: word(it.column_name_ref()?.syntax())?,
            to: word(it.column_name()?.syntax())?,
        },
        ast::AlterTableAction::AddConstraint(it) => {
            let node = it.syntax().children().find(|it| ast::Constraint::can_cast(it.kind()))?;
            let using = node.descendants().find_map(ast::UsingIndexName::cast);
            Change::AddConstraint {
                constraint: column::constraint(table, &node)?,
                using: using.and_then(|it| last_name(it.syntax())),
            }
        }
        ast::AlterTableAction::DropConstraint(it) => Change::DropConstraint {
            constraint: word(it.constraint_name_ref()?.syntax())?,
            lenient: it.if_exists().is_some(),
        },
        ast::AlterTableAction::RenameConstraint(it) => Change::RenameConstraint {
            constraint: word(it.constraint_name_ref()?.syntax())?,
            to: word(it.constraint_name()?.syntax())?,
        },
        ast::AlterTableAction::ValidateConstraint(_) => Change::Validate,
        ast::AlterTableAction::AlterColumn(it) => {
            let column = word(it.column_name_ref()?.syntax())?;
            match it.option()? {
                ast::AlterColumnOption::SetType(set) => Change::Retype {
                    column,
                    kind: column::kind(&set.ty()?),
                    collation: set.collate().and_then(|it| column::collation(&it)),
                    using: set
                        .using_expr()
                        .and_then(|it| it.expr())
                        .map(|it| expression::read(it.syntax(), table)),
                },
                ast::AlterColumnOption::SetNotNull(_) => Change::SetNotNull { column },
                ast::AlterColumnOption::DropNotNull(_) => Change::DropNotNull { column },
                ast::AlterColumnOption::SetDefault(set) => Change::Default {
                    column,
                    to: Some(expression::read(set.expr()?.syntax(), table)),
                },
                ast::AlterColumnOption::SetStatistics(_)
                | ast::AlterColumnOption::SetOptions(_)
                | ast::AlterColumnOption::SetOptionsList(_)
                | ast::AlterColumnOption::ResetOptions(_)
                | ast::AlterColumnOption::SetCompression(_)
                | ast::AlterColumnOption::SetStorage(_) => Change::Later,
                ast::AlterColumnOption::DropDefault(_) => Change::Default { column, to: None },
                _ => return None,
            }
        }
        ast::AlterTableAction::OwnerTo(_)
        | ast::AlterTableAction::SetOptions(_)
        | ast::AlterTableAction::ResetOptions(_)
        | ast::AlterTableAction::ReplicaIdentity(_)
        | ast::AlterTableAction::ClusterOn(_) => Change::Later,
        _ => return None,
    })
}

pub(super) fn create_index(it: &ast::CreateIndex) -> Option<(Name, Action)> {
    let table = last_name(it.table_relation_name()?.syntax())?;
    let rest = after_table(it, &table)?;
    let name = match it.index() {
        Some(index) => last_name(index.syntax())?,
        None => {
            let columns: Vec<&str> = rest.columns().map(Name::as_str).collect();
            Name::made(&[table.as_str(), &columns.join("_"), "idx"])
        }
    };
    let unique = it.unique_token().is_some();
    let lenient = it.if_not_exists().is_some();
    let index = Index { name, unique, rest };
    Some((table.clone(), Action::CreateIndex { table, index, lenient }))
}

/// What follows the table in `CREATE INDEX`, with the columns that it names.
pub(super) fn after_table(index: &ast::CreateIndex, table: &Name) -> Option<Expression> {
    let node = index.syntax();
    let relation = index.table_relation_name()?;
    let mut rest = node.children().skip_while(|it| it != relation.syntax()).skip(1);
    let first = rest.next()?;
    let last = rest.last().unwrap_or_else(|| first.clone());
    Some(expression::read_between(&first, &last, table, false))
}

/// `ALTER INDEX a RENAME TO b`.
pub(super) fn rename_index(it: &ast::AlterIndex) -> Option<Action> {
    let index = last_name(it.syntax().children().find_map(ast::IndexRef::cast)?.syntax())?;
    let text = it.syntax().text().to_string();
    let (word, lower) = (" rename to ", text.to_ascii_lowercase());
    let to = &text[lower.find(word)? + word.len()..];
    let to = Name::written(to.trim_end_matches(';').trim());
    Some(Action::RenameIndex { index, to })
}
