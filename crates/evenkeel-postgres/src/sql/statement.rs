//! One statement of the tree, as the actions that it asks for.

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::{Action, Change};
use super::{expression, lookup};
use crate::kind::Kind;
use crate::name::Name;
use crate::shape::{Column, Constraint, Expression, Index, Made, Rule, Table};

/// An action with where it stands.
pub(super) struct Read {
    /// Where it begins, in bytes: the first action of a statement where that does, too.
    pub(super) starts: Vec<usize>,
    /// Where its statement ends.
    pub(super) end: usize,
    /// It alone, as SQL.
    pub(super) sql: String,
    /// What it asks for.
    pub(super) action: Action,
    /// The table that it is about, if it is about one.
    pub(super) table: Option<Name>,
    /// Columns that are described in it, and where each begins.
    pub(super) columns: Vec<(usize, Name)>,
}

impl Read {
    /// Where it begins.
    pub(super) fn start(&self) -> usize {
        self.starts.last().copied().unwrap_or_default()
    }

    /// Whether a byte of the file is within it.
    pub(super) fn holds(&self, offset: usize) -> bool {
        self.starts.first().is_some_and(|start| (*start..self.end).contains(&offset))
    }
}

/// Told of what is not understood: where, and why.
type Complain<'a> = &'a mut dyn FnMut(usize, String);

/// Reads a statement into its actions.
#[expect(clippy::wildcard_enum_match_arm, reason = "the grammar has some 180 statements")]
pub(super) fn read(stmt: &ast::Stmt, schema: &Name, complain: Complain<'_>) -> Vec<Read> {
    let node = stmt.syntax();
    let reader = Reader { schema };
    if let Some(missing) = reader.foreign_schema(node) {
        complain(offset(node), missing);
        return Vec::new();
    }
    let one = |action: Action, table: Option<Name>| {
        vec![Read {
            starts: vec![offset(node)],
            end: end(node),
            sql: sql(node),
            action,
            table,
            columns: Vec::new(),
        }]
    };
    match stmt {
        ast::Stmt::CreateTable(it) => reader.create_table(it, complain),
        ast::Stmt::AlterTable(it) => reader.alter_table(it, complain),
        ast::Stmt::DropTable(it) => {
            let lenient = it.if_exists().is_some();
            let tables = it.syntax().children().filter_map(ast::TableNameRef::cast);
            tables
                .filter_map(|table| last_name(table.syntax()))
                .flat_map(|table| {
                    one(Action::DropTable { table: table.clone(), lenient }, Some(table))
                })
                .collect()
        }
        ast::Stmt::CreateIndex(it) => match reader.create_index(it) {
            Some((table, action)) => one(action, Some(table)),
            None => one(Action::Raw, None),
        },
        ast::Stmt::DropIndex(it) => {
            let lenient = it.if_exists().is_some();
            let indexes = it.syntax().children().filter_map(ast::IndexRef::cast);
            indexes
                .filter_map(|index| last_name(index.syntax()))
                .flat_map(|index| one(Action::DropIndex { index, lenient }, None))
                .collect()
        }
        ast::Stmt::AlterIndex(it) => match rename_index(it) {
            Some(action) => one(action, None),
            None => one(Action::Raw, None),
        },
        ast::Stmt::AlterType(it)
            if matches!(it.action(), Some(ast::AlterTypeAction::AddValue(_))) =>
        {
            let mut all = one(Action::Value, None);
            all.iter_mut().for_each(|it| it.sql = repeatable(node));
            all
        }
        ast::Stmt::Update(it) => match fill(it) {
            Some((table, columns)) => {
                one(Action::Fill { table: table.clone(), columns }, Some(table))
            }
            None => one(data(it.relation_name().map(|it| it.syntax().clone())), None),
        },
        ast::Stmt::Insert(it) if let Some(copy) = copy(it) => one(copy, None),
        ast::Stmt::Insert(it) => {
            one(data(it.relation_name_ref().map(|it| it.syntax().clone())), None)
        }
        ast::Stmt::Delete(it) => one(data(it.relation_name().map(|it| it.syntax().clone())), None),
        ast::Stmt::Select(_) | ast::Stmt::Truncate(_) | ast::Stmt::Merge(_) => {
            one(Action::Data { table: None }, None)
        }
        ast::Stmt::DropTrigger(_) | ast::Stmt::DropPolicy(_) | ast::Stmt::DropRule(_) => {
            one(leaving(node), None)
        }
        ast::Stmt::CreateTrigger(_) | ast::Stmt::CreatePolicy(_) | ast::Stmt::CreateRule(_) => {
            one(on_table(node), None)
        }
        ast::Stmt::DropView(_) | ast::Stmt::DropMaterializedView(_) => {
            let words = sql(node).to_lowercase();
            let (lenient, cascade) = (words.contains("if exists"), words.ends_with("cascade"));
            let views = node.children().filter_map(ast::ViewRef::cast);
            views
                .filter_map(|view| last_name(view.syntax()))
                .flat_map(|view| one(Action::DropView { view, lenient, cascade }, None))
                .collect()
        }
        other => one(super::statement::other(other), None),
    }
}

/// Statements that are about no table: what can be made for each revision, what is new and harmless,
/// what may only go at the end, and what is only about how the file runs.
#[expect(clippy::wildcard_enum_match_arm, reason = "the grammar has some 180 statements")]
fn other(stmt: &ast::Stmt) -> Action {
    let node = stmt.syntax();
    let named = |words: &'static str, name: Option<String>| match name {
        Some(name) => Action::Code { what: words, name },
        None => Action::Raw,
    };
    let made = |what: &'static str, name: Option<SyntaxNode>| Action::Object {
        makes: name.as_ref().and_then(last_name).map(|name| (what, name)),
        undo: name.map(|name| format!("DROP {what} IF EXISTS {}", name.text())),
    };
    let nothing = Action::Object { makes: None, undo: None };
    match stmt {
        ast::Stmt::CreateView(_) => named("VIEW", child_text::<ast::View>(node)),
        ast::Stmt::CreateFunction(it) => named("FUNCTION", signature(node, it.param_list())),
        ast::Stmt::CreateProcedure(it) => named("PROCEDURE", signature(node, it.param_list())),
        ast::Stmt::CreateMaterializedView(_) => {
            named("MATERIALIZED VIEW", child_text::<ast::View>(node))
        }
        ast::Stmt::Grant(_) | ast::Stmt::Revoke(_) => Action::Rights {
            taken: matches!(stmt, ast::Stmt::Revoke(_)),
            on: node
                .children()
                .find_map(ast::OnPrivilegeObjectsClause::cast)
                .map(|it| names(it.syntax()))
                .unwrap_or_default(),
        },
        ast::Stmt::AlterDefaultPrivileges(_) => nothing,
        ast::Stmt::DropFunction(_) | ast::Stmt::DropProcedure(_) => match names(node).first() {
            Some(name) => Action::DropCode { name: name.clone() },
            None => Action::Farewell,
        },
        ast::Stmt::CreateType(_) => made("TYPE", child::<ast::TypeName>(node)),
        ast::Stmt::CreateSequence(_) => made("SEQUENCE", child::<ast::Sequence>(node)),
        ast::Stmt::CreateDomain(_) => made("DOMAIN", child::<ast::TypeName>(node)),
        // It may have been there.
        ast::Stmt::CreateExtension(_) => Action::Object {
            makes: child::<ast::Extension>(node)
                .and_then(|it| word(&it))
                .map(|it| ("EXTENSION", it)),
            undo: None,
        },
        ast::Stmt::AlterSequence(_) => owned(node),
        ast::Stmt::CommentOn(_)
        | ast::Stmt::DropType(_)
        | ast::Stmt::DropSequence(_)
        | ast::Stmt::DropDomain(_)
        | ast::Stmt::DropExtension(_) => Action::Farewell,
        ast::Stmt::Begin(_)
        | ast::Stmt::Commit(_)
        | ast::Stmt::Set(_)
        | ast::Stmt::Reset(_)
        | ast::Stmt::Show(_)
        | ast::Stmt::SetTransaction(_)
        | ast::Stmt::SetConstraints(_)
        | ast::Stmt::Analyze(_)
        | ast::Stmt::Vacuum(_)
        | ast::Stmt::Lock(_)
        | ast::Stmt::EmptyStmt(_) => Action::Manner,
        _ => Action::Raw,
    }
}

/// Rows that are written into the table that is named by `node`.
fn data(node: Option<SyntaxNode>) -> Action {
    Action::Data { table: node.and_then(|node| last_name(&node)) }
}

/// A trigger, a policy or a rule that goes.
fn leaving(node: &SyntaxNode) -> Action {
    let named = |kinds: &[SyntaxKind]| node.children().find(|it| kinds.contains(&it.kind()));
    let name = named(&[SyntaxKind::TRIGGER_REF, SyntaxKind::POLICY_REF, SyntaxKind::RULE_REF]);
    let name = name.and_then(|it| word(&it));
    let table = named(&[SyntaxKind::ON_RELATION, SyntaxKind::ON_TABLE]);
    match (name, table.and_then(|it| last_name(&it))) {
        (Some(name), Some(table)) => Action::Leaving { table, name },
        _ => Action::Raw,
    }
}

/// A sequence that belongs to a column from now on.
fn owned(node: &SyntaxNode) -> Action {
    let column = node.descendants().find_map(ast::QualifiedColumnNameRef::cast);
    let path = column.map(|it| names(it.syntax())).unwrap_or_default();
    match path.as_slice() {
        [.., table, _] => Action::OnTable { table: table.clone(), makes: None, undo: None },
        _ => Action::Raw,
    }
}

/// A trigger, a policy or a rule, which has a name and a table.
fn on_table(node: &SyntaxNode) -> Action {
    const WORDS: [(SyntaxKind, &str); 3] = [
        (SyntaxKind::TRIGGER, "TRIGGER"),
        (SyntaxKind::POLICY, "POLICY"),
        (SyntaxKind::RULE, "RULE"),
    ];
    let named = |it: SyntaxNode| {
        let (_, what) = WORDS.into_iter().find(|(kind, _)| *kind == it.kind())?;
        Some((what, word(&it)?))
    };
    let Some((what, name)) = node.children().find_map(named) else { return Action::Raw };
    let on = [SyntaxKind::ON_RELATION, SyntaxKind::ON_TABLE, SyntaxKind::RULE_ON];
    let table = node.children().find(|it| on.contains(&it.kind()));
    match table.and_then(|it| last_name(&it)) {
        Some(table) => {
            let undo = Some(format!("DROP {what} IF EXISTS {name} ON {table}"));
            Action::OnTable { table, makes: Some((what, name)), undo }
        }
        None => Action::Raw,
    }
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

struct Reader<'a> {
    schema: &'a Name,
}

impl Reader<'_> {
    /// Why a statement is not about the schema that is managed, if it names a table of another.
    fn foreign_schema(&self, node: &SyntaxNode) -> Option<String> {
        node.descendants()
            .filter(|it| {
                matches!(
                    it.kind(),
                    SyntaxKind::TABLE_NAME | SyntaxKind::TABLE_NAME_REF | SyntaxKind::INDEX_REF
                )
            })
            .find_map(|it| {
                let names = names(&it);
                let (_, qualifier) = names.split_last()?;
                let schema = qualifier.last()?;
                (schema != self.schema).then(|| {
                    format!("{schema} is another schema than the {} that is managed", self.schema)
                })
            })
    }

    fn create_table(&self, it: &ast::CreateTable, complain: Complain<'_>) -> Vec<Read> {
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
                    let Some((read, constraints)) = self.column(
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
                    if let Some(read) = self.constraint(&name, constraint.syntax()) {
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

    fn alter_table(&self, it: &ast::AlterTable, complain: Complain<'_>) -> Vec<Read> {
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
                    table: table.clone(),
                    change: self.change(&table, &action, complain),
                },
                table: Some(table.clone()),
                columns: Vec::new(),
            });
        }
        all
    }

    fn change(
        &self,
        table: &Name,
        action: &ast::AlterTableAction,
        complain: Complain<'_>,
    ) -> Change {
        self.known_change(table, action, complain).unwrap_or(Change::Other)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not known is not modelled")]
    fn known_change(
        &self,
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
                    self.column(table, it.syntax(), name, it.ty(), complain)?;
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
                let node =
                    it.syntax().children().find(|it| ast::Constraint::can_cast(it.kind()))?;
                let using = node.descendants().find_map(ast::UsingIndexName::cast);
                Change::AddConstraint {
                    constraint: self.constraint(table, &node)?,
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
                        kind: kind(&set.ty()?),
                        collation: set.collate().and_then(|it| collation(&it)),
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

    fn create_index(&self, it: &ast::CreateIndex) -> Option<(Name, Action)> {
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

    /// A column with the constraints that stand beside it, under the names the server gives them.
    fn column(
        &self,
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
                match self.beside(table, &name, &child) {
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
    fn beside(&self, table: &Name, column: &Name, node: &SyntaxNode) -> Option<Constraint> {
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
    fn constraint(&self, table: &Name, node: &SyntaxNode) -> Option<Constraint> {
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
            return Some(Constraint {
                name: named(one, "check"),
                rule: Rule::Check { expression },
            });
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
}

/// `ALTER INDEX a RENAME TO b`.
fn rename_index(it: &ast::AlterIndex) -> Option<Action> {
    let index = last_name(it.syntax().children().find_map(ast::IndexRef::cast)?.syntax())?;
    let text = it.syntax().text().to_string();
    let (_, to) = text.rsplit_once(char::is_whitespace)?;
    let rename = text.to_lowercase().contains(" rename to ");
    let to = Name::written(to.trim_end_matches(';').trim());
    rename.then_some(Action::RenameIndex { index, to })
}

/// `UPDATE t SET a = f(b)`, for every row, or for those whose `a` is NULL.
fn fill(it: &ast::Update) -> Option<(Name, Vec<(Name, Expression)>)> {
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
fn copy(it: &ast::Insert) -> Option<Action> {
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

/// Who makes the values of a generated column.
fn generated(it: &ast::GeneratedConstraint) -> Made {
    let words = it.syntax().text().to_string().to_lowercase();
    match (words.contains("identity"), words.contains("by default")) {
        (false, _) => Made::Computed,
        (true, true) => Made::IdentityByDefault,
        (true, false) => Made::IdentityAlways,
    }
}

fn kind(ty: &ast::Type) -> Kind {
    Kind::parse(&ty.syntax().text().to_string())
}

fn collation(it: &ast::Collate) -> Option<String> {
    it.syntax()
        .children()
        .find_map(ast::CollationRef::cast)
        .map(|it| it.syntax().text().to_string())
}

fn constraint_name(node: &SyntaxNode) -> Option<Name> {
    let clause = node.children().find_map(ast::ConstraintNameClause::cast)?;
    word(clause.constraint_name()?.syntax())
}

/// The columns in the list of a key.
fn listed(node: &SyntaxNode) -> Vec<Name> {
    node.descendants()
        .find(|it| it.kind() == SyntaxKind::CONSTRAINT_COLUMN_REF_LIST)
        .map(|list| listed_in(&list))
        .unwrap_or_default()
}

fn listed_in(list: &SyntaxNode) -> Vec<Name> {
    list.children()
        .filter_map(ast::ColumnNameRef::cast)
        .filter_map(|it| word(it.syntax()))
        .collect()
}

/// The columns that the index of a unique constraint holds beside its own.
fn included(node: &SyntaxNode) -> Vec<Name> {
    node.descendants()
        .find(|it| it.kind() == SyntaxKind::CONSTRAINT_INCLUDE_CLAUSE)
        .into_iter()
        .flat_map(|it| it.descendants().filter_map(ast::NameRef::cast).collect::<Vec<_>>())
        .map(|it| Name::new(it.text()))
        .collect()
}

/// What a unique constraint says beside its columns.
fn unique_rest(node: &SyntaxNode) -> String {
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
fn foreign_rest(node: &SyntaxNode) -> String {
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

/// `f(integer, text)`, as SQL wants it to drop a function.
fn signature(node: &SyntaxNode, params: Option<ast::ParamList>) -> Option<String> {
    let name = child_text::<ast::FunctionName>(node).or_else(|| {
        node.children()
            .find(|it| it.kind() == SyntaxKind::PROCEDURE_NAME)
            .map(|it| it.text().to_string())
    })?;
    let params = params?;
    let kinds: Vec<String> = params
        .syntax()
        .children()
        .filter(|it| ast::Param::can_cast(it.kind()))
        .filter_map(|param| {
            let ty = param.children().find(|it| ast::Type::can_cast(it.kind()))?;
            Some(ty.text().to_string())
        })
        .collect();
    Some(format!("{name}({})", kinds.join(", ")))
}

fn child<N: AstNode>(node: &SyntaxNode) -> Option<SyntaxNode> {
    node.children().find_map(N::cast).map(|it| it.syntax().clone())
}

fn child_text<N: AstNode>(node: &SyntaxNode) -> Option<String> {
    child::<N>(node).map(|it| it.text().to_string())
}

/// All parts of a dotted name.
fn names(node: &SyntaxNode) -> Vec<Name> {
    node.descendants()
        .filter(|it| matches!(it.kind(), SyntaxKind::PATH_SEGMENT | SyntaxKind::PATH_SEGMENT_REF))
        .map(|it| Name::new(ast::normalize_name_node(&it)))
        .collect()
}

/// The last part of a dotted name.
fn last_name(node: &SyntaxNode) -> Option<Name> {
    names(node).pop()
}

/// A name that has one part.
fn word(node: &SyntaxNode) -> Option<Name> {
    let node = node.descendants().find(|it| {
        it.children_with_tokens().any(|it| it.into_token().is_some_and(|it| !it.kind().is_trivia()))
    })?;
    Some(Name::new(ast::normalize_name_node(&node)))
}

fn end(node: &SyntaxNode) -> usize {
    usize::from(node.text_range().end())
}

fn offset(node: &SyntaxNode) -> usize {
    usize::from(node.text_range().start())
}

/// `ALTER TYPE … ADD VALUE` so that it can be run twice.
fn repeatable(node: &SyntaxNode) -> String {
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
fn sql(node: &SyntaxNode) -> String {
    sql_until(node, end(node)).trim_end_matches(';').trim().to_owned()
}

/// The statement as [`sql`] gives it, up to a byte of the file.
fn sql_until(node: &SyntaxNode, end: usize) -> String {
    let mut out = String::new();
    let tokens = node.descendants_with_tokens().filter_map(|it| it.into_token());
    for token in tokens.take_while(|it| usize::from(it.text_range().end()) <= end) {
        let text = if token.kind() == SyntaxKind::COMMENT { " " } else { token.text() };
        out.push_str(text);
    }
    out.trim().to_owned()
}
