//! The demo, run as people run it: it loses no request, ends as it should, and leaves nothing
//! behind, however it ends.

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process};
    use serde_json::Value;

    /// How long one demo may take here, where other tests run beside it.
    const DEMO_MAX: Duration = Duration::from_secs(120);
    /// What is promised to people.
    const PROMISED_S: f64 = 60.0;
    const LOOK: Duration = Duration::from_millis(20);

    /// A demo that runs; killed with the test, which then fails anyway.
    struct Demo {
        child: Child,
        /// Its folder for temporary files.
        temp: tempfile::TempDir,
    }

    impl Demo {
        fn start(args: &[&str]) -> Self {
            // PostgreSQL runs as somebody else where the tests run as root.
            let open = std::fs::Permissions::from_mode(0o755);
            let mut temp = tempfile::Builder::new();
            let temp = temp.prefix("ekt-").permissions(open).tempdir_in("/tmp").unwrap();
            let child = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
                .arg("demo")
                .args(args)
                .env("TMPDIR", temp.path())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            Self { child, temp }
        }

        fn signal(&self, signal: Signal) {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
            kill_process(pid, signal).unwrap();
        }

        fn end(&mut self) -> ExitStatus {
            let deadline = Instant::now() + DEMO_MAX;
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                assert!(Instant::now() < deadline, "the demo does not end");
                std::thread::sleep(LOOK);
            }
        }

        /// Nothing of it is left: no process, no file.
        fn assert_gone(&self) {
            assert_eq!(processes(self.temp.path()), Vec::<PathBuf>::new());
            let left: Vec<_> = std::fs::read_dir(self.temp.path()).unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }

    impl Drop for Demo {
        fn drop(&mut self) {
            if self.child.try_wait().is_ok_and(|status| status.is_none()) {
                self.signal(Signal::TERM);
                let deadline = Instant::now() + DEMO_MAX;
                while self.child.try_wait().is_ok_and(|status| status.is_none()) {
                    if Instant::now() > deadline {
                        self.child.kill().ok();
                    }
                    std::thread::sleep(LOOK);
                }
            }
        }
    }

    /// Processes that know `folder`, as paths in `/proc`: roles and shims by their command line,
    /// the demo by its environment, instances by their working folder.
    fn processes(folder: &Path) -> Vec<PathBuf> {
        let name = folder.as_os_str().as_encoded_bytes();
        let names = |path: PathBuf| {
            std::fs::read(path)
                .is_ok_and(|text| text.windows(name.len()).any(|window| window == name))
        };
        // Still to be recognised when the folder is gone already.
        let works_there = |path: &Path| {
            std::fs::read_link(path.join("cwd")).is_ok_and(|it| it.starts_with(folder))
        };
        let knows = |path: &PathBuf| {
            names(path.join("cmdline")) || names(path.join("environ")) || works_there(path)
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        entries.filter(knows).collect()
    }

    fn outcomes(done: &Value) -> Vec<&str> {
        let releases = done["releases"].as_array().unwrap().iter();
        releases.map(|release| release["outcome"].as_str().unwrap()).collect()
    }

    /// Plays a demo to its end; returns what it said, and the last of it.
    fn played(args: &[&str]) -> (Vec<Value>, Value) {
        let mut demo = Demo::start(args);
        let mut text = String::new();
        demo.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let status = demo.end();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.iter().all(|line| line["at_ms"].is_u64()), "{text}");
        let done = lines.last().expect("it says something").clone();
        assert!(status.success(), "{status}: {done:#}");
        assert_eq!(done["event"], "done");
        assert_eq!(done["failed"], 0, "{done:#}");
        assert!(done["seconds"].as_f64().unwrap() < PROMISED_S, "{done:#}");
        demo.assert_gone();
        (lines, done)
    }

    fn count(lines: &[Value], event: &str) -> usize {
        lines.iter().filter(|line| line["event"] == event).count()
    }

    #[test]
    fn no_request_fails_and_every_bad_release_is_taken_back() {
        let nothing = tempfile::tempdir().unwrap();
        let (lines, done) = played(&["--json", "--postgres", nothing.path().to_str().unwrap()]);
        assert!(done["requests"].as_u64().unwrap() > 2_000, "{done:#}");
        assert_eq!(
            outcomes(&done),
            ["promoted", "promoted", "rolled_back", "rolled_back", "fast_rolled_back"]
        );
        assert!(done["by_revision"]["web r2"].as_u64().unwrap() > 500, "{done:#}");
        assert_eq!(done["by_revision"]["web r3"], Value::Null, "it was never healthy");
        assert_eq!(count(&lines, "killed"), 2);
        assert_eq!(count(&lines, "left-out"), 1);
        let why = done["orders"]["left_out"].as_str().unwrap();
        assert!(why.contains("there is no PostgreSQL 14 to 18 in"), "{why}");
    }

    #[test]
    fn with_a_database_no_order_is_lost_when_its_schema_changes() {
        let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        if !installed.into_iter().any(|it| it.path().join("bin/initdb").exists()) {
            return skip("the demo with a database: PostgreSQL is not installed (postgresql)");
        }
        let (lines, done) = played(&["--json"]);
        assert_eq!(outcomes(&done)[5..], ["promoted", "promoted", "aborted"], "{done:#}");
        let orders = |key: &str| done["orders"][key].as_u64().unwrap();
        assert!(orders("taken") > 50, "{done:#}");
        assert_eq!(orders("rows"), orders("older") + orders("taken"));
        assert!(orders("read") > orders("read_across"), "{done:#}");
        assert!(orders("read_across") > 0, "{done:#}");
        for revision in ["web r6", "web r7", "web r8"] {
            assert!(done["by_revision"][revision].as_u64().unwrap() > 20, "{done:#}");
        }
        assert_eq!(count(&lines, "left-out"), 0);
        let files = lines.iter().filter(|line| line["event"] == "file");
        let names: Vec<&str> = files.map(|line| line["name"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "evenkeel.toml",
                "migrations/0001_orders.sql",
                "migrations/0002_names.sql",
                "migrations/0003_prices.sql"
            ]
        );
    }

    /// Says that a test could not run here, as all rooms do.
    fn skip(why: &str) {
        eprintln!("skipped: {why}");
        if let Some(file) = std::env::var_os("EVENKEEL_TESTS_SKIPPED") {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
            writeln!(file.unwrap(), "{why}").unwrap();
        }
    }

    /// Interrupts a demo when it says `moment`.
    fn check_interrupted(moment: &str, signal: Signal) {
        let mut demo = Demo::start(&[]);
        let mut lines = BufReader::new(demo.child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(moment)), "{moment}");
        assert!(!processes(demo.temp.path()).is_empty());
        demo.signal(signal);
        assert!(lines.any(|line| line.unwrap().contains("interrupted")), "{moment}");
        assert_eq!(demo.end().code(), Some(130), "{moment}");
        demo.assert_gone();
    }

    #[test]
    fn interrupted_it_leaves_nothing_behind() {
        // While the program is copied and the database made, and while control is away in
        // mid-release.
        check_interrupted("the stack starts", Signal::TERM);
        check_interrupted("kill -9 of the control process", Signal::INT);
    }
}
