//! A submission becomes a stack, or a list of everything that is wrong with it. Needs no running
//! control, so that commands can say it before they start anything.

use evenkeel_kernel::lint;
use evenkeel_kernel::model::Stack;
use evenkeel_kernel::release::Prospect;
use evenkeel_kernel::spec;
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::World;

use super::types::{Failure, PlanView, ProblemView, Submission};
use crate::{calendar, role, view};

/// The stack that a submission describes.
///
/// # Errors
///
/// Every problem of the stack file, or of the files that it names.
pub fn check(submission: &Submission) -> Result<Stack, Failure> {
    let Submission { file_name, text, base_dir, materials, .. } = submission;
    let bound = spec::draft(text, base_dir).bind(materials);
    let mut found: Vec<ProblemView> =
        bound.problems.iter().map(|problem| in_stack_file(problem, file_name, text)).collect();
    found.extend(bound.env_problems.iter().map(in_env_file));
    let stack = bound.stack.ok_or_else(|| failure(file_name, found))?;
    let zones = calendar::unknown_zones(&stack).into_iter();
    let zones: Vec<ProblemView> = zones
        .map(|(zone, wrong)| in_stack_file(&unknown_zone(text, zone, wrong), file_name, text))
        .collect();
    if zones.is_empty() { Ok(stack) } else { Err(failure(file_name, zones)) }
}

/// The problem at the place where a zone is named. Which zones there are is not the file's to say.
fn unknown_zone(text: &str, zone: &str, message: String) -> spec::Problem {
    let named = |line: &str| line.find(zone).filter(|_| line.contains("zone"));
    let found = text.lines().enumerate().find_map(|(line, text)| Some((line, text, named(text)?)));
    let (line, column) =
        found.map_or((0, 0), |(line, text, at)| (line, text[..at].chars().count()));
    spec::Problem {
        line: line + 1,
        column: column + 1,
        length: zone.chars().count(),
        message,
        expected: Some("a name of the IANA time zone database".to_owned()),
        hint: Some("such as \"Europe/Berlin\" or \"UTC\"".to_owned()),
        path: String::new(),
        private: false,
    }
}

/// What a stack would change where nothing is released yet.
#[must_use]
pub fn plan_from_nothing(stack: &Stack, submission: &Submission) -> PlanView {
    let fresh = role::fresh(std::path::Path::new("/"));
    let prospect = fresh.prospect(stack, false, &World::unknown(), Timestamp(0));
    planned(&prospect, stack, submission)
}

/// A plan, with what is dangerous about it on the machine of its sender.
pub(crate) fn planned(prospect: &Prospect, stack: &Stack, submission: &Submission) -> PlanView {
    let mut view = view::plan(prospect, submission.expect_destroy);
    if let Prospect::Release { plan, .. } = prospect {
        let missing = lint::missing_files(plan, stack, &submission.materials);
        view.hazards.extend(missing.iter().map(view::hazard));
    }
    view
}

fn in_stack_file(problem: &spec::Problem, file: &str, text: &str) -> ProblemView {
    ProblemView {
        file: file.to_owned(),
        line: problem.line,
        column: problem.column,
        message: problem.message.clone(),
        expected: problem.expected.clone(),
        hint: problem.hint.clone(),
        rendered: problem.render(file, text),
    }
}

fn in_env_file(problem: &spec::EnvProblem) -> ProblemView {
    ProblemView {
        file: problem.file.clone(),
        line: problem.line,
        column: problem.column,
        message: problem.message.clone(),
        expected: Some(problem.expected.clone()),
        hint: None,
        rendered: problem.render(),
    }
}

fn failure(file: &str, problems: Vec<ProblemView>) -> Failure {
    let error = match problems.len() {
        1 => format!("{file} has a problem"),
        count => format!("{file} has {count} problems"),
    };
    let hint = Some("nothing was changed; `evenkeel reference` explains every key".to_owned());
    Failure { error, hint, problems }
}
