//! The stack file: the text of an `evenkeel.toml` to a [`Stack`] and every problem in it.
//!
//! Nothing here reads a disk. What the text alone can say is said by [`read`]; what files beside
//! it say is bound to a [`draft`] of the stack, from [`Materials`] that the caller has read. What
//! there may be in a file stands in one description (`keys.rs`), which is also the reference
//! ([`reference()`]) and the schema for editors ([`json_schema`]).

mod check;
mod checks;
mod command;
mod database;
mod door;
mod env_file;
mod freeze;
mod hint;
mod job;
mod json_schema;
mod keys;
pub(crate) mod materials;
mod notify;
mod path;
mod problem;
mod quantity;
mod reference;
mod rollout;
mod route;
mod scale;
mod schema;
mod service;
mod stack;
mod starter;
mod syntax;
mod telemetry;
mod traffic;
mod value;
mod word;

pub use database::DATABASES_MAX;
pub use env_file::ENV_FILE_MAX;
pub use job::JOBS_MAX;
pub use json_schema::json_schema;
pub use keys::{
    FREEZES_MAX, LISTEN_DEFAULT, RECEIVERS_MAX, REPLICAS_MAX, ROUTES_MAX, SERVICES_MAX, STEPS_MAX,
};
pub use materials::{Bound, Draft, EnvProblem, Materials, Needs, Obstacle, Part};
pub use problem::{PROBLEMS_MAX, Problem};
pub use quantity::span;
pub use reference::reference;
pub use starter::{Found, starter};

use crate::model::Stack;
use problem::{Lines, Mistake, Mistakes};

/// The largest stack file, in bytes: a thousand services with a kilobyte each.
pub const FILE_MAX: usize = 1 << 20;

/// Reads the text of a stack file that lies in the absolute folder `base_dir`.
///
/// There is a stack exactly if there is no problem. Problems come in the order of the file.
#[must_use]
pub fn read(text: &str, base_dir: &str) -> (Option<Stack>, Vec<Problem>) {
    let Draft { stack, mistakes, .. } = draft(text, base_dir);
    let problems = mistakes.into_problems(text);
    (stack.filter(|_| problems.is_empty()), problems)
}

/// Reads the same as far as it can be read, so that what the text is wrong about and what is wrong
/// with the files it mentions can be said together.
#[must_use]
pub fn draft<'t>(text: &'t str, base_dir: &str) -> Draft<'t> {
    let mut mistakes = Mistakes::default();
    if text.len() > FILE_MAX {
        let wrong = format!("the file has {} bytes", text.len());
        mistakes.add(Mistake::at(&(0..0), "", wrong).expected(format!("at most {FILE_MAX}")));
        return Draft { text, stack: None, mistakes, mentions: Vec::new() };
    }
    let built = syntax::read(text, &mut mistakes, |table, mistakes| {
        let fields =
            check::table(&keys::STACK, table.get_ref(), table.span(), String::new(), mistakes);
        stack::build(&fields, base_dir, &Lines::of(text), mistakes)
    });
    let (stack, mentions) = built.map_or((None, Vec::new()), |(stack, all)| (Some(stack), all));
    Draft { text, stack, mistakes, mentions }
}

#[cfg(test)]
mod tests;
