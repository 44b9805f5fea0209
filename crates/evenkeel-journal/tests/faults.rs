//! The journal under faults that only a process of its own can meet: it is killed, its disk fills
//! up, its syncs fail.
//!
//! Each test runs this very binary again as a child that commits and says what was acknowledged.
//! What was acknowledged must be there afterwards, and at most one commit more.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use evenkeel_journal::{Journal, Kind, Row, Seq, Store as _, StoreError, TAIL_MAX, Version};

    /// Tells a child what to work on; without it the children's tests do nothing.
    const WORK_ON: &str = "EVENKEEL_JOURNAL_WORK_ON";
    /// How many commits a child makes, so that a lost one ends.
    const COMMITS: &str = "EVENKEEL_JOURNAL_COMMITS";
    /// More than any test waits for.
    const COMMITS_MAX: u64 = 20_000;
    /// Enough for the failed sync to be one of a commit, and for a write-back of the log.
    const COMMITS_WITH_A_FAILED_SYNC: u64 = 80;

    fn row(version: u64) -> Row {
        Row {
            release: None,
            at: version,
            actor: "child".to_owned(),
            kind: "counted".to_owned(),
            body: version.to_string(),
        }
    }

    /// One commit after `version`; its row and state both say the new version.
    fn commit(journal: &mut Journal, version: u64, padding: usize) -> Result<u64, StoreError> {
        let epoch = evenkeel_kernel::model::Epoch(1);
        let body = format!("{}{}", "0".repeat(padding), version + 1);
        journal
            .commit(Version(version), epoch, &[row(version + 1)], 1, &body)
            .map(|version| version.0)
    }

    /// Opens the journal, which checks its chain, and counts its rows and its state.
    fn version(dir: &Path) -> u64 {
        let mut journal = Journal::open(dir, 1).expect("opens again");
        let version = journal.load().expect("loads").map_or(0, |saved| {
            assert_eq!(saved.body.parse(), Ok(saved.version.0), "the state is the commit's own");
            saved.version.0
        });
        let mut seen = 0;
        loop {
            let page = journal.tail(Seq(seen), TAIL_MAX).expect("reads");
            if page.is_empty() {
                break;
            }
            for entry in page {
                seen += 1;
                assert_eq!(entry.row, row(seen));
            }
        }
        assert_eq!(seen, version, "as many rows as commits");
        version
    }

    /// This binary again, running only the test `name`.
    fn this(name: &str, dir: &Path) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this binary has a path"));
        command.args([&format!("tests::{name}"), "--exact", "--nocapture"]).env(WORK_ON, dir);
        command
    }

    /// Said past the test harness, which hides what passing tests print, and noted for the summary
    /// of the whole run.
    fn skipped(because: &str) {
        writeln!(std::io::stderr(), "skipped: {because}").expect("stderr can be written");
        if let Some(notes) = std::env::var_os("EVENKEEL_TESTS_SKIPPED") {
            let notes = File::options().append(true).open(notes);
            notes.and_then(|mut it| writeln!(it, "{because}")).expect("the run keeps its notes");
        }
    }

    /// Reads what the child acknowledges, until it ends or `enough` was acknowledged.
    fn acknowledged(lines: &mut dyn Iterator<Item = String>, enough: u64) -> Option<u64> {
        lines
            .filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok())
            .take(usize::try_from(enough).expect("few"))
            .last()
    }

    fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
        let out = child.stdout.take().expect("the child's output is a pipe");
        BufReader::new(out).lines().map_while(Result::ok)
    }

    /// Not a test of its own: the child of the tests below. Commits until something fails.
    #[test]
    fn child_that_commits() {
        let Some(dir) = std::env::var_os(WORK_ON) else { return };
        let mut out = std::io::stdout();
        let mut journal = match Journal::open(Path::new(&dir), 1) {
            Ok(journal) => journal,
            Err(error) => return println!("refused {error}"),
        };
        let mut version = journal.load().expect("loads").map_or(0, |saved| saved.version.0);
        if version == 0 && journal.claim().is_err() {
            return;
        }
        let commits = std::env::var(COMMITS).ok().and_then(|text| text.parse().ok());
        for _ in 0..commits.unwrap_or(COMMITS_MAX) {
            match commit(&mut journal, version, 20_000) {
                Ok(next) => version = next,
                Err(error) => {
                    println!("ended {error}");
                    assert_eq!(journal.load().map_err(|e| e.kind), Err(Kind::Poisoned));
                    return;
                }
            }
            writeln!(out, "acknowledged {version}").expect("the parent reads");
        }
    }

    #[test]
    fn s01_no_acknowledged_commit_is_lost_by_a_kill() {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let mut before = 0;
        for round in 1..=30_u64 {
            let mut child = this("child_that_commits", dir.path())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the child starts");
            let mut lines = lines(&mut child);
            let enough = 1 + round * 7 % 25;
            let reached = acknowledged(&mut lines, enough).expect("the child commits");
            // Somewhere within the next commits.
            std::thread::sleep(std::time::Duration::from_micros(round * 137 % 2_000));
            child.kill().expect("the child is ours");
            child.wait().expect("the child is ours");
            let last = acknowledged(&mut lines, COMMITS_MAX).unwrap_or(reached);
            let found = version(dir.path());
            assert!(found == last || found == last + 1, "round {round}: {found} after {last}");
            assert!(last >= before + enough, "round {round} went on from {before}");
            before = found;
        }
        println!("30 kills, {before} commits");
    }

    #[test]
    fn s25_no_acknowledged_commit_is_lost_by_a_failed_sync() {
        let dir = tempfile::tempdir().expect("a folder");
        let library = dir.path().join("failing_sync.so");
        let source = dir.path().join("failing_sync.c");
        fs::write(&source, FAILING_SYNC).expect("writes");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
        if !built.is_ok_and(|status| status.success()) {
            return skipped("failed syncs are not tested: there is no C compiler here");
        }
        let mut ended = 0;
        for nth in 1..=25 {
            let home = dir.path().join(format!("home-{nth}"));
            let mut child = this("child_that_commits", &home)
                .env("LD_PRELOAD", &library)
                .env("FAILING_SYNC", nth.to_string())
                .env(COMMITS, COMMITS_WITH_A_FAILED_SYNC.to_string())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the child starts");
            let said: Vec<_> = lines(&mut child).collect();
            assert!(child.wait().expect("the child is ours").success(), "{said:?}");
            let last = acknowledged(&mut said.iter().cloned(), COMMITS_MAX).unwrap_or(0);
            let found = version(&home);
            assert!(found == last || found == last + 1, "sync {nth}: {found} after {last}");
            ended += u32::from(said.iter().any(|line| line.starts_with("ended")));
        }
        // The others are the ballast's and a folder's, which may fail, and those of opening.
        assert!(ended >= 10, "only {ended} of 25 failed in a commit");
    }

    /// Lets the n-th sync of the process fail.
    const FAILING_SYNC: &str = r#"
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static int fails(void) {
    static int calls;
    const char *nth = getenv("FAILING_SYNC");
    return nth && ++calls == atoi(nth);
}
int fsync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return syscall(SYS_fsync, fd);
}
int fdatasync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return syscall(SYS_fdatasync, fd);
}
"#;

    #[test]
    fn s24_a_full_disk_loses_nothing_and_leaves_room_for_the_way_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let mount = r#"mount -t tmpfs -o size=96m none "$EVENKEEL_JOURNAL_WORK_ON""#;
        let alone = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(["-Urm", "sh", "-c", script, "sh"]).env(WORK_ON, dir.path());
            command
        };
        if !alone(mount).output().is_ok_and(|probe| probe.status.success()) {
            return skipped("a full disk is not tested: no user namespace or tmpfs here");
        }
        let child = this("child_on_a_small_disk", dir.path());
        let run = alone(&format!(r#"{mount} && exec "$@""#))
            .arg(child.get_program())
            .args(child.get_args())
            .output()
            .expect("unshare was there before");
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
        assert!(text.contains("1 passed"), "the child ran: {text}");
    }

    /// Not a test of its own: the child of the test above, with a small disk to itself.
    #[test]
    fn child_on_a_small_disk() {
        let Some(disk) = std::env::var_os(WORK_ON) else { return };
        let disk = Path::new(&disk);
        if disk.read_dir().is_ok_and(|mut files| files.next().is_some()) {
            return;
        }
        let home = disk.join("state");
        let mut journal = Journal::open(&home, 1).expect("a new journal");
        journal.claim().expect("claims");
        assert!(journal.has_ballast());
        let mut last = commit_on_a_full_disk(journal, &disk.join("filler"), 0);
        assert_eq!(version(&home), last, "the ballast makes room to open it");
        assert!(!Journal::open(&home, 1).expect("opens").has_ballast(), "there is little room");

        let mut journal = Journal::open(&home, 1).expect("opens");
        last = commit(&mut journal, last, 4_000_000).expect("the way back is written");
        last = commit_on_a_full_disk(journal, &disk.join("filler-2"), last);
        assert_eq!(version(&home), last, "it opens with no room at all");

        fs::remove_file(disk.join("filler")).expect("ours");
        let mut journal = Journal::open(&home, 1).expect("opens");
        assert!(journal.has_ballast(), "there is room again");
        last = commit(&mut journal, last, 4_000_000).expect("writes again");

        drop(journal);
        fill(&disk.join("filler-3"));
        let mut journal =
            Journal::open(&home, 1).expect("opens though the disk was filled meanwhile");
        commit(&mut journal, last, 4_000_000).expect("the ballast was given up for this");
    }

    /// Writes until there is no room.
    fn fill(path: &Path) {
        let mut file = File::create(path).expect("a new file");
        let block = vec![1_u8; 4096];
        while file.write_all(&block).is_ok() {}
    }

    /// Fills the disk, then commits until that is noticed: the log may have room of its own.
    fn commit_on_a_full_disk(mut journal: Journal, filler: &Path, mut last: u64) -> u64 {
        fill(filler);
        let error = loop {
            match commit(&mut journal, last, 500_000) {
                Ok(next) => last = next,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind, Kind::Full, "{error}: {:?}", error.source);
        assert!(!journal.has_ballast());
        last
    }
}
