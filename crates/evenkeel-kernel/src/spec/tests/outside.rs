//! Routes, doors, certificates and traffic: generated for the round trip, and what is said of wrong
//! ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::time::Duration;

use expect_test::expect;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::agreement::check;
use super::round_trip::list;
use crate::model::{
    AccessLog, Acme, Balance, Certificate, CertificateName, CertificateSource, Edge, Exposed,
    HashKey, Leads, Matches, Mirror, Rate, Redirect, Route, RouteName, RoutePolicy, ServiceName,
    Stack, Sticky, TcpRoute, Telemetry, Traces, Traffic, UpstreamTls, Weight,
};
use crate::spec::starter::quoted;

fn span() -> impl Strategy<Value = Duration> {
    (1_u64..=600_000).prop_map(Duration::from_millis)
}

fn methods() -> impl Strategy<Value = BTreeSet<String>> {
    btree_set(select(vec!["GET", "HEAD", "POST", "PURGE"]).prop_map(str::to_owned), 0..3)
}

fn pairs(names: &'static str) -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(names, "[ -~]{0,6}[*]?", 0..3)
}

pub(super) fn matches() -> impl Strategy<Value = Matches> {
    (methods(), pairs("[a-z][a-z-]{0,5}"), pairs("[A-Za-z]{1,5}"))
        .prop_map(|(methods, headers, cookies)| Matches { methods, headers, cookies })
}

fn rate() -> impl Strategy<Value = Rate> {
    let per = (1_000_u64..=3_600_000).prop_map(Duration::from_millis);
    (1_u32..=1_000, per, 1_u32..=1_000, any::<bool>())
        .prop_map(|(requests, per, burst, by_client)| Rate { requests, per, burst, by_client })
}

fn policy() -> impl Strategy<Value = RoutePolicy> {
    let times = (of(span()), of(span()), of(0_u32..=5));
    (times, of(0_u64..1 << 40), of(rate()), any::<bool>(), of("[ -~]{1,9}")).prop_map(
        |((timeout, try_timeout, retries), body_max, rate, strip, maintenance)| RoutePolicy {
            timeout,
            try_timeout,
            retries,
            body_max,
            rate,
            strip,
            maintenance,
        },
    )
}

/// Routes to a service, or elsewhere where there is none.
pub(super) fn routes(to: Option<ServiceName>) -> impl Strategy<Value = BTreeMap<RouteName, Route>> {
    let redirect =
        ("https?://[a-z]{1,5}[.]test(/[a-z]{0,3})?", select(vec![301_u16, 302, 303, 307, 308]))
            .prop_map(|(to, status)| Leads::Redirect(Redirect { to, status }));
    let leads = match to {
        Some(to) => prop_oneof![3 => Just(Leads::To(to)), 1 => redirect].boxed(),
        None => redirect.boxed(),
    };
    let host = of("([*][.])?[a-z]{1,5}[.]test");
    let route = (any::<bool>(), matches(), leads, policy());
    let all = btree_map((host, "/[a-z]{0,5}"), route, 0..4);
    all.prop_map(|all| {
        let route = |(number, ((host, path), (exact, matches, leads, policy))): (usize, _)| {
            let route = Route { host, path, exact, matches, leads, policy };
            (format!("r{number}").parse().unwrap(), route)
        };
        all.into_iter().enumerate().map(route).collect()
    })
}

pub(super) fn tcp(to: Option<ServiceName>) -> impl Strategy<Value = BTreeMap<RouteName, TcpRoute>> {
    let most = if to.is_some() { 3 } else { 1 };
    btree_map(1_u16.., any::<bool>(), 0..most).prop_map(move |doors| {
        let door = |(port, proxy_protocol): (u16, bool)| {
            let listen = ([127, 0, 0, 9], port).into();
            let route = TcpRoute { listen, to: to.clone()?, proxy_protocol };
            Some((format!("d{port}").parse().unwrap(), route))
        };
        doors.into_iter().filter_map(door).collect()
    })
}

pub(super) fn edge() -> impl Strategy<Value = Edge> {
    let ports = |last| {
        btree_set(1_u16.., 1..3).prop_map(move |ports| {
            ports.iter().map(|port| ([127, 0, 0, last], *port).into()).collect::<Vec<_>>()
        })
    };
    let proxies = vec(select(vec!["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]), 0..3);
    let acme = ("https://[a-z]{1,5}[.]test/d", of("[a-z]{1,5}@a[.]test"), of("/[a-z]{1,5}[.]pem"))
        .prop_map(|(directory, contact, root)| Acme { directory, contact, root });
    (ports(1), ports(2), any::<bool>(), proxies, of(acme), telemetry()).prop_map(
        |(listen, tls, to_https, proxies, acme, telemetry)| {
            let proxies = proxies.iter().map(|it| it.parse().unwrap()).collect();
            Edge { listen, tls, to_https, proxies, acme, telemetry }
        },
    )
}

pub(super) fn certificates() -> impl Strategy<Value = BTreeMap<CertificateName, Certificate>> {
    let files = ("/[a-z]{1,5}", "/[a-z]{1,5}")
        .prop_map(|(chain, key)| CertificateSource::Files { chain, key });
    vec((1_usize..3, prop_oneof![files, Just(CertificateSource::Acme)]), 0..3).prop_map(|all| {
        let certificate = |(number, (hosts, from)): (usize, (usize, _))| {
            let hosts = (0..hosts).map(|host| format!("h{host}.c{number}.test")).collect();
            (format!("c{number}").parse().unwrap(), Certificate { hosts, from })
        };
        all.into_iter().enumerate().map(certificate).collect()
    })
}

fn key() -> impl Strategy<Value = HashKey> {
    prop_oneof![
        Just(HashKey::Client),
        "[a-z-]{1,5}".prop_map(HashKey::Header),
        "[A-Za-z]{1,5}".prop_map(HashKey::Cookie),
    ]
}

pub(super) fn traffic() -> impl Strategy<Value = Traffic> {
    let balance = prop_oneof![
        Just(Balance::PeakEwma),
        Just(Balance::LeastRequest),
        Just(Balance::RoundRobin),
        prop_oneof![Just(HashKey::Path), key()].prop_map(Balance::Hash),
    ];
    let sizes = (1_u32..=100_000, 0_u32..=100_000, 0_u16..=10_000);
    (balance, span(), span(), sizes).prop_map(
        |(balance, slow_start, queue_wait, (in_flight_max, queue_max, eject_max))| Traffic {
            balance,
            slow_start,
            in_flight_max,
            queue_max,
            queue_wait,
            eject_max: Weight(eject_max),
        },
    )
}

pub(super) fn exposed(exclusive: bool) -> BoxedStrategy<Exposed> {
    if exclusive {
        return Just(Exposed::default()).boxed();
    }
    let sticky = prop_oneof![Just(Sticky::Own), key().prop_map(Sticky::By)];
    let testers = matches().prop_map(|it| Matches { methods: BTreeSet::new(), ..it });
    let testers = testers.prop_filter("a condition", |it| it.count() > 0);
    let mirror = (1_u16..=10_000, methods()).prop_map(|(share, methods)| Mirror {
        share: Weight(share),
        methods: if methods.is_empty() { Mirror::safe_methods() } else { methods },
    });
    (of(sticky), of(testers), of(mirror))
        .prop_map(|(sticky, testers, mirror)| Exposed { sticky, testers, mirror })
        .boxed()
}

pub(super) fn upstream_tls() -> impl Strategy<Value = Option<UpstreamTls>> {
    let own = of(("/[a-z]{1,5}", "/[a-z]{1,5}"));
    of(("[a-z]{1,5}[.]test", "/[a-z]{1,5}", own).prop_map(|(name, ca, own)| UpstreamTls {
        name,
        ca,
        own,
    }))
}

fn ms(span: Duration) -> String {
    format!("\"{}ms\"", span.as_millis())
}

fn telemetry() -> impl Strategy<Value = Telemetry> {
    let sample = || (1_u16..=10_000).prop_map(Weight);
    let log = (of("/[a-z]{1,5}[.]log"), sample(), any::<bool>(), 1_u64..999, 1_u32..1_000)
        .prop_map(|(file, sample, query, rotate, keep)| AccessLog {
            file,
            sample,
            query,
            rotate: rotate << 20,
            keep,
        });
    let traces = ("http://[a-z]{1,5}:[1-9][0-9]{2}", sample())
        .prop_map(|(to, sample)| Traces { to, sample });
    let metrics = (1_u16..).prop_map(|port| ([127, 0, 0, 3], port).into());
    (of(metrics), of(log), of(traces)).prop_map(|(metrics, access_log, traces)| Telemetry {
        metrics,
        access_log,
        traces,
    })
}

fn print_telemetry(out: &mut String, it: &Telemetry) -> fmt::Result {
    if let Some(log) = &it.access_log {
        writeln!(out, "[edge.access_log]\nsample = \"{}\"", log.sample)?;
        if let Some(file) = &log.file {
            writeln!(out, "file = {}", quoted(file))?;
        }
        writeln!(out, "query = {}\nrotate = \"{}MiB\"", log.query, log.rotate >> 20)?;
        writeln!(out, "keep = {}", log.keep)?;
    }
    if let Some(traces) = &it.traces {
        writeln!(out, "[edge.traces]\nto = {}", quoted(&traces.to))?;
        writeln!(out, "sample = \"{}\"", traces.sample)?;
    }
    Ok(())
}

/// Prints what is described here.
pub(super) fn print(out: &mut String, stack: &Stack) -> fmt::Result {
    let addrs = |all: &[std::net::SocketAddr]| -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    };
    let edge = &stack.edge;
    writeln!(
        out,
        "[edge]\nlisten = {}\ntls = {}",
        list(&addrs(&edge.listen)),
        list(&addrs(&edge.tls))
    )?;
    let proxies: Vec<String> = edge.proxies.iter().map(ToString::to_string).collect();
    writeln!(out, "to_https = {}\nproxies = {}", edge.to_https, list(&proxies))?;
    if let Some(addr) = edge.telemetry.metrics {
        writeln!(out, "metrics = \"{addr}\"")?;
    }
    print_telemetry(out, &edge.telemetry)?;
    if let Some(acme) = &edge.acme {
        writeln!(out, "[edge.acme]\ndirectory = {}", quoted(&acme.directory))?;
        for (key, value) in [("contact", &acme.contact), ("root", &acme.root)] {
            if let Some(value) = value {
                writeln!(out, "{key} = {}", quoted(value))?;
            }
        }
    }
    for (name, it) in &stack.certificates {
        writeln!(out, "[certificate.{name}]\nhosts = {}", list(&it.hosts))?;
        match &it.from {
            CertificateSource::Files { chain, key } => {
                writeln!(out, "chain = {}\nkey = {}", quoted(chain), quoted(key))?;
            }
            CertificateSource::Acme => writeln!(out, "acme = true")?,
        }
    }
    for (name, it) in &stack.tcp {
        writeln!(out, "[tcp.{name}]\nlisten = \"{}\"\nto = \"{}\"", it.listen, it.to)?;
        writeln!(out, "proxy_protocol = {}", it.proxy_protocol)?;
    }
    stack.routes.iter().try_for_each(|(name, route)| print_route(out, name, route))
}

fn print_route(out: &mut String, name: &RouteName, route: &Route) -> fmt::Result {
    writeln!(out, "[route.{name}]\npath = \"{}\"\nexact = {}", route.path, route.exact)?;
    if let Some(host) = &route.host {
        writeln!(out, "host = \"{}\"", host.to_uppercase())?;
    }
    match &route.leads {
        Leads::To(service) => writeln!(out, "to = \"service.{service}\"")?,
        Leads::Redirect(it) => {
            writeln!(out, "redirect = \"{}\"\nredirect_status = \"{}\"", it.to, it.status)?;
        }
    }
    print_matches(out, "", &route.matches)?;
    let policy = &route.policy;
    let spans = [("timeout", policy.timeout), ("try_timeout", policy.try_timeout)];
    for (key, span) in spans {
        if let Some(span) = span {
            writeln!(out, "{key} = {}", ms(span))?;
        }
    }
    if let Some(retries) = policy.retries {
        writeln!(out, "retries = {retries}")?;
    }
    if let Some(body_max) = policy.body_max {
        writeln!(out, "body_max = {body_max}")?;
    }
    writeln!(out, "strip = {}", policy.strip)?;
    if let Some(text) = &policy.maintenance {
        writeln!(out, "maintenance = {}", quoted(text))?;
    }
    if let Some(rate) = &policy.rate {
        let by = if rate.by_client { "client" } else { "all" };
        writeln!(out, "rate.requests = {}\nrate.per = {}", rate.requests, ms(rate.per))?;
        writeln!(out, "rate.burst = {}\nrate.by = \"{by}\"", rate.burst)?;
    }
    Ok(())
}

fn print_matches(out: &mut String, prefix: &str, it: &Matches) -> fmt::Result {
    if !it.methods.is_empty() {
        writeln!(out, "{prefix}methods = {}", list(&it.methods))?;
    }
    for (table, pairs) in [("headers", &it.headers), ("cookies", &it.cookies)] {
        for (name, value) in pairs {
            writeln!(out, "{prefix}{table}.{name} = {}", quoted(value))?;
        }
    }
    Ok(())
}

pub(super) fn print_traffic(out: &mut String, name: &ServiceName, it: &Traffic) -> fmt::Result {
    writeln!(out, "[service.{name}.traffic]\nbalance = \"{}\"", it.balance.as_str())?;
    if let Balance::Hash(key) = &it.balance {
        writeln!(out, "hash_by = \"{key}\"")?;
    }
    writeln!(out, "slow_start = {}\nqueue_wait = {}", ms(it.slow_start), ms(it.queue_wait))?;
    writeln!(out, "in_flight_max = {}\nqueue_max = {}", it.in_flight_max, it.queue_max)?;
    writeln!(out, "eject_max = \"{}\"", it.eject_max)
}

pub(super) fn print_exposed(out: &mut String, it: &Exposed) -> fmt::Result {
    if let Some(sticky) = &it.sticky {
        writeln!(out, "sticky = \"{sticky}\"")?;
    }
    if let Some(mirror) = &it.mirror {
        let methods = list(&mirror.methods);
        writeln!(out, "mirror = {{ share = \"{}\", methods = {methods} }}", mirror.share)?;
    }
    if let Some(testers) = &it.testers {
        print_matches(out, "testers.", testers)?;
    }
    Ok(())
}

pub(super) fn print_tls(out: &mut String, it: &UpstreamTls) -> fmt::Result {
    writeln!(out, "tls.name = \"{}\"\ntls.ca = {}", it.name, quoted(&it.ca))?;
    match &it.own {
        Some((chain, key)) => {
            writeln!(out, "tls.chain = {}\ntls.key = {}", quoted(chain), quoted(key))
        }
        None => Ok(()),
    }
}

#[test]
fn what_is_wrong_at_the_doors_is_told() {
    check(
        r#"
[route.a]
redirect = "shop.test"
[route.b]
path = "/b"
to = "web"
redirect = "https://shop.test"
[route.c]
path = "/c"
[route.d]
path = "/d"
to = "web"
redirect_status = "301"
methods = ["GET IT"]
headers = { "a b" = "1" }
[tcp.db]
listen = "127.0.0.1:8443"
to = "web"
[edge]
tls = "127.0.0.1:8443"
proxies = ["10.0.0.0/40"]
[edge.acme]
directory = "http://ca.test"
[certificate.one]
hosts = ["a.test", "*.b.test"]
acme = true
[certificate.two]
hosts = "a.test"
chain = "a.pem"
[certificate.three]
hosts = "-"
"#,
        &expect![[r#"
            6:12 route.a.redirect: `shop.test` is not a URL; `https://` or `http://` and a host
            10:12 route.b.redirect: a route that redirects has no service; one of `to` and `redirect`
            11:1 route.c.to: `route.c` needs `to`; the name of a service, or a `redirect` (write `to = "service.web"`)
            16:1 route.d.redirect_status: `redirect_status` is of no use without `redirect`; -
            17:12 route.d.methods: `GET IT` is not a method; a word such as `GET`
            18:13 route.d.headers.a b: `a b` is not a name for a header or a cookie; letters, digits and `-`, such as `X-Beta`
            20:10 tcp.db.listen: `127.0.0.1:8443` is where HTTP is spoken; an address of its own
            24:12 edge.proxies: `10.0.0.0/40` is no range of addresses; an address, or a range such as `10.0.0.0/8`
            26:13 edge.acme.directory: the directory of ACME is no URL that begins with `https://`; a URL such as `https://acme-v02.api.letsencrypt.org/directory`
            28:9 certificate.one.hosts: `*.b.test` cannot be ordered: a wildcard is proved by DNS only; single names, or `chain` and `key`
            30:1 certificate.two: a certificate has two files: `chain` and `key`; `chain` and `key`, or `acme = true`
            31:9 certificate.two.hosts: `a.test` has the certificate `one` already; one certificate for each host
            33:1 certificate.three: it is not said where the certificate comes from; `chain` and `key`, or `acme = true`
            34:9 certificate.three.hosts: `-` is not a host name; a host name such as "shop.example.com" or "*.example.com", without a port
        "#]],
    );
}

#[test]
fn what_is_wrong_of_what_is_shown_is_told() {
    check(
        r#"
[tcp.db]
listen = "127.0.0.1:9090"
to = "web"
[edge]
listen = "127.0.0.1:8080"
metrics = "127.0.0.1:8080"
traces = "https://collector.test"
access_log = { sample = "200%", rotate = "1KiB", keep = 0 }
"#,
        &expect![[r#"
            10:11 edge.metrics: `127.0.0.1:8080` is where HTTP is spoken; an address of its own
            11:10 edge.traces.to: it is not where a collector listens; a URL such as `http://127.0.0.1:4318`
            12:25 edge.access_log.sample: `200%` is not a part; a part such as "50%", at most "100%"
            12:42 edge.access_log.rotate: `rotate` is less than "64KiB"; a size such as "64MiB", at least "64KiB" (a bare number is bytes; write `rotate = "1024MiB"`)
            12:57 edge.access_log.keep: `keep` is 0; a whole number from 1 to 1000
        "#]],
    );
    check(
        r#"
[tcp.db]
listen = "127.0.0.1:9090"
to = "web"
[edge]
metrics = "127.0.0.1:9090"
traces = { to = "http://user@collector.test" }
access_log = "access.log"
"#,
        &expect![[r#"
            6:10 tcp.db.listen: `127.0.0.1:9090` is where metrics are read; an address of its own
            10:17 edge.traces.to: it is not where a collector listens; a URL such as `http://127.0.0.1:4318`
            11:14 edge.access_log: `access_log` is a text; `true`, `false` or a table
        "#]],
    );
}

#[test]
fn what_is_wrong_of_traffic_is_told() {
    check(
        r#"
traffic = { balance = "fastest", hash_by = "query:x" }
tls = { name = "a.test", ca = "ca.pem", key = "k.pem" }
[service.web.rollout]
sticky = "path"
testers = {}
mirror = { methods = ["GET"] }
"#,
        &expect![[r#"
            5:23 service.web.traffic.balance: `fastest` is not known here; `peak-ewma`, `least-request`, `round-robin` or `hash`
            5:44 service.web.traffic.hash_by: `hash_by` names nothing that a request has; `client`, `path`, `header:NAME` or `cookie:NAME`
            6:7 service.web.tls: the edge proves who it is by two files: `chain` and `key`; both
            8:10 service.web.rollout.sticky: `sticky` names nothing that a person's requests have in common; `cookie`, `client`, `header:NAME` or `cookie:NAME`
            9:11 service.web.rollout.testers: `testers` without a condition are everybody; `headers` or `cookies`
            10:10 service.web.rollout.mirror.share: `service.web.rollout.mirror` needs `share`; a part such as "50%", at most "100%" (write `share = "10%"`)
        "#]],
    );
}
