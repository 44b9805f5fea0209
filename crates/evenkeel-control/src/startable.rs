//! Whether a way back leads to revisions that this machine can still start.
//!
//! Their programs are kept for as long as the revisions are, but a disk may lose them, or a person
//! may tidy up. Then it is better to hear of it before anything moves.

use std::path::Path;

use evenkeel_kernel::release::{Decision, Kind, Refusal, State};

/// Says why what was `decided` cannot be done here, if it is a way back to kept revisions.
pub(crate) fn refused(home: &Path, before: &State, decided: &Decision) -> Option<Refusal> {
    let state = &decided.state;
    let started = state.release.as_ref().map(|it| (it.id, it.kind, &it.wanted));
    let queued = state.queued.as_ref().map(|it| (it.id, it.kind, &it.wanted));
    let known = |id| {
        let release = before.release.as_ref().map(|it| it.id);
        [release, before.queued.as_ref().map(|it| it.id)].contains(&Some(id))
    };
    let new = [queued, started].into_iter().flatten();
    let (_, _, wanted) =
        new.into_iter().find(|(id, kind, _)| *kind == Kind::Rollback && !known(*id))?;
    let changed = wanted.services.iter().filter(|(name, service)| {
        let now = before.stack.services.get(*name);
        now.is_none_or(|now| now.workload != service.workload)
    });
    let mut missing = changed.filter_map(|(name, service)| {
        let found = evenkeel_local::look(home, &service.workload, &service.workload.run);
        Some((name, found.err()?))
    });
    let (name, obstacle) = missing.next()?;
    Some(Refusal {
        reason: format!("{name} could not be started as it was: {obstacle}"),
        hint: Some("--force tries it all the same".to_owned()),
    })
}
