//! A question to a DNS server and the meaning of an answer (RFC 1035, 2782, 3596): bytes to values and back. Accepts
//! any bytes: every read is checked, compressed names point only backwards, and chains of aliases are limited. Knows
//! nothing of sockets, servers and time.

// Only the types: `core` has no sockets.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Name;

const HEADER: usize = 12;
const IN: u16 = 1;
const CNAME: u16 = 5;

/// The number of pointers in one name. A name cannot have more labels.
const MOST_POINTERS: usize = 127;

/// The longest chain of aliases. Servers answer with the whole chain.
const LONGEST_CHAIN: usize = 16;

/// The type of the requested records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Services: host, port, priority and weight.
    Srv,
}

impl Kind {
    fn code(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Aaaa => 28,
            Kind::Srv => 33,
        }
    }
}

/// A question. Its id should not be predictable.
#[derive(Clone, Debug)]
pub struct Query {
    /// The id, which the answer repeats.
    pub id: u16,
    /// The requested name.
    pub name: Name,
    /// The type of the requested records.
    pub kind: Kind,
}

/// One record of the requested type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The address of an A or AAAA record.
    Address(IpAddr),
    /// The service of an SRV record.
    Service(Service),
}

impl Record {
    /// The address in an A or AAAA record.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Record::Address(address) => Some(address),
            Record::Service(_) => None,
        }
    }

    /// The service in an SRV record.
    pub fn service(self) -> Option<Service> {
        match self {
            Record::Service(service) => Some(service),
            Record::Address(_) => None,
        }
    }
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The host of the service, with a dot at the end.
    pub target: String,
    /// A port of TCP or UDP, as the name of the record says.
    pub port: u16,
    /// Services with a lower number are used first.
    pub priority: u16,
    /// The share of requests among services with one priority.
    pub weight: u16,
}

/// The meaning of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The records of the name, in the server's order. Empty: the name exists, but has no records of this type.
    Records(Vec<Record>),
    /// The name does not exist (NXDOMAIN).
    NoName,
    /// The answer did not fit; ask again over TCP.
    Truncated,
    /// The server could not or would not answer: the code of RFC 1035, 4.1.1.
    Refused(u8),
    /// An answer to this question that cannot be parsed, and the cause.
    Garbled(&'static str),
}

impl Query {
    /// The question as a message for UDP. Over TCP its length in two bytes precedes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = self.id.to_be_bytes().to_vec();
        // Recursion desired; one question.
        message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend_from_slice(self.name.wire());
        message.extend_from_slice(&self.kind.code().to_be_bytes());
        message.extend_from_slice(&IN.to_be_bytes());
        message
    }

    /// The meaning of a message as an answer to this question; `None`: it is no answer to it, and is to be ignored.
    pub fn reply(&self, message: &[u8]) -> Option<Reply> {
        let mut reader = Reader { message, at: 0 };
        let (id, flags) = (reader.u16()?, reader.u16()?);
        let (questions, answers) = (reader.u16()?, reader.u16()?);
        let (is_answer, opcode, truncated, code) =
            (flags >> 15 == 1, flags >> 11 & 15, flags >> 9 & 1 == 1, flags.to_be_bytes()[1] & 15);
        if id != self.id || !is_answer || opcode != 0 {
            return None;
        }
        reader.at = HEADER;
        let names_it = match questions {
            // Some servers leave the question out if they could not parse it.
            0 => !matches!(code, 0 | 3),
            1 => reader.name()? == self.name && (reader.u16()?, reader.u16()?) == (self.kind.code(), IN),
            _ => false,
        };
        if !names_it {
            return None;
        }
        Some(match code {
            0 if truncated => Reply::Truncated,
            0 => match self.records(reader, answers) {
                Ok(records) => Reply::Records(records),
                Err(why) => Reply::Garbled(why),
            },
            3 => Reply::NoName,
            code => Reply::Refused(code),
        })
    }

    /// The records of the name, or of the name that it is an alias for.
    fn records(&self, mut reader: Reader, count: u16) -> Result<Vec<Record>, &'static str> {
        const CUT: &str = "its records end too early";
        let (mut aliases, mut found) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let owner = reader.name().ok_or(CUT)?;
            let (kind, class) = (reader.u16().ok_or(CUT)?, reader.u16().ok_or(CUT)?);
            // The time to live: records are not kept.
            reader.take(4).ok_or(CUT)?;
            let length = usize::from(reader.u16().ok_or(CUT)?);
            let start = reader.at;
            let data = reader.take(length).ok_or(CUT)?;
            // A name in the data may point to an earlier place in the message.
            let mut inside = Reader { message: &reader.message[..start + length], at: start };
            if class == IN && kind == CNAME {
                aliases.push((owner, inside.name().ok_or("an alias without a name")?));
            } else if class == IN && kind == self.kind.code() {
                found.push((owner, self.record(data, inside)?));
            }
        }
        let mut name = &self.name;
        for _ in 0..LONGEST_CHAIN {
            match aliases.iter().find(|(alias, _)| alias == name) {
                Some((_, target)) => name = target,
                None => return Ok(found.into_iter().filter(|(owner, _)| owner == name).map(|(_, r)| r).collect()),
            }
        }
        Err("more than 16 aliases, one of the other")
    }

    fn record(&self, data: &[u8], mut inside: Reader) -> Result<Record, &'static str> {
        match self.kind {
            Kind::A => {
                let bytes: [u8; 4] = data.try_into().map_err(|_| "an IPv4 address that has not 4 bytes")?;
                Ok(Record::Address(IpAddr::V4(Ipv4Addr::from(bytes))))
            }
            Kind::Aaaa => {
                let bytes: [u8; 16] = data.try_into().map_err(|_| "an IPv6 address that has not 16 bytes")?;
                Ok(Record::Address(IpAddr::V6(Ipv6Addr::from(bytes))))
            }
            Kind::Srv => {
                let mut number = || inside.u16().ok_or("an SRV record that is too short");
                let (priority, weight, port) = (number()?, number()?, number()?);
                let target = inside.name().ok_or("an SRV record without a target")?;
                let target = target.host().ok_or("an SRV record with a target that is no host name")?;
                Ok(Record::Service(Service { target, port, priority, weight }))
            }
        }
    }
}

/// A message and the position in it. Reads beyond its end return `None`.
struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let bytes = self.message.get(self.at..)?.get(..length)?;
        self.at += length;
        Some(bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Reads a name, which may end with a pointer to the rest. Every pointer has to point before the last one, so that
    /// the chain ends; the length of the name limits the labels.
    fn name(&mut self) -> Option<Name> {
        let mut name = Name::root();
        let mut reader = Reader { message: self.message, at: self.at };
        let (mut before, mut after_pointer, mut pointers) = (self.at, None, 0);
        loop {
            match reader.take(1)?[0] {
                0 => break,
                length @ 1..0x40 => name.push(reader.take(length.into())?)?,
                high @ 0xC0.. => {
                    let target = usize::from(u16::from_be_bytes([high & 0x3F, reader.take(1)?[0]]));
                    after_pointer.get_or_insert(reader.at);
                    pointers += 1;
                    if target >= before || pointers > MOST_POINTERS {
                        return None;
                    }
                    (before, reader.at) = (target, target);
                }
                // Label types that are not in use.
                _ => return None,
            }
        }
        self.at = after_pointer.unwrap_or(reader.at);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(kind: Kind) -> Query {
        Query { id: 0xABCD, name: Name::new("db.example.com").unwrap(), kind }
    }

    /// The answer to a question: flags and records, each an owner, a kind and data. An owner of one byte is a pointer.
    fn message(query: &Query, flags: u16, records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut message = query.encode();
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (owner, kind, data) in records {
            match owner {
                [offset] => message.extend([0xC0, *offset]),
                wire => message.extend_from_slice(wire),
            }
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60]);
            message.extend((data.len() as u16).to_be_bytes());
            message.extend_from_slice(data);
        }
        message
    }

    const OK: u16 = 0x8180;
    /// The place of the question's name.
    const ASKED: &[u8] = &[12];

    fn address(text: &str) -> Record {
        Record::Address(text.parse().unwrap())
    }

    #[track_caller]
    fn check(kind: Kind, records: &[(&[u8], u16, &[u8])], want: Result<&[Record], &'static str>) {
        let query = query(kind);
        let want = want.map_or_else(Reply::Garbled, |records| Reply::Records(records.to_vec()));
        assert_eq!(query.reply(&message(&query, OK, records)), Some(want));
    }

    #[test]
    fn a_question_in_bytes() {
        let want = b"\xAB\xCD\x01\0\0\x01\0\0\0\0\0\0\x02db\x07example\x03com\0\0\x1C\0\x01";
        assert_eq!(query(Kind::Aaaa).encode(), want);
    }

    #[test]
    fn addresses() {
        check(Kind::A, &[], Ok(&[]));
        let both = [address("10.0.0.2"), address("10.0.0.1")];
        check(Kind::A, &[(ASKED, 1, &[10, 0, 0, 2]), (ASKED, 1, &[10, 0, 0, 1])], Ok(&both));
        check(Kind::A, &[(b"\x02DB\x07Example\xC0\x17", 1, &[10, 0, 0, 2])], Ok(&both[..1]));
        let six = [0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        check(Kind::Aaaa, &[(ASKED, 28, &six)], Ok(&[address("fd00::1")]));
        check(Kind::Aaaa, &[(ASKED, 28, &six[..15])], Err("an IPv6 address that has not 16 bytes"));
        check(Kind::A, &[(ASKED, 1, &[10, 0, 0])], Err("an IPv4 address that has not 4 bytes"));
    }

    #[test]
    fn records_of_others_are_left_out() {
        check(Kind::A, &[(b"\x03foe\0", 1, &[6, 6, 6, 6]), (ASKED, 1, &[10, 0, 0, 1])], Ok(&[address("10.0.0.1")]));
        check(Kind::A, &[(ASKED, 28, &[0; 16]), (ASKED, 46, b"signature")], Ok(&[]));
        // A record of the parent.
        check(Kind::A, &[(&[15], 1, &[6, 6, 6, 6])], Ok(&[]));
    }

    #[test]
    fn aliases_are_followed_in_any_order() {
        let (one, two) = (b"\x03one\0", b"\x03two\0");
        let want = [address("10.0.0.1")];
        let last: (&[u8], u16, &[u8]) = (two, 1, &[10, 0, 0, 1]);
        check(Kind::A, &[(ASKED, 5, one), (one, 5, two), last], Ok(&want));
        check(Kind::A, &[last, (one, 5, b"\x03TWO\0"), (ASKED, 5, one)], Ok(&want));
        check(Kind::A, &[(ASKED, 5, one), last], Ok(&[]));
        check(Kind::A, &[(ASKED, 5, one), (one, 5, ASKED_WIRE)], Err("more than 16 aliases, one of the other"));
        check(Kind::A, &[(ASKED, 5, ASKED_WIRE)], Err("more than 16 aliases, one of the other"));
        check(Kind::A, &[(ASKED, 5, b"\x03on")], Err("an alias without a name"));
    }

    const ASKED_WIRE: &[u8] = b"\x02db\x07example\x03com\0";

    #[test]
    fn services() {
        let service =
            |target: &str| Record::Service(Service { target: target.to_owned(), port: 8080, priority: 10, weight: 5 });
        let data = |target: &[u8]| [&[0, 10, 0, 5, 0x1F, 0x90], target].concat();
        check(Kind::Srv, &[(ASKED, 33, &data(b"\x01a\xC0\x0F"))], Ok(&[service("a.example.com.")]));
        check(Kind::Srv, &[(ASKED, 33, &data(b"\0"))], Ok(&[service(".")]));
        check(Kind::Srv, &[(ASKED, 33, &data(b""))], Err("an SRV record without a target"));
        check(Kind::Srv, &[(ASKED, 33, &[0; 5])], Err("an SRV record that is too short"));
        for strange in [&b"\x02a\n\0"[..], b"\x01\"\0", b"\x03a.b\0", b"\x01\xFC\0"] {
            let want = Err("an SRV record with a target that is no host name");
            check(Kind::Srv, &[(ASKED, 33, &data(strange))], want);
        }
    }

    #[test]
    fn other_answers_of_servers() {
        let check = |flags: u16, want: Option<Reply>| {
            let query = query(Kind::A);
            assert_eq!(query.reply(&message(&query, flags, &[])), want, "{flags:x}");
        };
        check(0x8180, Some(Reply::Records(vec![])));
        check(0x8380, Some(Reply::Truncated));
        check(0x8183, Some(Reply::NoName));
        check(0x8383, Some(Reply::NoName));
        check(0x8182, Some(Reply::Refused(2)));
        check(0x8185, Some(Reply::Refused(5)));
        // A question, and a request of another kind.
        check(0x0180, None);
        check(0x8980, None);
    }

    #[test]
    fn answers_to_other_questions_are_no_answers() {
        let asked = query(Kind::A);
        let check = |change: &dyn Fn(&mut Query), want: bool| {
            let mut other = asked.clone();
            change(&mut other);
            assert_eq!(asked.reply(&message(&other, OK, &[])).is_some(), want, "{other:?}");
        };
        check(&|_| {}, true);
        check(&|other| other.name = Name::new("DB.example.COM").unwrap(), true);
        check(&|other| other.id ^= 1, false);
        check(&|other| other.kind = Kind::Aaaa, false);
        check(&|other| other.name = Name::new("db.example.org").unwrap(), false);
        let without_question = |code: u8| [0xAB, 0xCD, 0x81, code, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(asked.reply(&without_question(0x81)), Some(Reply::Refused(1)));
        assert_eq!(asked.reply(&without_question(0x80)), None);
        assert_eq!(asked.reply(&without_question(0x83)), None);
        let mut two = message(&asked, OK, &[]);
        two[5] = 2;
        assert_eq!(asked.reply(&two), None);
    }

    #[test]
    fn every_cut_of_an_answer_is_seen() {
        let query = query(Kind::A);
        let whole = message(&query, OK, &[(ASKED, 5, b"\x03one\0"), (b"\x03one\0", 1, &[10, 0, 0, 1])]);
        let question = query.encode().len();
        for length in 0..whole.len() {
            let want = (length >= question).then_some(Reply::Garbled("its records end too early"));
            assert_eq!(query.reply(&whole[..length]), want, "{length} bytes");
        }
        // Bytes after the records are ignored.
        assert_eq!(query.reply(&[&whole[..], b"more"].concat()), query.reply(&whole));
    }

    #[test]
    fn compressed_names_end() {
        let check = |bytes: &[u8], want: Option<(&str, usize)>| {
            let mut reader = Reader { message: bytes, at: 4 };
            let name = reader.name().map(|name| name.to_string());
            assert_eq!(name.as_deref().map(|name| (name, reader.at)), want, "{bytes:?}");
        };
        check(b"\x01x\0.\0", Some((".", 5)));
        check(b"\x01x\0.\x01y\0", Some(("y.", 7)));
        check(b"\x01x\0.\x01y\xC0\0", Some(("y.x.", 8)));
        check(b"\x01x\0.\xC0\0more", Some(("x.", 6)));
        check(b"\x01x\xC0\0\xC0\0", None);
        // A pointer to itself, forwards, beyond the end, and in a circle.
        check(b"....\xC0\x04", None);
        check(b"....\xC0\x06\x01x\0", None);
        check(b"....\xFF\xFF", None);
        check(b"....\x01x\xC0\x04", None);
        check(b"....\xC0", None);
        check(b"....\x05ab", None);
        check(b"....\x01x", None);
        check(b"....\x41x\0", None);
        check(b"....\x80x\0", None);
        // The longest name, and one label more.
        let labels = |count: usize| [b"....", &b"\x01x".repeat(count)[..], b"\0"].concat();
        check(&labels(127), Some((&"x.".repeat(127), 259)));
        check(&labels(128), None);
        // Pointers to pointers, each to the one before.
        let pointers = |count: usize| {
            let before = (0..count).flat_map(|n| [0xC0, if n == 0 { 0 } else { 2 * n as u8 }]);
            let bytes: Vec<u8> = [0, 0].into_iter().chain(before).collect();
            Reader { message: &bytes, at: 2 * count }.name().is_some()
        };
        assert!(pointers(1) && pointers(100) && pointers(127));
        assert!(!pointers(128));
    }

    #[test]
    fn hostile_bytes_do_nothing() {
        // Marsaglia's xorshift64: the same bytes in every run.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |end: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % end as u64) as usize
        };
        let mut read = 0;
        for round in 0..60_000 {
            let query = query([Kind::A, Kind::Aaaa, Kind::Srv][round % 3]);
            let data: Vec<u8> = (0..random(40)).map(|_| random(256) as u8).collect();
            let owner: &[u8] = if random(2) == 0 { ASKED } else { &[random(80) as u8] };
            let kind = [1, 5, 28, 33][random(4)];
            let mut bytes = message(&query, OK, &[(owner, kind, &data), (ASKED, kind, &data), (ASKED, 5, &data)]);
            for _ in 0..random(4) {
                let at = random(bytes.len());
                bytes[at] = [random(256) as u8, 0xC0, 12, 0][random(4)];
            }
            bytes.truncate(bytes.len() - random(8));
            read += usize::from(matches!(query.reply(&bytes), Some(Reply::Records(_))));
        }
        assert!(read > 100, "only {read} of the messages could be read: they are too hostile to test much");
    }

    #[test]
    fn a_message_full_of_aliases_costs_little() {
        let query = query(Kind::A);
        // Each alias points to the name of the question, and none is reached: at most 16 searches through all records.
        let records: Vec<(&[u8], u16, &[u8])> = vec![(&[15], 5, ASKED_WIRE); 2_000];
        assert_eq!(query.reply(&message(&query, OK, &records)), Some(Reply::Records(vec![])));
    }
}
