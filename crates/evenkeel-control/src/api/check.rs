//! A submission becomes a stack, or a list of everything that is wrong with it. Needs no running
//! control, so that commands can say it before they start anything.

use evenkeel_kernel::model::Stack;
use evenkeel_kernel::spec;

use super::types::{Failure, PlanView, ProblemView, Submission};
use crate::{role, view};

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
    bound.stack.ok_or_else(|| failure(file_name, found))
}

/// What a stack would change where nothing is released yet.
#[must_use]
pub fn plan_from_nothing(stack: &Stack) -> PlanView {
    view::plan(&role::fresh(std::path::Path::new("/")).prospect(stack, false))
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
