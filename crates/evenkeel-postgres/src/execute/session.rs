//! A connection, and who hears of each statement before it is run.

use std::fmt;

use postgres::{Client, SimpleQueryMessage};

use super::{Failed, fence};

/// Hears of a statement before it is run.
pub type Heard = Box<dyn FnMut(&str) + Send>;

/// Hears what is waited for and who is in the way, and of nothing when it goes on.
pub type Waiting = Box<dyn FnMut(Option<&str>) + Send>;

/// A connection that plans are carried out in.
pub struct Session {
    client: Client,
    heard: Option<Heard>,
    waiting: Option<Waiting>,
    /// What a transaction of a plan begins with.
    begin: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// A session on this connection.
    pub fn new(client: Client) -> Self {
        Self { client, heard: None, waiting: None, begin: "BEGIN".to_owned() }
    }

    /// Lets somebody hear of each statement before it is run.
    #[must_use]
    pub fn heard_by(mut self, heard: Heard) -> Self {
        self.heard = Some(heard);
        self
    }

    /// Lets somebody hear what is waited for.
    #[must_use]
    pub fn waits_told_to(mut self, waiting: Waiting) -> Self {
        self.waiting = Some(waiting);
        self
    }

    /// Lets every transaction of a plan begin with this.
    #[must_use]
    pub(super) fn fenced(mut self, begin: String) -> Self {
        self.begin = begin;
        self
    }

    /// What a transaction of a plan begins with.
    pub(super) fn begin(&self) -> &str {
        &self.begin
    }

    /// Runs statements as one transaction of a plan.
    pub(super) fn at_once(&mut self, statements: &str) -> Result<(), Failed> {
        let done = self.run(&format!("{}; {statements}; COMMIT", self.begin));
        if done.is_err() {
            // The error says more than one of the way out of it.
            drop(self.run("ROLLBACK"));
        }
        done
    }

    /// Tells what is waited for.
    pub(super) fn waits(&mut self, what: Option<&str>) {
        if let Some(waiting) = &mut self.waiting {
            waiting(what);
        }
    }

    /// The connection itself.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Runs a statement, or several.
    pub(super) fn run(&mut self, statement: &str) -> Result<(), Failed> {
        self.ask(statement).map(drop)
    }

    /// Asks for rows, each as texts.
    pub(super) fn rows(&mut self, query: &str) -> Result<Vec<Vec<Option<String>>>, Failed> {
        let messages = self.ask(query)?;
        let mut rows = Vec::new();
        for message in &messages {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
            }
        }
        Ok(rows)
    }

    /// Runs statements, the last of which changes rows. Gives how many, and the number that was asked
    /// for before.
    pub(super) fn change(&mut self, statement: &str) -> Result<(u64, i64), Failed> {
        let (mut changed, mut number) = (0, 0);
        for message in self.ask(statement)? {
            if let SimpleQueryMessage::CommandComplete(rows) = message {
                changed = rows;
            } else if let SimpleQueryMessage::Row(row) = message {
                number = row.get(0).and_then(|it| it.parse().ok()).unwrap_or_default();
            }
        }
        Ok((changed, number))
    }

    /// Asks for one text; nothing if there is no row or it is NULL.
    pub(super) fn one(&mut self, query: &str) -> Result<Option<String>, Failed> {
        Ok(self.rows(query)?.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// Asks for one number; nought if there is none.
    pub(super) fn number(&mut self, query: &str) -> Result<i64, Failed> {
        Ok(self.one(query)?.and_then(|it| it.parse().ok()).unwrap_or_default())
    }

    fn ask(&mut self, statement: &str) -> Result<Vec<SimpleQueryMessage>, Failed> {
        if let Some(heard) = &mut self.heard {
            heard(statement);
        }
        self.client.simple_query(statement).map_err(|source| match source.code() {
            Some(code) if fence::refuses(code) => Failed::Superseded,
            _ => Failed::Database { statement: beginning(statement), source },
        })
    }
}

/// As much of a statement as fits into an error.
fn beginning(statement: &str) -> String {
    const LONGEST: usize = 120;
    let words = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{} …", &words[..at]),
        None => words,
    }
}
