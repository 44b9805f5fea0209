//! One statement of the tree, as the actions that it asks for.

use squawk_syntax::ast::{self, AstNode as _};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::node::{child, child_text, end, last_name, names, offset, repeatable, sql, word};
use super::rows::{copy, data, fill};
use super::{Action, table};
use crate::name::Name;

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
pub(super) type Complain<'a> = &'a mut dyn FnMut(usize, String);

/// Reads a statement into its actions.
#[expect(clippy::wildcard_enum_match_arm, reason = "the grammar has some 180 statements")]
pub(super) fn read(stmt: &ast::Stmt, schema: &Name, complain: Complain<'_>) -> Vec<Read> {
    let node = stmt.syntax();
    if let Some(missing) = foreign_schema(node, schema) {
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
        ast::Stmt::CreateTable(it) => table::create_table(it, complain),
        ast::Stmt::AlterTable(it) => table::alter_table(it, complain),
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
        ast::Stmt::CreateIndex(it) => match table::create_index(it) {
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
        ast::Stmt::AlterIndex(it) => match table::rename_index(it) {
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
        ast::Stmt::CreateDomain(_) => made("DOMAIN", child::<ast::Domain>(node)),
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
        [.., table, _] => {
            let sequence = child::<ast::SequenceRef>(node).and_then(|it| last_name(&it));
            let makes = sequence.map(|it| ("SEQUENCE", it));
            Action::OnTable { table: table.clone(), makes, undo: None }
        }
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

/// Why a statement is not about the schema that is managed, if it names a table of another.
fn foreign_schema(node: &SyntaxNode, schema: &Name) -> Option<String> {
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
            let other = qualifier.last()?;
            (other != schema)
                .then(|| format!("{other} is another schema than the {schema} that is managed"))
        })
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
