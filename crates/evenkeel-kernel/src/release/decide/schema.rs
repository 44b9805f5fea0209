//! Schemas of databases: brought from one target to the next.

use super::Deciding;
use crate::model::DatabaseName;
use crate::release::state::Release;
use crate::world::SchemaTarget;

/// How often within its deadline it counts as progress of a release that a schema is worked on and
/// nothing is in the way.
const AT_WORK: u32 = 4;

impl Deciding<'_> {
    /// Takes note of how far schemas are: a long backfill is progress, and so is an index that takes
    /// long to build.
    pub(super) fn watch_schemas(&mut self) {
        let Some(release) = &self.state.release else { return };
        let now = self.moment.now;
        let moved: Vec<(DatabaseName, u16)> = release
            .migrations()
            .filter_map(|(name, _, change, migration)| {
                let seen = self.world.schema(name, change.revision)?;
                let permille = seen.doing?.filling()?.permille;
                (permille > migration.permille).then(|| (name.clone(), permille))
            })
            .collect();
        let due = now.since(release.progress) >= release.progress_deadline() / AT_WORK;
        let works = due && release.schemas_are_at_work(self.world);
        if moved.is_empty() && !works {
            return;
        }
        let Some(release) = self.state.release_mut() else { return };
        release.progress = now;
        for (name, permille) in moved {
            if let Some(migration) = release.schemas.get_mut(&name) {
                migration.permille = permille;
            }
        }
    }

    /// Brings every schema to `target` at least. Returns whether all are there.
    pub(super) fn schemas_reach(&mut self, release: &Release, target: SchemaTarget) -> bool {
        self.aim(release, |before| before < Some(target), target);
        release.schemas_are(self.world, target)
    }

    /// Takes the new shapes away. Returns whether all are gone.
    pub(super) fn schemas_are_undone(&mut self, release: &Release) -> bool {
        let target = SchemaTarget::Undone;
        self.aim(release, |before| before != Some(target), target);
        release.schemas_are(self.world, target)
    }

    fn aim(
        &mut self,
        release: &Release,
        moves: impl Fn(Option<SchemaTarget>) -> bool,
        target: SchemaTarget,
    ) {
        for (name, _, change, migration) in release.migrations() {
            if !moves(migration.target) {
                continue;
            }
            let (revision, what) = (change.revision, told(target));
            self.note("schema.changing", format!("database {name}: revision {revision} {what}"));
            let now = self.moment.now;
            let Some(release) = self.state.release_mut() else { return };
            release.progress = now;
            if let Some(migration) = release.schemas.get_mut(name) {
                migration.target = Some(target);
                migration.permille = 0;
            }
        }
    }
}

/// What happens on the way to a target.
fn told(target: SchemaTarget) -> &'static str {
    match target {
        SchemaTarget::Ready => "of its schema is being made beside the old one",
        SchemaTarget::Contracted => "of its schema stays, the old one goes now",
        SchemaTarget::Undone => "of its schema is being taken away again",
    }
}
