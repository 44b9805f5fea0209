//! Answers that are ready to be sent but for the question's own bytes.
//!
//! Names of records that are the question's name point to it, so one answer serves every way to
//! write the name, and the writing comes back as it came.

use std::net::IpAddr;

use super::message::{A, AAAA, Code, Head, Query, SRV, write_name};

/// Seconds for which an answer may be kept by whoever got it. A revision that goes is left its time
/// to drain, which is longer.
const TTL: u32 = 1;
/// A pointer to the question's name.
const QUESTION: [u8; 2] = [0xC0, 12];
/// Records of one answer at most; more do not fit into any message.
pub(super) const RECORDS_MAX: usize = 2_000;

/// Records of one section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    /// Adds a record of `kind` for the name that `name` writes.
    fn add(&mut self, name: &[u8], kind: u16, data: impl FnOnce(&mut Vec<u8>)) {
        let out = &mut self.bytes;
        out.extend_from_slice(name);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&1_u16.to_be_bytes());
        out.extend_from_slice(&TTL.to_be_bytes());
        let at = out.len();
        out.extend_from_slice(&[0, 0]);
        data(out);
        let length = u16::try_from(out.len() - at - 2).unwrap_or_default().to_be_bytes();
        if let Some(place) = out.get_mut(at..at + 2) {
            place.copy_from_slice(&length);
        }
        self.ends.push(out.len());
    }

    fn address(&mut self, name: &[u8], ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.add(name, A, |out| out.extend_from_slice(&ip.octets())),
            IpAddr::V6(ip) => self.add(name, AAAA, |out| out.extend_from_slice(&ip.octets())),
        }
    }

    fn start(&self, record: usize) -> usize {
        record.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }

    /// Writes as many as fit into `room`, beginning with record `first` and going round. Returns
    /// how many, and whether these are all.
    fn write(&self, first: usize, room: usize, out: &mut Vec<u8>) -> (u16, bool) {
        let count = self.ends.len();
        let (head, tail) = self.bytes.split_at(self.start(first));
        if self.bytes.len() <= room {
            out.extend_from_slice(tail);
            out.extend_from_slice(head);
            return (u16::try_from(count).unwrap_or(u16::MAX), true);
        }
        let (mut left, mut written) = (room, 0);
        for record in (first..count).chain(0..first) {
            let end = self.ends.get(record).copied().unwrap_or_default();
            let bytes = self.bytes.get(self.start(record)..end).unwrap_or_default();
            if bytes.len() > left {
                break;
            }
            left -= bytes.len();
            out.extend_from_slice(bytes);
            written += 1;
        }
        (written, false)
    }
}

/// Where a record of a service leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    pub(super) weight: u16,
}

/// A zone as it is named where there is nothing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zone<'a> {
    pub(super) name: &'a str,
    pub(super) serial: u32,
}

impl Zone<'_> {
    fn data(&self, out: &mut Vec<u8>) {
        write_name(&format!("ns.{}", self.name), out);
        write_name(&format!("hostmaster.{}", self.name), out);
        // Refresh, retry, expiry, and for how long a name that is not there stays so.
        for number in [self.serial, 3_600, 600, 86_400, TTL] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    code: Code,
    answers: Records,
    authority: Records,
    additional: Records,
}

impl Ready {
    fn empty(code: Code) -> Self {
        Self {
            code,
            answers: Records::default(),
            authority: Records::default(),
            additional: Records::default(),
        }
    }

    /// There is no such name, or nothing of what was asked for.
    pub(super) fn nothing(exists: bool, zone: &Zone<'_>) -> Self {
        let mut it = Self::empty(if exists { Code::NoError } else { Code::NxDomain });
        let mut name = Vec::new();
        write_name(zone.name, &mut name);
        it.authority.add(&name, super::message::SOA, |out| zone.data(out));
        it
    }

    /// The zone's own record, asked for by the zone's name.
    pub(super) fn zone(zone: &Zone<'_>) -> Self {
        let mut it = Self::empty(Code::NoError);
        it.answers.add(&QUESTION, super::message::SOA, |out| zone.data(out));
        it
    }

    /// Who answers for the zone.
    pub(super) fn servers(zone: &Zone<'_>) -> Self {
        let mut it = Self::empty(Code::NoError);
        it.answers.add(&QUESTION, super::message::NS, |out| {
            write_name(&format!("ns.{}", zone.name), out);
        });
        it
    }

    /// Addresses.
    pub(super) fn addresses(ips: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut it = Self::empty(Code::NoError);
        ips.into_iter().take(RECORDS_MAX).for_each(|ip| it.answers.address(&QUESTION, ip));
        it
    }

    /// Targets with ports and weights, and their addresses beside them.
    pub(super) fn targets(targets: &[Target]) -> Self {
        let mut it = Self::empty(Code::NoError);
        for target in targets.iter().take(RECORDS_MAX) {
            let mut name = Vec::with_capacity(64);
            write_name(&target.name, &mut name);
            it.answers.add(&QUESTION, SRV, |out| {
                for number in [1, target.weight, target.port] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
                out.extend_from_slice(&name);
            });
            it.additional.address(&name, target.ip);
        }
        it
    }

    /// Writes the answer to `query`, which `message` holds, into the empty `out`, at most `limit`
    /// bytes. `turn` says which of the records comes first.
    pub(super) fn write(
        &self,
        query: &Query,
        message: &[u8],
        limit: usize,
        turn: usize,
        recursive: bool,
        out: &mut Vec<u8>,
    ) {
        let edns = query.edns.is_some();
        let mut head = Head { authoritative: true, recursive, ..Head::only(self.code, edns) };
        head.write(message, Some(query.end), out);
        let last = limit.saturating_sub(if edns { Head::OPT_BYTES } else { 0 });
        let first = turn.checked_rem(self.answers.ends.len()).unwrap_or(0);
        let (answers, whole) = self.answers.write(first, last.saturating_sub(out.len()), out);
        head.truncated = !whole;
        head.counts = [answers, 0, 0];
        if whole {
            head.counts[1] = self.authority.write(0, last.saturating_sub(out.len()), out).0;
            // What is left out here can be asked for, so it makes no answer incomplete.
            let additional = first.min(self.additional.ends.len());
            head.counts[2] =
                self.additional.write(additional, last.saturating_sub(out.len()), out).0;
        }
        head.amend(out);
        head.finish(out);
    }
}
