//! Questions as they come over the wire, and the words of answers.

/// Bytes of a header.
pub(crate) const HEADER: usize = 12;
/// The longest name, in bytes on the wire.
const NAME_MAX: usize = 255;
/// The largest answer over UDP that we send, whatever somebody takes: below it nothing on the way
/// needs to be cut in pieces.
pub(crate) const UDP_MAX: usize = 1232;
/// The largest answer over UDP to somebody who does not say what they take.
pub(crate) const UDP_MIN: usize = 512;
/// Records behind the question that are looked at; one is all that any client sends, two with a
/// signature.
const EXTRAS_MAX: u16 = 4;

pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const SOA: u16 = 6;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;
const OPT: u16 = 41;
pub(crate) const ANY: u16 = 255;
/// The flag of an answer that is not whole.
const TRUNCATED: u16 = 0x0200;
const IN: u16 = 1;
const CLASS_ANY: u16 = 255;

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    /// The upper bits of this one are in the OPT record.
    BadVers = 16,
}

/// The name in a question, in lower case and as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    bytes: [u8; NAME_MAX],
    length: usize,
}

impl Name {
    pub(crate) fn wire(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Its labels, the first one first. One that is no text has no label here.
    pub(crate) fn labels(&self) -> Option<Vec<&str>> {
        let mut labels = Vec::new();
        let mut rest = self.wire();
        while let Some((&length, tail)) = rest.split_first() {
            if length == 0 {
                break;
            }
            let (label, tail) = tail.split_at_checked(usize::from(length))?;
            labels.push(std::str::from_utf8(label).ok()?);
            rest = tail;
        }
        Some(labels)
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) id: u16,
    pub(crate) recursion: bool,
    pub(crate) name: Name,
    pub(crate) kind: u16,
    /// Where the question ends in the message.
    pub(crate) end: usize,
    /// What somebody who knows EDNS takes over UDP.
    pub(crate) edns: Option<u16>,
}

/// A message that is no question for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unasked {
    /// Nothing is said to it: it is an answer, or too short to be answered.
    Silence,
    /// It is answered with this. Where its question ends, if it has a readable one.
    Answer { code: Code, end: Option<usize>, edns: bool },
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

impl Query {
    /// Reads a message.
    pub(crate) fn read(message: &[u8]) -> Result<Self, Unasked> {
        let head = |at| number(message, at).ok_or(Unasked::Silence);
        let (id, flags) = (head(0)?, head(2)?);
        let counts = [head(4)?, head(6)?, head(8)?, head(10)?];
        if flags & 0x8000 != 0 {
            return Err(Unasked::Silence);
        }
        let wrong = |code, end| Unasked::Answer { code, end, edns: false };
        if flags & 0x7800 != 0 {
            return Err(wrong(Code::NotImp, None));
        }
        let [1, 0, 0, extras] = counts else { return Err(wrong(Code::FormErr, None)) };
        let (name, at) = read_name(message).ok_or_else(|| wrong(Code::FormErr, None))?;
        let (Some(kind), Some(class)) = (number(message, at), number(message, at + 2)) else {
            return Err(wrong(Code::FormErr, None));
        };
        let end = at + 4;
        let edns = match read_extras(message, end, extras) {
            Extras::Plain => None,
            Extras::Edns { payload, version: 0 } => Some(payload),
            Extras::Edns { .. } => {
                return Err(Unasked::Answer { code: Code::BadVers, end: Some(end), edns: true });
            }
            Extras::Malformed => return Err(wrong(Code::FormErr, Some(end))),
        };
        if class != IN && class != CLASS_ANY {
            let edns = edns.is_some();
            return Err(Unasked::Answer { code: Code::Refused, end: Some(end), edns });
        }
        Ok(Self { id, recursion: flags & 0x0100 != 0, name, kind, end, edns })
    }

    /// The largest answer that fits over UDP.
    pub(crate) fn udp_max(&self) -> usize {
        self.edns.map_or(UDP_MIN, |payload| usize::from(payload).clamp(UDP_MIN, UDP_MAX))
    }
}

/// The name of the question, and where it ends.
fn read_name(message: &[u8]) -> Option<(Name, usize)> {
    let mut name = Name { bytes: [0; NAME_MAX], length: 0 };
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        // A question has nothing before it that a pointer could lead to.
        if length > 63 {
            return None;
        }
        let part = message.get(at..=at + length)?;
        let into = name.bytes.get_mut(name.length..name.length + part.len())?;
        into.copy_from_slice(part);
        // Lengths are below the letters, so they stay as they are.
        into.make_ascii_lowercase();
        name.length += part.len();
        at += part.len();
        if length == 0 {
            return Some((name, at));
        }
    }
}

enum Extras {
    Plain,
    Edns { payload: u16, version: u8 },
    Malformed,
}

fn read_extras(message: &[u8], mut at: usize, count: u16) -> Extras {
    let mut found = Extras::Plain;
    if count > EXTRAS_MAX {
        return Extras::Malformed;
    }
    for _ in 0..count {
        let Some(fixed) = skip_name(message, at) else { return Extras::Malformed };
        let root = message.get(at) == Some(&0);
        let (Some(kind), Some(class), Some(version), Some(length)) = (
            number(message, fixed),
            number(message, fixed + 2),
            message.get(fixed + 5),
            number(message, fixed + 8),
        ) else {
            return Extras::Malformed;
        };
        at = fixed + 10 + usize::from(length);
        if message.len() < at {
            return Extras::Malformed;
        }
        if kind == OPT {
            if !root || matches!(found, Extras::Edns { .. }) {
                return Extras::Malformed;
            }
            found = Extras::Edns { payload: class, version: *version };
        }
    }
    found
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            length @ 1..=63 => at += length + 1,
            0xC0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// What an answer's header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) code: Code,
    pub(crate) authoritative: bool,
    pub(crate) truncated: bool,
    pub(crate) recursive: bool,
    pub(crate) counts: [u16; 3],
    pub(crate) edns: bool,
}

impl Head {
    /// An answer of nothing but a code.
    pub(crate) fn only(code: Code, edns: bool) -> Self {
        Self {
            code,
            authoritative: false,
            truncated: false,
            recursive: false,
            counts: [0; 3],
            edns,
        }
    }

    /// Writes the header and the question of `message`, up to `end`, into the empty `out`.
    pub(crate) fn write(self, message: &[u8], end: Option<usize>, out: &mut Vec<u8>) {
        let question = end.and_then(|end| message.get(HEADER..end)).unwrap_or_default();
        let asked = u16::from(!question.is_empty());
        let [answers, authority, additional] = self.counts;
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        let flags = 0x8000
            | flag(self.authoritative, 0x0400)
            | flag(self.truncated, TRUNCATED)
            | (number(message, 2).unwrap_or(0) & 0x7900)
            | flag(self.recursive, 0x0080)
            | (self.code as u16 & 0x000F);
        out.extend_from_slice(message.get(..2).unwrap_or(&[0, 0]));
        let additional = additional + u16::from(self.edns);
        for number in [flags, asked, answers, authority, additional] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(question);
    }

    /// Says in what [`Head::write`] has written how many records there are now, and whether some
    /// are missing.
    pub(crate) fn amend(self, out: &mut [u8]) {
        if self.truncated {
            out[2] |= TRUNCATED.to_be_bytes()[0];
        }
        let [answers, authority, additional] = self.counts;
        let counts = [answers, authority, additional + u16::from(self.edns)];
        for (place, count) in out[6..HEADER].chunks_exact_mut(2).zip(counts) {
            place.copy_from_slice(&count.to_be_bytes());
        }
    }

    /// Bytes of what [`Head::finish`] writes.
    pub(crate) const OPT_BYTES: usize = 11;

    /// Writes the record that ends an answer to somebody who knows EDNS.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        if self.edns {
            let upper = u8::try_from(self.code as u16 >> 4).unwrap_or_default();
            let [high, low] = u16::try_from(UDP_MAX).unwrap_or(u16::MAX).to_be_bytes();
            out.extend_from_slice(&[0, 0, 41, high, low, upper, 0, 0, 0, 0, 0]);
        }
    }
}

/// Appends a name given as text, without a dot at its end. Labels that are too long are cut off
/// by nobody: ours are all short.
pub(crate) fn write_name(text: &str, out: &mut Vec<u8>) {
    for label in text.split('.').filter(|it| !it.is_empty() && it.len() <= 63) {
        out.push(u8::try_from(label.len()).unwrap_or_default());
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
}

#[cfg(test)]
pub(crate) fn question(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let extras = u8::from(edns.is_some());
    let mut message = vec![0xAB, 0xCD, 1, 0, 0, 1, 0, 0, 0, 0, 0, extras];
    write_name(name, &mut message);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&IN.to_be_bytes());
    if let Some(payload) = edns {
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&payload.to_be_bytes());
        message.extend_from_slice(&[0; 6]);
    }
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_question_is_read_in_lower_case() {
        let message = question("WeB.shop.INTERNAL", SRV, Some(4096));
        let query = Query::read(&message).unwrap();
        assert_eq!(query.name.labels().unwrap(), ["web", "shop", "internal"]);
        assert_eq!((query.id, query.kind, query.edns), (0xABCD, SRV, Some(4096)));
        assert_eq!((query.recursion, query.udp_max()), (true, UDP_MAX));
        assert_eq!(message.len() - query.end, Head::OPT_BYTES);
    }

    #[test]
    fn what_is_no_question_is_answered_as_the_standard_says() {
        let code = |message: &[u8]| match Query::read(message) {
            Err(Unasked::Answer { code, .. }) => Some(code),
            Err(Unasked::Silence) => None,
            Ok(query) => panic!("{query:?}"),
        };
        let good = question("a.b", A, None);
        let with = |at: usize, byte: u8| {
            let mut message = good.clone();
            message[at] = byte;
            message
        };
        assert_eq!(code(&good[..11]), None);
        assert_eq!(code(&with(2, 0x80)), None, "an answer");
        assert_eq!(code(&with(2, 0x28)), Some(Code::NotImp), "an update");
        assert_eq!(code(&with(5, 2)), Some(Code::FormErr), "two questions");
        assert_eq!(code(&with(12, 0xC0)), Some(Code::FormErr), "a pointer");
        assert_eq!(code(&good[..good.len() - 1]), Some(Code::FormErr));
        assert_eq!(code(&with(good.len() - 1, 3)), Some(Code::Refused), "class CHAOS");
        assert_eq!(code(&with(11, 1)), Some(Code::FormErr), "a record is missing");
        let mut newer = question("a.b", A, Some(512));
        let version = newer.len() - 5;
        newer[version] = 1;
        assert_eq!(code(&newer), Some(Code::BadVers));
    }

    proptest! {
        #[test]
        fn any_message_is_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            cut in any::<prop::sample::Index>(),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            drop(Query::read(&bytes));
            let mut message = question("i1.r2.web.shop.internal", SRV, Some(1232));
            for (at, byte) in flips {
                let at = at.index(message.len());
                message[at] = byte;
            }
            message.truncate(cut.index(message.len()) + 1);
            if let Ok(query) = Query::read(&message) {
                prop_assert!(query.end <= message.len());
                drop(query.name.labels());
            }
        }
    }
}
