//! Carries out a plan, and remembers in the database itself how far it is.
//!
//! Everything here can be repeated: each function looks first whether its work is done, does what is
//! missing, and writes that down in the transaction that does it. So a process that ends at any
//! moment loses nothing but time.

mod attempt;
mod backfill;
mod blockers;
mod bookmark;
mod copy;
mod error;
mod fence;
mod ledger;
mod others;
mod pace;
mod probe;
mod session;
mod stragglers;
mod tighten;
mod turns;
mod watch;

use crate::name::Name;
use crate::plan::{File, Plan};

pub use self::attempt::Patience;
pub use self::backfill::{Filled, Tuning};
use self::bookmark::Bookmark;
pub use self::error::Failed;
pub use self::fence::Driver;
pub use self::ledger::{Entry, Ledger, Stage};
pub use self::pace::{Pace, Seen};
pub use self::probe::{Bounds, ask};
pub use self::session::{Heard, Session, Waiting};

/// Carries out plans of one schema of one database.
///
/// While it lives, nobody else does: it holds an advisory lock.
#[derive(Debug)]
pub struct Executor {
    session: Session,
    schema: Name,
    /// How long is waited for locks, and how often.
    pub patience: Patience,
    /// How rows are filled.
    pub tuning: Tuning,
}

/// What is written down of a schema, without anything being changed or taken over.
///
/// # Errors
///
/// What the database said.
pub fn look(session: &mut Session, schema: &Name) -> Result<Ledger, Failed> {
    ledger::look(session, schema)
}

/// How many rows were filled for a revision by now.
///
/// # Errors
///
/// What the database said.
pub fn filled(session: &mut Session, schema: &Name, revision: u32) -> Result<u64, Failed> {
    ledger::filled(session, schema, revision, None)
}

/// Whom a process of the server waits for at the moment, as a fragment; nothing if it works.
///
/// # Errors
///
/// What the database said.
pub fn waits_for(session: &mut Session, pid: i64) -> Result<Option<String>, Failed> {
    let who = blockers::of(session, pid)?;
    Ok((!who.is_empty()).then(|| blockers::told(&who)))
}

impl Executor {
    /// Takes the schema over.
    ///
    /// # Errors
    ///
    /// [`Failed::Busy`] if somebody else has it; otherwise what the database said.
    pub fn new(mut session: Session, schema: &Name) -> Result<Self, Failed> {
        ledger::take(&mut session, schema)?;
        ledger::create(&mut session)?;
        Ok(Self::on(session, schema))
    }

    /// Takes the schema over for a control. From then on an earlier one of its home changes nothing
    /// any more, whatever it was about to do.
    ///
    /// # Errors
    ///
    /// [`Failed::Superseded`] if a later one has it, [`Failed::Busy`] if somebody else has; otherwise
    /// what the database said.
    pub fn driven_by(mut session: Session, schema: &Name, driver: &Driver) -> Result<Self, Failed> {
        ledger::create(&mut session)?;
        fence::shut_out(&mut session, schema, driver)?;
        ledger::take(&mut session, schema)?;
        fence::take(&mut session, schema, driver)?;
        Ok(Self::on(session.fenced(fence::begin(schema, driver)), schema))
    }

    fn on(session: Session, schema: &Name) -> Self {
        Self {
            session,
            schema: schema.clone(),
            patience: Patience::default(),
            tuning: Tuning::default(),
        }
    }

    /// The session that it works in.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// What is written down of the schema.
    ///
    /// # Errors
    ///
    /// What the database said.
    pub fn ledger(&mut self) -> Result<Ledger, Failed> {
        ledger::read(&mut self.session, &self.schema)
    }

    /// Writes down which migrations have made the schema as it is, when others than Evenkeel ran
    /// them.
    ///
    /// # Errors
    ///
    /// [`Failed::Unfinished`] if a revision is under way; otherwise what the database said.
    pub fn adopt(&mut self, files: Vec<File>) -> Result<(), Failed> {
        let ledger = self.ledger()?;
        if let Some(active) = ledger.active() {
            return Err(Failed::Unfinished { revision: active.revision, stage: active.stage });
        }
        let mut plan = Plan::as_it_is(ledger.next(), &self.schema, files);
        // Code goes on to read by the views that it has.
        if let Some(views) = ledger.views() {
            plan.views = views.clone();
        }
        let enter = ledger::enter(&self.schema, &plan, Stage::Contracted)?;
        self.session.at_once(&enter)
    }

    /// The process of the server that does the work.
    ///
    /// # Errors
    ///
    /// What the database said.
    pub fn pid(&mut self) -> Result<i64, Failed> {
        self.session.number("SELECT pg_backend_pid()")
    }

    /// Gives the data its new shape beside the old one.
    ///
    /// # Errors
    ///
    /// [`Failed::Unfinished`] if another revision is under way; otherwise what the database said.
    pub fn expand(&mut self, plan: &Plan) -> Result<(), Failed> {
        if self.stage(plan)?.is_some_and(|stage| stage != Stage::Undone) {
            return Ok(());
        }
        if let Some(active) = self.ledger()?.active() {
            return Err(Failed::Unfinished { revision: active.revision, stage: active.stage });
        }
        let enter = ledger::enter(&self.schema, plan, Stage::Expanded)?;
        attempt::phase(&mut self.session, &plan.expand, &[enter], self.patience)
    }

    /// Fills the rows that are there, a piece at a time; `told` hears after each how far all of it is,
    /// and says whether to go on. Done when it says so.
    ///
    /// # Errors
    ///
    /// [`Failed::Lacking`] if rows have no value in the end; otherwise what the database said.
    pub fn fill(
        &mut self,
        plan: &Plan,
        told: &mut dyn FnMut(&Filled) -> bool,
    ) -> Result<bool, Failed> {
        match self.stage(plan)? {
            Some(Stage::Expanded) => {}
            Some(_) => return Ok(true),
            None => return Err(Failed::NotExpanded { revision: plan.revision }),
        }
        let all = plan.rows();
        for (position, backfill) in plan.backfills.iter().enumerate() {
            let before =
                ledger::filled(&mut self.session, &self.schema, plan.revision, Some(position))?;
            let mut told = |filled: &Filled| told(&filled.of_all(&all, position, before));
            let mut filling = backfill::Filling {
                session: &mut self.session,
                mark: Bookmark { schema: &self.schema, revision: plan.revision, position },
                backfill,
                tuning: &self.tuning,
                patience: self.patience,
            };
            if !filling.run(&mut told)? {
                return Ok(false);
            }
        }
        for (at, copied) in plan.copies.iter().enumerate() {
            let position = plan.backfills.len() + at;
            let before =
                ledger::filled(&mut self.session, &self.schema, plan.revision, Some(position))?;
            let mut told = |filled: &Filled| told(&filled.of_all(&all, position, before));
            let mut copying = copy::Copying {
                session: &mut self.session,
                mark: Bookmark { schema: &self.schema, revision: plan.revision, position },
                copied,
                patience: self.patience,
            };
            if !copying.run(&mut told)? {
                return Ok(false);
            }
        }
        for (position, statement) in plan.data.iter().enumerate() {
            ledger::once(&mut self.session, &self.schema, plan.revision, position, statement)?;
        }
        self.write_down(plan, Stage::Filled)?;
        Ok(true)
    }

    /// Holds the new shape to its rules, and makes sure that contract will work.
    ///
    /// # Errors
    ///
    /// [`Failed::Violated`] if rows break one; otherwise what the database said, also of a contract
    /// that would fail.
    pub fn tighten(&mut self, plan: &Plan) -> Result<(), Failed> {
        match self.stage(plan)? {
            Some(Stage::Filled) => {}
            Some(Stage::Expanded) => return Err(Failed::NotFilled { revision: plan.revision }),
            Some(_) => return Ok(()),
            None => return Err(Failed::NotExpanded { revision: plan.revision }),
        }
        for step in &plan.tighten {
            tighten::step(&mut self.session, step, self.patience)?;
        }
        attempt::rehearse(&mut self.session, &plan.contract, self.patience)?;
        self.write_down(plan, Stage::Ready)
    }

    /// Connections of code that still reads the old shape, by name and process.
    ///
    /// # Errors
    ///
    /// What the database said.
    pub fn stragglers(&mut self, plan: &Plan) -> Result<Vec<String>, Failed> {
        stragglers::find(&mut self.session, plan)
    }

    /// Takes the old shape away. There is no way back from here.
    ///
    /// # Errors
    ///
    /// [`Failed::NotFilled`] if the new shape is not ready; otherwise what the database said.
    pub fn contract(&mut self, plan: &Plan) -> Result<(), Failed> {
        match self.stage(plan)? {
            Some(Stage::Ready) => {}
            Some(Stage::Contracted) => return Ok(()),
            Some(Stage::Expanded | Stage::Filled | Stage::Undone) | None => {
                return Err(Failed::NotFilled { revision: plan.revision });
            }
        }
        let done = ledger::stage(&self.schema, plan.revision, Stage::Contracted);
        attempt::phase(&mut self.session, &plan.contract, &[done], self.patience)
    }

    /// Takes the new shape away.
    ///
    /// # Errors
    ///
    /// [`Failed::Contracted`] if there is no way back; otherwise what the database said.
    pub fn undo(&mut self, plan: &Plan) -> Result<(), Failed> {
        match self.stage(plan)? {
            Some(Stage::Expanded | Stage::Filled | Stage::Ready) => {}
            Some(Stage::Undone) | None => return Ok(()),
            Some(Stage::Contracted) => {
                return Err(Failed::Contracted { revision: plan.revision });
            }
        }
        let done = ledger::stage(&self.schema, plan.revision, Stage::Undone);
        attempt::phase(&mut self.session, &plan.undo, &[done], self.patience)
    }

    /// How far a plan is; nothing if it was never begun.
    ///
    /// # Errors
    ///
    /// What the database said.
    pub fn stage(&mut self, plan: &Plan) -> Result<Option<Stage>, Failed> {
        ledger::stage_of(&mut self.session, &self.schema, plan.revision)
    }

    fn write_down(&mut self, plan: &Plan, stage: Stage) -> Result<(), Failed> {
        let statement = ledger::stage(&self.schema, plan.revision, stage);
        self.session.at_once(&statement)
    }
}
