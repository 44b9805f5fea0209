//! What happens in the demo, in order. Every wait has a deadline; what goes otherwise than it
//! should ends the demo with an error.

mod orders;

use std::cell::{Cell, OnceCell, RefCell};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use evenkeel_control::api::types::{
    Answer, Event, InstanceView, ReleaseView, Rollback, VersionView,
};
use rustix::process::{Pid, Signal, kill_process};

use super::load::Load;
use super::show::{Show, ms};
use super::stack::Variant;
use super::stage::Stage;
use crate::role;

/// How long any one release may take; a slow machine needs a third of it.
const RELEASE_MAX: Duration = Duration::from_secs(40);
/// How long a process that was killed may be away.
const BACK_MAX: Duration = Duration::from_secs(20);
/// How long the load may take to reach a revision that it is meant to reach.
const REACHED_MAX: Duration = Duration::from_secs(15);
/// How long the last requests may take to end: a little more than each of them may.
const LAST_MAX: Duration = Duration::from_secs(15);
/// Answers of a revision that show that it takes part: this part of a second's requests.
const ANSWERS_PART: u64 = 5;
/// How often another port is tried when somebody else takes the edge's.
const PORTS_MAX: usize = 3;

/// What the play came to.
#[derive(Debug)]
pub(super) struct Played {
    /// Oldest first.
    pub(super) releases: Vec<ReleaseView>,
    pub(super) orders: Chapter,
}

/// What became of the chapter with the database.
#[derive(Debug)]
pub(super) enum Chapter {
    /// There was no database, and why.
    LeftOut(String),
    /// Every order that was taken is in the table, as it was taken.
    Kept { rows: usize },
}

/// What the script plays with.
#[derive(Debug)]
pub(super) struct Script<'a> {
    stage: &'a Stage,
    pub(super) show: &'a RefCell<Show>,
    /// Requests a second.
    rate: u32,
    /// The load, once it has begun.
    load: OnceCell<Load>,
    /// How far the journal has been shown.
    shown: Cell<u64>,
}

impl<'a> Script<'a> {
    pub(super) fn new(stage: &'a Stage, show: &'a RefCell<Show>, rate: u32) -> Self {
        Self { stage, show, rate, load: OnceCell::new(), shown: Cell::new(0) }
    }

    /// The load, once it has begun.
    pub(super) fn load(&self) -> anyhow::Result<&Load> {
        self.load.get().context("there is no load yet")
    }

    /// The load, after the play.
    pub(super) fn ended(self) -> Option<Load> {
        self.load.into_inner()
    }

    /// Shows what the journal has to tell since it was looked at last.
    pub(super) async fn news(&self) {
        let path = format!("/v1/journal?after={}", self.shown.get());
        // Control is killed on the way; it tells the rest when it is back.
        let events: Vec<Event> = self.stage.try_get(&path).await.unwrap_or_default();
        for event in events {
            // Two may be asking at the same time.
            if event.seq > self.shown.get() {
                self.shown.set(event.seq);
                self.show.borrow_mut().journal(&event);
            }
        }
    }

    /// Plays it all.
    pub(super) async fn play(&self) -> anyhow::Result<Played> {
        self.open().await?;

        let rate = self.rate;
        self.step(&format!("steady load begins: {rate} requests a second")).await;
        let load = Load::start(self.stage.port(), rate)?;
        let load = self.load.get_or_init(|| load);
        self.reached(Variant::First).await?;

        self.step("web r2 by canary: 10 %, 25 %, 50 %, all; things die on the way").await;
        let id = self.stage.apply(Variant::Good).await?;
        self.canary(id).await?;

        self.step("web r3 never becomes healthy").await;
        let id = self.stage.apply(Variant::Stuck).await?;
        self.taken_back(id, Variant::Stuck).await?;

        self.step("web r4 dies under load, again and again").await;
        let id = self.stage.apply(Variant::Crashing).await?;
        self.taken_back(id, Variant::Crashing).await?;

        self.step("web r5 and catalog r2 in one release, all traffic at once (blue-green)").await;
        let id = self.stage.apply(Variant::Both).await?;
        self.there_and_back(id).await?;

        let left_out = self.orders().await?;

        self.step("the load ends; the last answers are waited for").await;
        load.end();
        let ended = async || Ok(load.has_ended().then_some(()));
        self.stage.until("the last answers", LAST_MAX, ended).await?;
        let orders = match left_out {
            Some(text) => Chapter::LeftOut(text),
            None => self.compare().await?,
        };
        let mut releases: Vec<ReleaseView> = self.stage.get("/v1/releases").await?;
        releases.reverse();
        Ok(Played { releases, orders })
    }

    /// Brings the first revisions up; there is nobody to notice yet.
    async fn open(&self) -> anyhow::Result<()> {
        self.step("the stack starts: 3 x web, which asks 2 x catalog").await;
        for _ in 0..PORTS_MAX {
            let id = self.stage.apply(Variant::First).await?;
            let release = self.settled(id).await?;
            if release.promoted {
                let port = self.stage.port();
                self.says("serving", &format!("the stack serves at http://127.0.0.1:{port}/"))
                    .await;
                return Ok(());
            }
            let because = release.because.unwrap_or_default();
            ensure!(because.contains("could not listen"), "the stack does not start: {because}");
            self.stage.change_port()?;
        }
        bail!("no port stayed free for the edge; try again");
    }

    /// Waits until a release is promoted or has ended.
    async fn settled(&self, id: u64) -> anyhow::Result<ReleaseView> {
        let what = format!("the end of release {id}");
        let path = format!("/v1/releases/{id}");
        self.stage
            .until(&what, RELEASE_MAX, async || {
                let release: ReleaseView = self.stage.get(&path).await?;
                Ok((release.promoted || release.outcome.is_some()).then_some(release))
            })
            .await
    }

    /// Waits until a release has ended, whichever way.
    async fn over(&self, id: u64) -> anyhow::Result<()> {
        let path = format!("/v1/releases/{id}");
        let ended = async || Ok(self.stage.get::<ReleaseView>(&path).await?.outcome.map(|_| ()));
        self.stage.until(&format!("the end of release {id}"), RELEASE_MAX, ended).await
    }

    /// Short answers of a variant's web so far.
    fn answers(&self, variant: Variant) -> u64 {
        self.load.get().map_or(0, |load| load.record().of(variant.version()))
    }

    /// A new part begins.
    async fn step(&self, text: &str) {
        self.news().await;
        self.show.borrow_mut().step(text);
    }

    /// Tells something, after what has happened before.
    async fn says(&self, kind: &str, text: &str) {
        self.news().await;
        self.show.borrow_mut().says(kind, text);
    }

    /// A good release, while things die that have nothing to do with it.
    async fn canary(&self, id: u64) -> anyhow::Result<()> {
        self.reached(Variant::Good).await?;
        self.kill_instance().await?;
        self.kill_control().await?;
        let release = self.settled(id).await?;
        if !release.promoted {
            bail!("the good release was taken back: {}", release.because.unwrap_or_default());
        }
        let version = Variant::Good;
        self.says("promoted", &format!("all traffic is on web r{version}")).await;
        self.reached_again(version).await
    }

    /// A release that must come back.
    async fn taken_back(&self, id: u64, variant: Variant) -> anyhow::Result<()> {
        let release = self.settled(id).await?;
        ensure!(!release.promoted, "a bad release was promoted: web r{variant}");
        let seen = self.answers(variant);
        let text = match seen {
            0 => format!("web r{variant} is taken back; no request has ever reached it"),
            _ => format!("web r{variant} is taken back; it has answered {seen} requests"),
        };
        self.says("taken-back", &text).await;
        Ok(())
    }

    /// All at once, and back at once.
    async fn there_and_back(&self, id: u64) -> anyhow::Result<()> {
        let release = self.settled(id).await?;
        if !release.promoted {
            bail!("the last release was taken back: {}", release.because.unwrap_or_default());
        }
        self.reached(Variant::Both).await?;
        let version = Variant::Both.version();
        self.step("somebody regrets it: rollback, while the old instances are still warm").await;
        let asked = Instant::now();
        self.stage.post::<_, Answer>("/v1/rollback", &Rollback::default()).await?;
        let answered = asked.elapsed();
        self.reached_again(Variant::Good).await?;
        self.over(id).await?;
        let last = self.load()?.record().versions.get(version).map(|tally| tally.last);
        let last = last.map(|last| last.saturating_duration_since(asked)).unwrap_or_default();
        self.says(
            "rolled-back",
            &format!(
                "the last answer of web r{version} came {} after the command (which returned after \
                 {}); since then web r2 answers everything",
                ms(last),
                ms(answered)
            ),
        )
        .await;
        Ok(())
    }

    /// Waits until the load is answered by a version.
    async fn reached(&self, variant: Variant) -> anyhow::Result<()> {
        self.more_of(variant, 0).await
    }

    /// Waits until it is answered by it some more.
    async fn reached_again(&self, variant: Variant) -> anyhow::Result<()> {
        let before = self.answers(variant);
        self.more_of(variant, before).await
    }

    async fn more_of(&self, variant: Variant, before: u64) -> anyhow::Result<()> {
        let what = format!("answers of web r{variant}");
        let answers = u64::from(self.rate) / ANSWERS_PART;
        self.stage
            .until(&what, REACHED_MAX, async || {
                Ok((self.answers(variant) >= before + answers).then_some(()))
            })
            .await
    }

    /// Kills an old instance of web, and waits until its shim has started it again.
    async fn kill_instance(&self) -> anyhow::Result<()> {
        let victim = self.web("r1", |_| true).await?.context("there is no old web to kill")?;
        let pid = victim.pid.context("the old web has no process")?;
        let killed = Instant::now();
        kill(pid)?;
        let id = victim.id;
        self.says("killed", &format!("kill -9 of {id}, process {pid}, in the middle of its work"))
            .await;
        let what = format!("the return of {id}");
        self.stage
            .until(&what, BACK_MAX, async || {
                self.web("r1", |it| {
                    it.id == id && it.pid.is_some_and(|new| new != pid) && it.state == "healthy"
                })
                .await
            })
            .await?;
        let took = killed.elapsed();
        self.says("back", &format!("{id} runs again, {} later", ms(took))).await;
        Ok(())
    }

    /// The first instance of a revision of web that is as wanted.
    async fn web(
        &self,
        revision: &str,
        is: impl Fn(&InstanceView) -> bool,
    ) -> anyhow::Result<Option<InstanceView>> {
        let status = self.stage.status().await?;
        let web = status.services.into_iter().find(|service| service.name == "web");
        let pools = web.into_iter().flat_map(|web| web.pools);
        let mut pools = pools.filter(|pool| pool.revision == revision);
        Ok(pools.find_map(|pool| pool.instances.into_iter().find(|it| is(it))))
    }

    /// Kills the control process, and waits until its keeper has started it again.
    async fn kill_control(&self) -> anyhow::Result<()> {
        let pid = role::pid_of(self.stage.home(), "control").context("control does not run")?;
        let killed = Instant::now();
        kill(pid)?;
        self.says("killed", &format!("kill -9 of the control process {pid}, in mid-release")).await;
        self.stage
            .until("the return of control", BACK_MAX, async || {
                let version: Option<VersionView> = self.stage.try_get("/v1/version").await;
                Ok(version.filter(|version| version.pid != pid))
            })
            .await?;
        let took = killed.elapsed();
        self.says("back", &format!("control answers again, {} later, and goes on", ms(took))).await;
        Ok(())
    }
}

fn kill(pid: u32) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a process")?;
    kill_process(pid, Signal::KILL).context("could not kill a process")
}
