//! `evenkeel reference`: every key of the stack file, for people or for editors.

use evenkeel_kernel::spec;

use crate::cli::Reference;
use crate::exit::Exit;
use crate::term;

pub(super) fn run(args: &Reference) -> Exit {
    let text = if args.json_schema { spec::json_schema() } else { spec::reference() };
    term::line(text.trim_end());
    Exit::Done
}
