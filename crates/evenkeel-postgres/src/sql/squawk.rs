//! The grammar of squawk's parser: PostgreSQL's own words, in pure Rust, with a tree that keeps every
//! byte, so that a problem points at its line and an expression is rewritten where columns stand.

use std::collections::BTreeMap;

use squawk_syntax::ast::{self, AstNode as _};
use squawk_syntax::{SourceFile, SyntaxKind, SyntaxNode, SyntaxToken};

use super::answers::{self, Answer, Thing};
use super::statement::{self, Read};
use super::{Action, Answers, Grammar, Statement, expression, table};
use crate::name::Name;
use crate::problem::{Place, Problem};
use crate::shape::Expression;

/// The grammar of squawk's parser.
#[derive(Debug, Clone, Copy, Default)]
pub struct Squawk;

impl Grammar for Squawk {
    fn read(&self, file: &str, text: &str, schema: &Name) -> (Vec<Statement>, Vec<Problem>) {
        let parse = SourceFile::parse(text);
        let lines = Lines::of(text);
        let place = |offset: usize| Place { file: file.to_owned(), line: lines.of_offset(offset) };
        let mut problems: Vec<Problem> = parse
            .errors()
            .iter()
            .map(|error| {
                let at = place(usize::from(error.range().start()));
                Problem::new(&at, format!("not SQL that PostgreSQL knows: {}", error.message()))
            })
            .collect();
        if !problems.is_empty() {
            // What follows a mistake on its line mostly comes of it.
            problems.dedup_by_key(|it| it.at.line);
            return (Vec::new(), problems);
        }

        let text = &unqualified(&parse.syntax_node(), text, schema);
        let root = SourceFile::parse(text).syntax_node();
        let mut read = Vec::new();
        for stmt in root.children().filter_map(ast::Stmt::cast) {
            statement::read(&stmt, schema, &mut |offset, what| {
                problems.push(Problem::new(&place(offset), what));
            })
            .into_iter()
            .for_each(|it| read.push(it));
        }
        let (about_tables, said): (Vec<_>, Vec<_>) = answers::find(&root, text)
            .into_iter()
            .partition(|it| matches!(it.word, "gone" | "kept"));
        let mut said = self.attach(&said, &read, &place, &mut problems);
        let mut alone = Vec::new();
        for answer in about_tables {
            let at = place(answer.offset);
            let within = read.iter().position(|it| it.holds(answer.offset));
            match self.lists(&answer, within.map(|at| (&read[at], &mut said[at]))) {
                Ok(None) => {}
                Ok(Some(action)) => {
                    let sql = format!("-- {}: {}", answer.word, answer.text);
                    alone.push(Statement { at, sql, action, answers: Answers::default() });
                }
                Err(why) => {
                    problems.push(Problem::new(&at, format!("`-- {}:` {why}", answer.word)));
                }
            }
        }
        let mut statements: Vec<Statement> = read
            .into_iter()
            .zip(said)
            .map(|(it, mut said)| {
                let answers = said.remove(&None).unwrap_or_default();
                let at = place(it.start());
                let mut action = it.action;
                if let Action::CreateTable { answers, places, .. } = &mut action {
                    places.extend(it.columns.iter().map(|(at, name)| (name.clone(), place(*at))));
                    answers.extend(
                        said.into_iter().filter_map(|(column, said)| Some((column?, said))),
                    );
                }
                Statement { at, sql: it.sql, action, answers }
            })
            .collect();
        statements.extend(alone);
        (statements, problems)
    }

    fn expression(&self, text: &str, table: &Name) -> Result<Expression, String> {
        let root = parsed(&format!("SELECT {text}"))?;
        // The first is of the outermost query; those of queries within it are no siblings.
        let target = root.descendants().find_map(ast::Target::cast);
        let other = target.as_ref().and_then(|it| {
            let all = it.syntax().parent()?.children().filter_map(ast::Target::cast);
            all.into_iter().nth(1)
        });
        let piece = target.and_then(|it| it.syntax().first_child());
        match (piece, other) {
            (Some(piece), None) if piece.text().to_string().trim() == text.trim() => {
                Ok(expression::read(&piece, table))
            }
            _ => Err("one expression was expected".to_owned()),
        }
    }

    fn index(&self, rest: &str, table: &Name) -> Result<Expression, String> {
        let root = parsed(&format!("CREATE INDEX i ON {table} {rest}"))?;
        let index = root.descendants().find_map(ast::CreateIndex::cast);
        index
            .and_then(|index| table::after_table(&index, table))
            .ok_or_else(|| "what follows the table of an index was expected".to_owned())
    }
}

/// For each statement what was said of it, and of the columns in it.
type Said = Vec<BTreeMap<Option<Name>, Answers>>;

impl Squawk {
    /// Gives each answer to the thing that it stands beside.
    fn attach(
        self,
        answers: &[Answer],
        read: &[Read],
        place: &dyn Fn(usize) -> Place,
        problems: &mut Vec<Problem>,
    ) -> Said {
        let mut things = Vec::new();
        for (at, it) in read.iter().enumerate() {
            let mut push = |start, column| {
                things.push(Thing { start, end: it.end, what: (at, column) });
            };
            for start in &it.starts {
                push(*start, None);
            }
            for (start, name) in &it.columns {
                push(*start, Some(name.clone()));
            }
        }
        things.sort();
        let mut said: Said = vec![BTreeMap::new(); read.len()];
        for answer in answers {
            let at = place(answer.offset);
            let Some((statement, column)) = answers::about(answer, &things) else {
                problems.push(Problem::new(&at, "this answer stands beside nothing"));
                continue;
            };
            if !read[*statement].action.takes(answer.word) {
                let about: Vec<&str> = read[*statement].sql.split_whitespace().take(6).collect();
                problems.push(
                    Problem::new(
                        &at,
                        format!("`-- {}:` says nothing of `{} …`", answer.word, about.join(" ")),
                    )
                    .hint(match answer.word {
                        "up" => "it belongs beside ADD COLUMN, ALTER COLUMN … TYPE or SET NOT NULL",
                        "down" => "it belongs beside DROP COLUMN, ALTER COLUMN … TYPE or DROP NOT NULL",
                        "was" => "a migration says it with RENAME",
                        _ => "it belongs beside what writes rows or is not modelled",
                    }
                    .to_owned() + ": on the same line, or on one of its own above"),
                );
                continue;
            }
            let it = said[*statement].entry(column.clone()).or_default();
            if let Err(why) = self.say(it, answer, &read[*statement]) {
                problems.push(Problem::new(&at, format!("`-- {}:` {why}", answer.word)));
            }
        }
        said
    }

    /// What an answer says of tables, or of columns of the table that it stands in.
    fn lists(
        self,
        answer: &Answer,
        within: Option<(&Read, &mut BTreeMap<Option<Name>, Answers>)>,
    ) -> Result<Option<Action>, String> {
        let (names, value) = answers::listed(&answer.text);
        let names: Vec<Name> = names.map(folded).collect::<Result<_, _>>()?;
        match (within, answer.word) {
            (Some((read, said)), "gone") => {
                let table = read.table.as_ref().ok_or("is for columns of a table")?;
                let down = value.map(|it| self.expression(it, table)).transpose()?;
                if names.len() > 1 && down.is_some() {
                    return Err("with `=` is for one column".to_owned());
                }
                let gone = &mut said.entry(None).or_default().gone;
                gone.extend(names.into_iter().map(|it| (it, down.clone())));
                Ok(None)
            }
            (Some(_), _) => Err("is about whole tables: put it outside of one".to_owned()),
            (None, _) if value.is_some() => {
                Err("is about whole tables, which have no `=`".to_owned())
            }
            (None, "gone") => Ok(Some(Action::Gone { tables: names })),
            (None, _) => Ok(Some(Action::Kept { tables: names })),
        }
    }

    /// Adds one answer to what was said.
    fn say(self, it: &mut Answers, answer: &Answer, read: &Read) -> Result<(), String> {
        let twice = match answer.word {
            "was" => it.was.replace(folded(&answer.text)?).is_some(),
            "undo" => it.undo.replace(answer.text.clone()).is_some(),
            word => {
                let table = read.table.clone().ok_or("is for a column of a table")?;
                let expression = self.expression(&answer.text, &table)?;
                let slot = if word == "up" { &mut it.up } else { &mut it.down };
                slot.replace(expression).is_some()
            }
        };
        if twice { Err("is said twice".to_owned()) } else { Ok(()) }
    }
}

/// The same text without the schema that is managed before names, with every other byte where it was.
///
/// Names are looked for in that schema, and before it in the one with the views of the revision; so a
/// statement is not to say which.
fn unqualified(root: &SyntaxNode, text: &str, schema: &Name) -> String {
    let mut text = text.as_bytes().to_vec();
    let tokens = root.descendants_with_tokens().filter_map(|it| it.into_token());
    let is_dot = |it: Option<SyntaxToken>| it.is_some_and(|it| it.kind() == SyntaxKind::DOT);
    for token in tokens {
        let range = token.text_range();
        let range = usize::from(range.start())..usize::from(range.end());
        let named = folded(token.text()).is_ok_and(|it| it == *schema);
        if named && is_dot(token.next_token()) && !is_dot(token.prev_token()) {
            text[range.start..range.end + 1].fill(b' ');
        } else if let Some(bare) = bare_regclass(&token, schema) {
            text[range.clone()].fill(b' ');
            text[range.start..range.start + bare.len()].copy_from_slice(bare.as_bytes());
        }
    }
    // What was there were whole tokens.
    String::from_utf8(text).unwrap_or_default()
}

/// `'schema.name'::regclass` without the schema: what dumps write where a sequence is named.
fn bare_regclass(token: &SyntaxToken, schema: &Name) -> Option<String> {
    let inner = token.text().strip_prefix('\'')?;
    let rest = inner.strip_prefix(&format!("{}.", schema.as_str()))?;
    let following: String = std::iter::successors(token.next_token(), SyntaxToken::next_token)
        .filter(|it| !it.kind().is_trivia())
        .take(3)
        .map(|it| it.text().to_lowercase())
        .collect();
    following.starts_with("::regclass").then(|| format!("'{rest}"))
}

/// A name as it stands in a comment: folded, but between quotes.
fn folded(text: &str) -> Result<Name, String> {
    let quoted = text.len() > 1 && text.starts_with('"') && text.ends_with('"');
    if !quoted && (text.is_empty() || text.contains(char::is_whitespace)) {
        return Err("one name was expected".to_owned());
    }
    Ok(Name::written(text))
}

/// The tree of a text without mistakes.
fn parsed(text: &str) -> Result<SyntaxNode, String> {
    let parse = SourceFile::parse(text);
    match parse.errors().first() {
        Some(error) => Err(error.message().to_owned()),
        None => Ok(parse.syntax_node()),
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line of a byte, from one.
    fn of_offset(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}
