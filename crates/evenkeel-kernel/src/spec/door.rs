//! The doors to the outside, and what is shown there.

use std::collections::{BTreeMap, BTreeSet};

use super::check::{Fields, Named};
use super::keys::LISTEN_DEFAULT;
use super::path;
use super::problem::{Mistake, Mistakes};
use super::route::host_pattern;
use super::schema::{Key, Kind, Table};
use super::telemetry;
use crate::model::{
    Acme, Certificate, CertificateName, CertificateSource, Edge, Network, UpstreamTls,
};

/// `[edge]`
pub(super) static EDGE: Table = Table {
    id: "edge",
    header: "[edge]",
    doc: "The door to the outside.",
    short: None,
    keys: &[
        Key::new(
            "listen",
            Kind::Addresses,
            "[\"127.0.0.1:8080\", \"[::1]:8080\"]",
            "Where it listens for HTTP/1.1 and HTTP/2 without TLS.",
        )
        .otherwise("`[\"127.0.0.1:8080\"]` if there are routes and no `tls`")
        .elsewhere(&["bind", "address", "addr", "port", "ports", "http"]),
        Key::new(
            "tls",
            Kind::Addresses,
            "[\"0.0.0.0:443\"]",
            "Where it listens with TLS, by the certificates of `[certificate.NAME]`.",
        )
        .elsewhere(&["https", "listen_tls", "ssl", "listen_https"]),
        Key::new(
            "to_https",
            Kind::Flag,
            "false",
            "Requests without TLS for a host that has a certificate are sent to `https`.",
        )
        .otherwise("`true` where there is `tls`")
        .elsewhere(&["redirect_https", "https_redirect", "ssl_redirect", "force_ssl"]),
        Key::new(
            "proxies",
            Kind::Texts,
            "[\"10.0.0.0/8\"]",
            "Load balancers before it, that begin each connection with the client's address (PROXY \
             protocol, version 1 or 2): addresses, or ranges of them. Who is not among them is not \
             believed.",
        )
        .elsewhere(&["proxy_protocol", "accept_proxy", "trusted_proxies", "real_ip"]),
        Key::new(
            "acme",
            Kind::Table(&ACME),
            "{ contact = \"ops@example.com\" }",
            "Who issues the certificates that are ordered by ACME.",
        )
        .elsewhere(&["letsencrypt", "lets_encrypt", "certbot"]),
        telemetry::METRICS,
        telemetry::ACCESS_LOG,
        telemetry::TRACES,
    ],
};

/// `[edge.acme]`
static ACME: Table = Table {
    id: "acme",
    header: "[edge.acme]",
    doc: "Who issues the certificates that are ordered by ACME, and renewed when a third of their \
          time is left. The host must be reachable at port 80 or 443.",
    short: None,
    keys: &[
        Key::new(
            "directory",
            Kind::Text,
            "\"https://acme-staging-v02.api.letsencrypt.org/directory\"",
            "The URL of its directory.",
        )
        .preset(|| format!("\"{}\"", Acme::DIRECTORY))
        .elsewhere(&["url", "server", "ca_server"]),
        Key::new(
            "contact",
            Kind::Text,
            "\"ops@example.com\"",
            "Where it writes to when something is wrong with a certificate.",
        )
        .elsewhere(&["email", "mail"]),
        Key::new(
            "root",
            Kind::Text,
            "\"ca.pem\"",
            "A file with the root that its own certificate hangs on, where the system does not \
             know it.",
        )
        .elsewhere(&["ca", "ca_file", "cacert"]),
    ],
};

/// `[certificate.NAME]`
pub(super) static CERTIFICATE: Table = Table {
    id: "certificate",
    header: "[certificate.NAME]",
    doc: "A certificate, by which the edge proves that it is a host: from two files, or ordered by \
          ACME. Files are read again when they change; what is open stays as it is.",
    short: None,
    keys: &[
        Key::new(
            "hosts",
            Kind::Texts,
            "[\"shop.example.com\", \"*.shop.example.com\"]",
            "The hosts it is for. A host without a certificate gets no connection.",
        )
        .required()
        .elsewhere(&["host", "domains", "names", "server_name", "sni"]),
        Key::new(
            "chain",
            Kind::Text,
            "\"/etc/shop/fullchain.pem\"",
            "A file with the certificate and those it hangs on, in PEM.",
        )
        .elsewhere(&[
            "cert",
            "certificate",
            "crt",
            "fullchain",
            "cert_file",
            "ssl_certificate",
        ]),
        Key::new("key", Kind::Text, "\"/etc/shop/key.pem\"", "A file with its key, in PEM.")
            .elsewhere(&["private_key", "key_file", "ssl_certificate_key", "privkey"]),
        Key::new("acme", Kind::Yes, "true", "It is ordered by ACME, as `[edge.acme]` says.")
            .elsewhere(&["auto", "automatic", "letsencrypt"]),
    ],
};

/// `[service.NAME.tls]`
pub(super) static UPSTREAM_TLS: Table = Table {
    id: "tls",
    header: "[service.NAME.tls]",
    doc: "An instance speaks TLS on its port, and the edge makes sure that it is the one; its probes \
          by `http` do too. Files are read again when they change.",
    short: None,
    keys: &[
        Key::new("name", Kind::Host, "\"web.internal\"", "The name its certificate is for.")
            .required()
            .elsewhere(&["host", "sni", "server_name"]),
        Key::new("ca", Kind::Text, "\"ca.pem\"", "A file with the roots that it may hang on.")
            .required()
            .elsewhere(&["root", "ca_file", "cacert", "trusted_ca"]),
        Key::new(
            "chain",
            Kind::Text,
            "\"edge.pem\"",
            "A file with the certificate by which the edge proves who it is.",
        )
        .elsewhere(&["cert", "certificate", "client_cert"]),
        Key::new("key", Kind::Text, "\"edge-key.pem\"", "A file with the key of that certificate.")
            .elsewhere(&["private_key", "client_key"]),
    ],
};

/// Builds `[edge]`.
pub(super) fn edge(
    fields: Option<&Fields>,
    base: &str,
    routed: bool,
    mistakes: &mut Mistakes,
) -> Edge {
    let default = || LISTEN_DEFAULT.parse().into_iter().collect();
    let Some(fields) = fields else {
        return Edge { listen: if routed { default() } else { Vec::new() }, ..Edge::default() };
    };
    let addresses = |key: &str| {
        let given = fields.field(key).and(fields.addresses(key));
        given.map(|all| all.iter().map(|(addr, _)| *addr).collect::<Vec<_>>())
    };
    let tls = addresses("tls").unwrap_or_default();
    let listen = match addresses("listen") {
        Some(listen) => listen,
        None if routed && tls.is_empty() && fields.field("listen").is_none() => default(),
        None => Vec::new(),
    };
    if let Some(addr) = listen.iter().find(|addr| tls.contains(addr)) {
        let wrong = format!("`{addr}` is also in `listen`");
        let mistake = Mistake::at(&fields.place("tls"), &fields.at("tls"), wrong);
        mistakes.add(mistake.expected("an address of its own"));
    }
    if listen.is_empty() && tls.is_empty() && routed && fields.addresses("listen").is_some() {
        let wrong = "there are routes, but the edge listens nowhere";
        mistakes.add(
            Mistake::at(&fields.place("listen"), &fields.at("listen"), wrong)
                .expected("an address with its port")
                .hint(format!("write `listen = [\"{LISTEN_DEFAULT}\"]`")),
        );
    }
    let telemetry = telemetry::telemetry(fields, base, mistakes);
    if let Some(addr) = telemetry.metrics.filter(|it| listen.contains(it) || tls.contains(it)) {
        let wrong = format!("`{addr}` is where HTTP is spoken");
        let mistake = Mistake::at(&fields.place("metrics"), &fields.at("metrics"), wrong);
        mistakes.add(mistake.expected("an address of its own"));
    }
    let to_https = !tls.is_empty() && fields.flag("to_https").copied().unwrap_or(true);
    Edge {
        listen,
        tls,
        to_https,
        proxies: proxies(fields, mistakes),
        acme: fields.table("acme").map(|table| acme(table, base, mistakes)),
        telemetry,
    }
}

/// A door for what is not HTTP has an address of its own.
pub(super) fn apart(tcp: &[Named], edge: &Edge, mistakes: &mut Mistakes) {
    let mut taken: BTreeMap<_, String> = edge
        .listen
        .iter()
        .chain(&edge.tls)
        .map(|addr| (*addr, "where HTTP is spoken".to_owned()))
        .collect();
    taken.extend(edge.telemetry.metrics.map(|addr| (addr, "where metrics are read".to_owned())));
    for named in tcp {
        let Some(fields) = named.fields.as_ref() else { continue };
        let Some((addr, span)) = fields.addresses("listen").and_then(|all| all.first()) else {
            continue;
        };
        let owner = format!("the door of `{}`", named.name);
        let Some(other) = taken.insert(*addr, owner) else { continue };
        let wrong = format!("`{addr}` is {other}");
        let mistake = Mistake::at(span, &fields.at("listen"), wrong);
        mistakes.add(mistake.expected("an address of its own"));
    }
}

fn proxies(fields: &Fields, mistakes: &mut Mistakes) -> Vec<Network> {
    let mut all = Vec::new();
    for (text, span) in fields.field("proxies").and(fields.texts("proxies")).into_iter().flatten() {
        match text.parse() {
            Ok(network) => all.push(network),
            Err(()) => {
                let wrong = format!("`{}` is no range of addresses", super::hint::brief(text));
                let mistake = Mistake::at(span, &fields.at("proxies"), wrong);
                mistakes.add(mistake.expected("an address, or a range such as `10.0.0.0/8`"));
            }
        }
    }
    all
}

fn acme(fields: &Fields, base: &str, mistakes: &mut Mistakes) -> Acme {
    let directory = fields.text("directory").map_or(Acme::DIRECTORY, String::as_str);
    if !directory.starts_with("https://") {
        let wrong = "the directory of ACME is no URL that begins with `https://`";
        let mistake = Mistake::at(&fields.place("directory"), &fields.at("directory"), wrong);
        mistakes.add(mistake.expected(format!("a URL such as `{}`", Acme::DIRECTORY)));
    }
    Acme {
        directory: directory.to_owned(),
        contact: fields.text("contact").cloned(),
        root: fields.text("root").map(|file| path::resolve(base, file)),
    }
}

/// Builds all certificates as far as they can be read.
pub(super) fn certificates(
    all: &[Named],
    base: &str,
    edge: &Edge,
    mistakes: &mut Mistakes,
) -> BTreeMap<CertificateName, Certificate> {
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    let mut built = BTreeMap::new();
    for named in all {
        let Some(fields) = named.fields.as_ref() else { continue };
        let mut hosts = BTreeSet::new();
        for (text, span) in fields.field("hosts").and(fields.texts("hosts")).into_iter().flatten() {
            let Ok(host) = host_pattern(text) else {
                let wrong = format!("`{}` is not a host name", super::hint::brief(text));
                let mistake = Mistake::at(span, &fields.at("hosts"), wrong);
                mistakes.add(mistake.expected(Kind::HostPattern.expected()));
                continue;
            };
            if let Some(other) = owners.insert(host.clone(), named.name.clone()) {
                let wrong = format!("`{host}` has the certificate `{other}` already");
                let mistake = Mistake::at(span, &fields.at("hosts"), wrong);
                mistakes.add(mistake.expected("one certificate for each host"));
            }
            hosts.insert(host);
        }
        let from = source(fields, base, mistakes);
        if from == Some(CertificateSource::Acme) {
            orderable(fields, &hosts, edge, mistakes);
        }
        if let (Some(from), Ok(name)) = (from, named.name.parse()) {
            built.insert(name, Certificate { hosts, from });
        }
    }
    built
}

/// Where it comes from; exactly one is said.
fn source(fields: &Fields, base: &str, mistakes: &mut Mistakes) -> Option<CertificateSource> {
    let acme = fields.flag("acme").is_some();
    match (fields.text("chain"), fields.text("key"), acme) {
        (Some(chain), Some(key), false) => Some(CertificateSource::Files {
            chain: path::resolve(base, chain),
            key: path::resolve(base, key),
        }),
        (None, None, true) => Some(CertificateSource::Acme),
        (chain, key, _) => {
            let wrong = match (chain.is_some() || key.is_some(), acme) {
                (true, true) => "a certificate from files is not ordered",
                (true, false) => "a certificate has two files: `chain` and `key`",
                (false, _) => "it is not said where the certificate comes from",
            };
            let read = |name: &str| fields.field(name).is_none() || fields.text(name).is_some();
            if read("chain") && read("key") {
                let mistake = Mistake::at(&fields.span, &fields.path, wrong);
                mistakes.add(mistake.expected("`chain` and `key`, or `acme = true`").absence());
            }
            None
        }
    }
}

/// What ACME can prove over HTTP and TLS: single names, and somewhere to be asked.
fn orderable(fields: &Fields, hosts: &BTreeSet<String>, edge: &Edge, mistakes: &mut Mistakes) {
    if let Some(host) = hosts.iter().find(|host| host.starts_with("*.")) {
        let wrong = format!("`{host}` cannot be ordered: a wildcard is proved by DNS only");
        let mistake = Mistake::at(&fields.place("hosts"), &fields.at("hosts"), wrong);
        mistakes.add(mistake.expected("single names, or `chain` and `key`"));
    }
    if edge.tls.is_empty() {
        let wrong = "a certificate is ordered, but the edge listens nowhere with TLS";
        let mistake = Mistake::at(&fields.place("acme"), &fields.at("acme"), wrong);
        mistakes.add(mistake.expected("`tls` in `[edge]`"));
    }
}

/// Builds `[service.NAME.tls]`.
pub(super) fn upstream(
    fields: &Fields,
    base: &str,
    mistakes: &mut Mistakes,
) -> Option<UpstreamTls> {
    let file = |key: &str| fields.text(key).map(|file| path::resolve(base, file));
    let own = match (file("chain"), file("key")) {
        (Some(chain), Some(key)) => Some((chain, key)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let wrong = "the edge proves who it is by two files: `chain` and `key`";
            mistakes.add(Mistake::at(&fields.span, &fields.path, wrong).expected("both").absence());
            None
        }
    };
    Some(UpstreamTls { name: fields.text("name").cloned()?, ca: file("ca")?, own })
}
