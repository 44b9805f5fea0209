//! DNS as `dig` sees it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use evenkeel_kernel::model::Discovery;

use crate::machine::{program, until};
use crate::rig::{ILL, Rig, WELL, addrs, service};

/// Asks, and gives what is said.
fn dig(dig: &Path, server: SocketAddr, args: &[&str]) -> String {
    let output = Command::new(dig)
        .arg(format!("@{}", server.ip()))
        .args(["-p", &server.port().to_string(), "+tries=2", "+time=2"])
        .args(args)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lines of a short answer, in order.
fn short(program: &Path, server: SocketAddr, args: &[&str]) -> Vec<String> {
    let text = dig(program, server, &[args, &["+short"]].concat());
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A rig with `web` in two revisions, `six` on IPv6 and `empty` without instances.
fn rig() -> Rig {
    let rig = Rig::new();
    let web = service(&[(9_000, addrs("127.0.0.1:1001", 3)), (1_000, addrs("127.0.0.2:2001", 1))]);
    let six = service(&[(10_000, addrs("[::1]:3001", 1))]);
    let names = ["web", "six", "empty"].map(|name| name.parse().unwrap());
    rig.serve(names.into_iter().zip([web, six, service(&[])]).collect());
    rig
}

#[test]
fn services_revisions_and_instances_have_names() {
    let Some(program) = program("dig") else { return };
    let rig = rig();
    until("it answers", || {
        (short(&program, rig.dns, &["web.shop.internal"]).len() == 2).then_some(())
    });
    let says = |args: &[&str], lines: &[&str]| {
        assert_eq!(short(&program, rig.dns, args), lines, "{args:?}");
    };
    says(&["web.shop.internal"], &["127.0.0.1", "127.0.0.2"]);
    says(&["r1.web.shop.internal"], &["127.0.0.1"]);
    says(&["i1.r2.web.shop.internal"], &["127.0.0.2"]);
    says(&["six.shop.internal", "AAAA"], &["::1"]);
    says(&["ns.internal", "A"], &[]);
    let ports = [
        "1 21845 2001 i1.r2.web.shop.internal.",
        "1 65535 1001 i1.r1.web.shop.internal.",
        "1 65535 1002 i2.r1.web.shop.internal.",
        "1 65535 1003 i3.r1.web.shop.internal.",
    ];
    says(&["web.shop.internal", "SRV"], &ports);
    says(&["_web._tcp.shop.internal", "SRV"], &ports);
    says(&["_http._tcp.web.shop.internal", "SRV"], &ports);
    says(&["i2.r1.web.shop.internal", "SRV"], &ports[2..3]);
    // Consul's.
    says(&["web.service.consul"], &["127.0.0.1", "127.0.0.2"]);
    says(&["web.service.shop.consul"], &["127.0.0.1", "127.0.0.2"]);
    says(&["r2.web.service.consul"], &["127.0.0.2"]);
    says(&["_web._r2.service.consul", "SRV"], &["1 65535 2001 7f000002.addr.shop.consul."]);
    says(&["7f000002.addr.shop.consul"], &["127.0.0.2"]);
    assert_eq!(short(&program, rig.dns, &["_web._tcp.service.consul", "SRV"]).len(), 4);
}

#[test]
fn only_the_well_are_told_of_and_weights_follow() {
    let Some(program) = program("dig") else { return };
    let rig = rig();
    let ports = || short(&program, rig.dns, &["web.shop.internal", "SRV"]);
    until("all are there", || (ports().len() == 4).then_some(()));
    rig.see("web.r1.1", ILL);
    rig.see("web.r1.2", ILL);
    let less = ["1 65535 1003 i3.r1.web.shop.internal.", "1 7282 2001 i1.r2.web.shop.internal."];
    until("two are left", || (ports() == less).then_some(()));
    rig.see("web.r1.3", ILL);
    until("one is left", || (ports() == ["1 65535 2001 i1.r2.web.shop.internal."]).then_some(()));
    rig.see("web.r2.1", ILL);
    until("rather all than none", || (ports().len() == 4).then_some(()));
    rig.see("web.r2.1", WELL);
    until("one is back", || (ports().len() == 1).then_some(()));
    rig.serve_web(&[(10_000, addrs("127.0.0.1:1001", 1)), (0, addrs("127.0.0.2:2001", 1))]);
    until("no weight, no record", || {
        (ports() == ["1 65535 1001 i1.r1.web.shop.internal."]).then_some(())
    });
}

#[test]
fn what_is_not_there_is_said_as_the_standard_asks() {
    let Some(program) = program("dig") else { return };
    let rig = rig();
    until("it answers", || {
        (!short(&program, rig.dns, &["web.shop.internal"]).is_empty()).then_some(())
    });
    let says = |args: &[&str], parts: &[&str]| {
        let text = dig(&program, rig.dns, args);
        for part in parts {
            assert!(text.contains(part), "{args:?}: {part:?} is not in\n{text}");
        }
    };
    let soa = "internal.\t\t1\tIN\tSOA\tns.internal. hostmaster.internal.";
    says(&["nobody.shop.internal"], &["NXDOMAIN", "AUTHORITY: 1", soa, "flags: qr aa rd;"]);
    says(&["r9.web.shop.internal"], &["NXDOMAIN", soa]);
    says(&["web.other.internal"], &["NXDOMAIN", soa]);
    // There is the name, but nothing of this kind: a client may ask for the other.
    for args in [
        &["web.shop.internal", "AAAA"][..],
        &["six.shop.internal", "A"],
        &["web.shop.internal", "TXT"],
        &["web.shop.internal", "TYPE65"],
        &["empty.shop.internal", "A"],
        &["shop.internal", "A"],
        &["_tcp.shop.internal", "SRV"],
        &["_web._tcp.shop.internal", "A"],
        &["internal", "A"],
    ] {
        says(args, &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1", soa]);
    }
    says(&["internal", "SOA"], &["ANSWER: 1, AUTHORITY: 0", soa]);
    says(&["internal", "NS"], &["ANSWER: 1", "NS\tns.internal."]);
    says(&["nobody.service.consul"], &["NXDOMAIN", "consul.\t\t\t1\tIN\tSOA\tns.consul."]);
    says(&["example.com"], &["status: REFUSED"]);
    // The case comes back as it was sent, and the server says what it takes.
    says(
        &["WeB.sHop.iNternal"],
        &[";WeB.sHop.iNternal.", "WeB.sHop.iNternal.\t1\tIN\tA\t127.0.0.1"],
    );
    says(&["web.shop.internal"], &["EDNS: version: 0", "udp: 1232"]);
    says(&["web.shop.internal", "+edns=1", "+noednsneg"], &["status: BADVERS"]);
    says(&["web.shop.internal", "+opcode=update"], &["status: NOTIMP"]);
    says(&["web.shop.internal", "CH"], &["status: REFUSED"]);
}

#[test]
fn long_answers_are_cut_and_whole_over_tcp() {
    let Some(program) = program("dig") else { return };
    let rig = Rig::new();
    rig.serve_web(&[(10_000, addrs("127.0.0.1:1001", 200))]);
    let name = ["web.shop.internal", "SRV"];
    let ask = |args: &[&str]| dig(&program, rig.dns, &[&name, args].concat());
    until("it answers", || ask(&[]).contains("ANSWER: 200").then_some(()));
    let cut = ask(&["+ignore", "+noedns"]);
    assert!(cut.contains("flags: qr aa tc rd;"), "{cut}");
    let size = |text: &str| -> usize {
        let size = text.lines().find_map(|line| line.strip_prefix(";; MSG SIZE  rcvd: "));
        size.unwrap().trim().parse().unwrap()
    };
    assert!((400..=512).contains(&size(&cut)), "{cut}");
    let more = ask(&["+ignore", "+bufsize=4096"]);
    assert!(more.contains(" tc ") && (1_100..=1_232).contains(&size(&more)), "{more}");
    // dig asks again over TCP by itself.
    let whole = ask(&[]);
    assert!(whole.contains("ANSWER: 200, AUTHORITY: 0, ADDITIONAL: 201"), "{whole}");
    assert!(ask(&["+tcp"]).contains("ANSWER: 200"));
    // The first record goes round.
    let first = || ask(&["+short", "+tcp"]).lines().next().unwrap().to_owned();
    let firsts: std::collections::BTreeSet<String> = (0..4).map(|_| first()).collect();
    assert_eq!(firsts.len(), 4);
}

#[test]
fn other_names_are_forwarded_to_whoever_answers() {
    let Some(program) = program("dig") else { return };
    // The server behind is another of ours, with another domain.
    let mut settings = Discovery { domain: "example".to_owned(), ..Discovery::default() };
    let behind = Rig::with(settings.clone());
    behind.serve_web(&[(10_000, addrs("192.0.2.7:80", 120))]);
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    settings.domain = "internal".to_owned();
    settings.forward = vec![nobody.local_addr().unwrap(), behind.dns];
    let rig = Rig::with(settings);
    rig.serve_web(&[(10_000, addrs("127.0.0.1:1001", 1))]);
    let name = "WEB.shop.example";
    let ask = |args: &[&str]| dig(&program, rig.dns, &[&[name], args].concat());
    until("it is forwarded", || ask(&[]).contains("192.0.2.7").then_some(()));
    assert!(ask(&[]).contains("WEB.shop.example.\t1\tIN\tA"));
    assert!(ask(&["SRV", "+ignore"]).contains(" tc "));
    assert!(ask(&["SRV"]).contains("ANSWER: 120"), "over TCP too");
    assert!(dig(&program, rig.dns, &["no.shop.example"]).contains("NXDOMAIN"));
    let own = dig(&program, rig.dns, &["web.shop.internal"]);
    assert!(own.contains("flags: qr aa rd ra;") && own.contains("127.0.0.1"), "{own}");
    drop(behind);
    assert!(ask(&["+time=5", "+tries=1"]).contains("SERVFAIL"));
}

#[test]
fn a_second_process_may_answer_beside_the_first() {
    let Some(program) = program("dig") else { return };
    let rig = rig();
    until("it answers", || {
        (!short(&program, rig.dns, &["web.shop.internal"]).is_empty()).then_some(())
    });
    // The same sockets and the same directory, as while an edge takes over from another.
    let mut second = rig;
    for _ in 0..3 {
        let first = second.start_another();
        drop(first);
        for _ in 0..20 {
            assert_eq!(short(&program, second.dns, &["web.shop.internal"]).len(), 2);
        }
    }
}
