//! The PROXY protocol, versions 1 and 2: a head before a connection that says for whom it is.
//! (HAProxy, `doc/proxy-protocol.txt`.)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest head of version 1, with its end.
const LINE_MAX: usize = 107;
/// The longest head of version 2 that is taken: with room for what others add.
const BLOCK_MAX: usize = 16 + 2_048;
/// Bytes that are looked at at once: more than either head.
pub(crate) const HEAD_MAX: usize = BLOCK_MAX;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// More are needed to tell.
    Unfinished,
    /// A head of this length. It names a client, unless the proxy speaks for itself.
    Whole(usize, Option<IpAddr>),
    /// None.
    None,
}

/// Looks at the first bytes of a connection.
pub(crate) fn read(bytes: &[u8]) -> Head {
    let start = bytes.get(..SIGNATURE.len().min(bytes.len())).unwrap_or_default();
    if SIGNATURE.starts_with(start) {
        return if start.len() < SIGNATURE.len() { Head::Unfinished } else { version_2(bytes) };
    }
    let word = b"PROXY ";
    if word.starts_with(bytes.get(..word.len().min(bytes.len())).unwrap_or_default()) {
        return version_1(bytes);
    }
    Head::None
}

fn version_1(bytes: &[u8]) -> Head {
    let within = bytes.get(..LINE_MAX.min(bytes.len())).unwrap_or_default();
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE_MAX { Head::Unfinished } else { Head::None };
    };
    let Ok(line) = std::str::from_utf8(within.get(..end).unwrap_or_default()) else {
        return Head::None;
    };
    let words: Vec<&str> = line.split(' ').collect();
    let client = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", client, proxy, from, to] => {
            let sane = [*client, *proxy].iter().all(|it| it.parse::<Ipv4Addr>().is_ok());
            if !sane || !are_ports(&[from, to]) {
                return Head::None;
            }
            client.parse().ok()
        }
        ["PROXY", "TCP6", client, proxy, from, to] => {
            let sane = [*client, *proxy].iter().all(|it| it.parse::<Ipv6Addr>().is_ok());
            if !sane || !are_ports(&[from, to]) {
                return Head::None;
            }
            client.parse().ok()
        }
        _ => return Head::None,
    };
    Head::Whole(end + 2, client)
}

fn are_ports(words: &[&str]) -> bool {
    words.iter().all(|it| it.parse::<u16>().is_ok())
}

fn version_2(bytes: &[u8]) -> Head {
    let Some([command, family, high, low]) = bytes.get(12..16) else { return Head::Unfinished };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let whole = 16 + length;
    // Version 2; local or for somebody.
    if !matches!(command, 0x20 | 0x21) || whole > BLOCK_MAX {
        return Head::None;
    }
    let Some(block) = bytes.get(16..whole) else { return Head::Unfinished };
    if *command == 0x20 {
        return Head::Whole(whole, None);
    }
    let client = match family >> 4 {
        1 => {
            block.get(..12).and_then(|it| <[u8; 4]>::try_from(it.get(..4)?).ok()).map(IpAddr::from)
        }
        2 => block
            .get(..36)
            .and_then(|it| <[u8; 16]>::try_from(it.get(..16)?).ok())
            .map(IpAddr::from),
        // Unknown, or a unix socket.
        _ => return Head::Whole(whole, None),
    };
    match client {
        Some(client) => Head::Whole(whole, Some(client)),
        None => Head::None,
    }
}

/// The head of version 2 for a connection from `client` to `own`.
pub(crate) fn write(client: SocketAddr, own: SocketAddr) -> Vec<u8> {
    let mut head = SIGNATURE.to_vec();
    head.push(0x21);
    let ports = [client.port().to_be_bytes(), own.port().to_be_bytes()].concat();
    match (client.ip().to_canonical(), own.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(own)) => {
            head.extend([0x11, 0, 12]);
            head.extend([client.octets(), own.octets()].concat());
        }
        (client, own) => {
            let wide = |it: IpAddr| match it {
                IpAddr::V4(it) => it.to_ipv6_mapped().octets(),
                IpAddr::V6(it) => it.octets(),
            };
            head.extend([0x21, 0, 36]);
            head.extend([wide(client), wide(own)].concat());
        }
    }
    head.extend(ports);
    head
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> Head {
        read(text.as_bytes())
    }

    #[test]
    fn lines_of_version_1() {
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let line = "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n";
        assert_eq!(whole(&format!("{line}GET /")), Head::Whole(line.len(), ip("192.0.2.1")));
        let line = "PROXY TCP6 2001:db8::1 ::1 1 2\r\n";
        assert_eq!(whole(line), Head::Whole(line.len(), ip("2001:db8::1")));
        assert_eq!(whole("PROXY UNKNOWN\r\n"), Head::Whole(15, None));
        assert_eq!(whole("PROXY UNKNOWN ff 1\r\n"), Head::Whole(20, None));
        for bad in [
            "PROXY TCP4 ::1 10.0.0.1 1 2\r\n",
            "PROXY TCP4 1.2.3.4 10.0.0.1 1 70000\r\n",
            "PROXY TCP4 1.2.3.4 10.0.0.1 1\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert_eq!(whole(bad), Head::None, "{bad}");
        }
        assert_eq!(read(&[b"PROXY ".as_slice(), &[b'x'; 200]].concat()), Head::None);
    }

    #[test]
    fn what_is_written_is_read_whole_and_not_before() {
        for (client, own) in [("192.0.2.1:7", "10.0.0.1:443"), ("[2001:db8::1]:7", "[::1]:443")] {
            let client: SocketAddr = client.parse().unwrap();
            let mut bytes = write(client, own.parse().unwrap());
            let length = bytes.len();
            for end in 0..length {
                assert_eq!(read(&bytes[..end]), Head::Unfinished, "{end}");
            }
            bytes.extend(b"GET /");
            assert_eq!(read(&bytes), Head::Whole(length, Some(client.ip())));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(
            start in prop_oneof![Just(SIGNATURE.to_vec()), Just(b"PROXY TCP4 ".to_vec()), Just(vec![])],
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [start, rest].concat();
            if let Head::Whole(length, _) = read(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
