//! Changes beside new revisions: sizes, restarts, removals, services that use one another.
