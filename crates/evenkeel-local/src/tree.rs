//! Everything that belongs to one instance, wherever it has hidden, and its end.
//!
//! A process belongs to it when it is in its cgroup, descends from its shim or its leader, is in
//! the leader's session, or was started with the incarnation's marker in its environment. Of
//! anything else nothing is known, and what is not known is not killed.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::cgroup::Leaf;
use crate::process::{self, Ident, Stat};

/// How often processes are looked for and stopped before they are killed: enough for whatever
/// does not fork faster than we look, and a bound for what does.
const ROUNDS_MAX: usize = 8;

/// By what the processes of one instance are recognised.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    /// The shim; itself not a part of the tree.
    pub(crate) shim: u32,
    /// The process that the shim started or adopted, as long as we have watched it without a
    /// gap: only then its number still means its session.
    pub(crate) leader: Option<Ident>,
    /// The line in the environment, where it has to be looked for: not while one and the same
    /// shim has had the instance from its first process on. What that shim's processes leave
    /// behind becomes its own children, so descent misses nobody.
    pub(crate) marker: Option<&'a str>,
    /// The cgroup, where there is one.
    pub(crate) leaf: Option<&'a Leaf>,
    /// Processes that were recognised before.
    pub(crate) known: &'a BTreeSet<Ident>,
}

impl Tree<'_> {
    /// All living processes of the instance.
    pub(crate) fn members(&self) -> BTreeSet<Ident> {
        let grouped = self.leaf.map(Leaf::pids).unwrap_or_default();
        let all = self.candidates(&grouped);
        let grouped: BTreeSet<u32> = grouped.into_iter().collect();
        let mut pids = BTreeSet::from([self.shim]);
        Self::gather(&all, &mut pids, |stat| {
            grouped.contains(&stat.ident.pid) || self.is_known(stat) || self.in_session(stat)
        });
        if self.marker.is_some() {
            // It costs a read of the other process's memory, so it is asked last.
            Self::gather(&all, &mut pids, |stat| !stat.ended && self.is_marked(stat));
        }
        let members = all.iter().filter(|stat| {
            !stat.ended && stat.ident.pid != self.shim && pids.contains(&stat.ident.pid)
        });
        members.map(|stat| stat.ident).collect()
    }

    /// Processes among which all of the instance's are. Without a marker to look for, descent and
    /// the cgroup miss nobody, and the machine's other processes need not be looked at.
    fn candidates(&self, grouped: &[u32]) -> Vec<Stat> {
        let near = match self.marker {
            Some(_) => None,
            None => {
                let known = self.known.iter().map(|ident| ident.pid);
                let more: Vec<u32> = grouped.iter().copied().chain(known).collect();
                process::descendants(self.shim, &more)
            }
        };
        near.unwrap_or_else(process::all)
    }

    /// Adds the processes that `belongs` knows, and all their descendants.
    fn gather(all: &[Stat], pids: &mut BTreeSet<u32>, belongs: impl Fn(&Stat) -> bool) {
        let strangers: Vec<&Stat> =
            all.iter().filter(|stat| !pids.contains(&stat.ident.pid)).collect();
        pids.extend(strangers.iter().filter(|stat| belongs(stat)).map(|stat| stat.ident.pid));
        loop {
            let before = pids.len();
            for stat in &strangers {
                if pids.contains(&stat.parent) {
                    pids.insert(stat.ident.pid);
                }
            }
            if pids.len() == before {
                return;
            }
        }
    }

    fn is_marked(&self, stat: &Stat) -> bool {
        self.marker.is_some_and(|marker| process::is_marked(stat.ident.pid, marker))
    }

    fn is_known(&self, stat: &Stat) -> bool {
        self.known.contains(&stat.ident)
    }

    fn in_session(&self, stat: &Stat) -> bool {
        self.leader.is_some_and(|leader| {
            // While anybody is in the session its number is not given away; and if it was, its
            // new owner has another start time.
            stat.session == leader.pid
                && process::stat(leader.pid).is_none_or(|now| now.ident == leader)
        })
    }

    /// Kills what belongs to the instance. Returns what was there to be killed; the tree has
    /// ended when a call finds nothing.
    pub(crate) fn kill(&self) -> BTreeSet<Ident> {
        if let Some(leaf) = self.leaf {
            // Should it fail, the processes are killed one by one below.
            let _best_effort = leaf.kill();
        }
        let mut found = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            let members = self.members();
            let fresh: Vec<Ident> = members.difference(&found).copied().collect();
            if fresh.is_empty() {
                break;
            }
            // Stopped first: what does not run cannot fork while the others are looked for.
            for ident in &fresh {
                ident.signal(Signal::STOP);
            }
            found.extend(fresh);
        }
        for ident in &found {
            ident.signal(Signal::KILL);
        }
        found
    }

    /// The leader of the instance that a former shim started without living to say so: it carries
    /// the marker and leads a session.
    pub(crate) fn unreported_leader(&self) -> Option<Ident> {
        let all = process::all();
        let leaders = all.iter().filter(|stat| {
            stat.ident.pid != self.shim
                && stat.session == stat.ident.pid
                && !stat.ended
                && self.is_marked(stat)
        });
        // A daemon that made a session of its own inherited the marker, but is younger.
        leaders.map(|stat| stat.ident).min_by_key(|ident| ident.start)
    }

    /// Resident memory of the whole tree, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let grouped: Option<Vec<Ident>> =
            self.leaf.map(|leaf| leaf.pids().into_iter().filter_map(Ident::of).collect());
        match grouped {
            // The cgroup says who belongs to it for a fraction of what a search costs.
            Some(members) => members.into_iter().map(Ident::resident).sum(),
            None => self.members().into_iter().map(Ident::resident).sum(),
        }
    }
}
