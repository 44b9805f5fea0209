//! What became of the last tries to order a certificate, and when the next may be. It is on disk,
//! so that an edge that starts again and again does not ask again and again.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::CertificateName;
use serde::{Deserialize, Serialize};

use super::secret;

/// How much longer each wait is than the one before. With a first wait of a minute there are four
/// tries in the first hour: Let's Encrypt refuses after five failures per host and hour.
const FACTOR: u32 = 4;
/// The longest wait. A certificate that is renewed when a third of its time is left has time for
/// some even if it is good for six days.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// So much is added at most, by chance: a quarter.
const JITTER: f64 = 0.25;
/// Bytes of an issuer's words that are kept.
const WHY_MAX: usize = 1_000;

/// What failed, how often, and when it is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    hosts: BTreeSet<String>,
    directory: String,
    failures: u32,
    /// Why the last one failed, in the issuer's words where it has said something.
    pub(crate) why: String,
    /// Not before this, in seconds since 1970.
    pub(crate) next: i64,
    /// It is on disk; one that could not be put there counts all the same.
    #[serde(skip)]
    kept: bool,
}

impl Attempt {
    /// One more that failed.
    pub(super) fn failed(
        before: Option<&Self>,
        hosts: &BTreeSet<String>,
        directory: &str,
        why: &str,
    ) -> Self {
        let why = why.replace(char::is_control, " ");
        let end = why.floor_char_boundary(WHY_MAX);
        Self {
            hosts: hosts.clone(),
            directory: directory.to_owned(),
            failures: before.map_or(0, |it| it.failures).saturating_add(1),
            why: why.get(..end).unwrap_or_default().to_owned(),
            next: 0,
            kept: false,
        }
    }

    /// The same, to be tried again after a while from `now` on, and that while.
    pub(super) fn again(self, now: i64, first: Duration, chance: f64) -> (Self, Duration) {
        let wait = wait(self.failures, first, chance);
        let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
        (Self { next: now.saturating_add(seconds), ..self }, wait)
    }

    /// Whether it was for the same.
    pub(super) fn is_for(&self, hosts: &BTreeSet<String>, directory: &str) -> bool {
        self.hosts == *hosts && self.directory == directory
    }

    /// Whether it is too early to try again.
    pub(super) fn holds(&self, now: i64) -> bool {
        // A clock that was far ahead once must not hold it for years.
        let most = i64::try_from(WAIT_MAX.as_secs()).unwrap_or(i64::MAX) * 2;
        now < self.next && self.next - now <= most
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn read(home: &Path, name: &CertificateName) -> Option<Self> {
        let read: Self = serde_json::from_slice(&fs::read(file(home, name)).ok()?).ok()?;
        Some(Self { kept: true, ..read })
    }

    pub(super) fn write(&mut self, home: &Path, name: &CertificateName) -> io::Result<()> {
        secret::replace(&file(home, name), &serde_json::to_vec(self)?)?;
        self.kept = true;
        Ok(())
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    pub(super) fn forget(home: &Path, name: &CertificateName) {
        // One that stays only means a longer wait after the next failure.
        let _removed = fs::remove_file(file(home, name));
    }
}

fn file(home: &Path, name: &CertificateName) -> PathBuf {
    home.join(layout::CERTIFICATES).join(name.as_str()).join("attempt.json")
}

fn wait(failures: u32, first: Duration, chance: f64) -> Duration {
    let factor = FACTOR.saturating_pow(failures.saturating_sub(1));
    let wait = first.saturating_mul(factor).min(WAIT_MAX);
    wait.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn each_wait_is_longer_up_to_a_day() {
        let minutes = |failures| wait(failures, MINUTE, 0.0).as_secs() / 60;
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(minutes), [1, 4, 16, 64, 256, 1_024, 1_440]);
        assert_eq!(wait(u32::MAX, MINUTE, 1.0), WAIT_MAX.mul_f64(1.25));
    }

    #[test]
    fn it_is_kept_and_counts_for_the_same_hosts_only() {
        let home = tempfile::tempdir().unwrap();
        let name: CertificateName = "shop".parse().unwrap();
        assert_eq!(Attempt::read(home.path(), &name), None);
        let hosts = BTreeSet::from(["a.test".to_owned()]);
        let first = Attempt::failed(None, &hosts, "https://ca", "one\ntwo");
        let (mut second, wait) =
            Attempt::failed(Some(&first), &hosts, "https://ca", "").again(1_000, MINUTE, 0.0);
        assert_eq!((first.why.as_str(), second.failures, second.next), ("one two", 2, 1_240));
        assert_eq!(wait, 4 * MINUTE);
        second.write(home.path(), &name).unwrap();
        let read = Attempt::read(home.path(), &name).unwrap();
        assert_eq!(read, second);
        assert!(read.holds(1_239) && !read.holds(1_240) && !read.holds(-1_000_000));
        assert!(read.is_for(&hosts, "https://ca") && !read.is_for(&hosts, "https://other"));
        assert!(!read.is_for(&BTreeSet::new(), "https://ca"));
        Attempt::forget(home.path(), &name);
        assert_eq!(Attempt::read(home.path(), &name), None);
    }

    proptest! {
        #[test]
        fn no_words_are_too_long(why in ".{0,2000}") {
            let it = Attempt::failed(None, &BTreeSet::new(), "", &why);
            prop_assert!(it.why.len() <= WHY_MAX && !it.why.contains(char::is_control));
        }
    }
}
