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
    let (stack, mut found) = in_stack_file(submission);
    let stack = stack.and_then(|stack| {
        let (stack, problems) = spec::bind(stack, &submission.materials);
        found.extend(problems.iter().map(in_env_file));
        stack
    });
    stack.filter(|_| found.is_empty()).ok_or_else(|| failure(&submission.file_name, found))
}

/// What a stack would change where nothing is released yet.
#[must_use]
pub fn plan_from_nothing(stack: &Stack) -> PlanView {
    view::plan(&role::fresh(std::path::Path::new("/")).preview(stack), None)
}

fn in_stack_file(submission: &Submission) -> (Option<Stack>, Vec<ProblemView>) {
    let file = &submission.file_name;
    let (stack, problems) = spec::read(&submission.text, &submission.base_dir);
    let views = problems.iter().map(|problem| ProblemView {
        file: file.clone(),
        line: problem.line,
        column: problem.column,
        message: problem.message.clone(),
        expected: problem.expected.clone(),
        hint: problem.hint.clone(),
        rendered: problem.render(file, &submission.text),
    });
    (stack, views.collect())
}

fn in_env_file(problem: &spec::EnvProblem) -> ProblemView {
    ProblemView {
        file: problem.file.clone(),
        line: problem.line.unwrap_or(1),
        column: problem.column.unwrap_or(1),
        message: problem.message.clone(),
        expected: problem.expected.clone(),
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
