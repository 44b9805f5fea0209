//! Holding: a freeze that says so keeps a release that was started before it at its step.
//!
//! It is watched there as ever, and taken back if it fails; only more exposure has to wait.

use super::Deciding;

impl Deciding<'_> {
    /// Holds the release while a freeze says so, and lets it go on afterwards.
    pub(super) fn hold(&mut self) {
        let Some(release) = self.state.forward() else { return };
        let now = self.moment.now;
        let id = release.id;
        let held = release.paused.as_ref().map(|paused| paused.freeze.clone());
        match (held, self.state.holding(release, self.world, now)) {
            (None, Some((name, closed))) => {
                self.note("release.frozen", format!("release {id} is held: {}", closed.reason));
                if let Some(release) = self.state.release_mut() {
                    release.hold(closed.reason, now);
                    if let Some(paused) = &mut release.paused {
                        paused.freeze = Some(name);
                    }
                }
            }
            (Some(Some(name)), None) => {
                self.note(
                    "release.resumed",
                    format!("release {id} goes on: freeze {name} is over"),
                );
                if let Some(release) = self.state.release_mut() {
                    release.paused = None;
                    release.progress = now;
                }
            }
            // A person's pause outlasts a freeze.
            (Some(_), Some(_)) | (Some(None) | None, None) => {}
        }
    }
}
