//! Routes: which requests from outside go where.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::{Fields, Named};
use super::problem::{Lines, Mistake, Mistakes};
use super::schema::{Key, Kind, Table};
use super::service;
use super::value;
use super::word::host;
use crate::model::{
    Leads, Matches, Rate, Redirect, Route, RouteName, RoutePolicy, TcpRoute, traffic,
};

const HOUR: u64 = 60 * 60 * 1_000;
/// The most requests of a rate.
const RATE_MAX: u64 = 10_000_000;
/// The most tries after the first.
const RETRIES_MAX: u64 = 5;
/// The status of a redirect when the file does not say: the method stays, and it is for good.
const REDIRECT_STATUS: u16 = 308;

/// `[route.NAME]`
pub(super) static ROUTE: Table = Table {
    id: "route",
    header: "[route.NAME]",
    doc: "Which requests from outside go where: `to` a service, or by a `redirect` elsewhere. The \
          route with the exact host wins over one with a wildcard, and that over one for any host; \
          then the exact path, then the longest, then the one with the most conditions.",
    short: None,
    keys: &[
        Key::new(
            "to",
            Kind::Service,
            "\"service.web\"",
            "The service that answers; `\"web\"` is enough.",
        )
        .elsewhere(&["service", "backend", "target", "upstream", "destination"]),
        Key::new(
            "redirect",
            Kind::Text,
            "\"https://shop.example.com\"",
            "Where requests are sent instead of to a service. Path and query of the request are \
             added, unless it has a path of its own.",
        )
        .elsewhere(&["redirect_to", "return", "location"]),
        Key::new(
            "redirect_status",
            Kind::Choice(&["301", "302", "303", "307", "308"]),
            "\"302\"",
            "The status of the redirect.",
        )
        .preset(|| format!("\"{REDIRECT_STATUS}\""))
        .elsewhere(&["status", "code"]),
        Key::new(
            "host",
            Kind::HostPattern,
            "\"shop.example.com\"",
            "The host asked for; `*.example.com` is any one label before it.",
        )
        .otherwise("any host")
        .elsewhere(&["hosts", "hostname", "domain", "server_name"]),
        Key::new(
            "path",
            Kind::UrlPath,
            "\"/api\"",
            "The beginning of the path, on whole segments: `/api` is also `/api/x`, but not \
             `/apis`.",
        )
        .preset(|| "\"/\"".to_owned())
        .elsewhere(&["prefix", "path_prefix", "paths"]),
        Key::new("exact", Kind::Flag, "true", "The path is the whole path.")
            .preset(|| "false".to_owned())
            .elsewhere(&["path_exact", "full"]),
        Key::new(
            "methods",
            Kind::Texts,
            "[\"GET\", \"HEAD\"]",
            "Only requests with these methods.",
        )
        .otherwise("any method")
        .elsewhere(&["method", "verbs"]),
        Key::new(
            "headers",
            Kind::Headers,
            "{ X-Beta = \"1\" }",
            "Only requests with all of these headers. `\"*\"` is any value, a `*` at its end any \
             end.",
        )
        .elsewhere(&["header", "match_headers"]),
        Key::new(
            "cookies",
            Kind::Headers,
            "{ team = \"red\" }",
            "Only requests with all of these cookies, with values as in `headers`.",
        )
        .elsewhere(&["cookie"]),
        Key::new(
            "timeout",
            Kind::Span { min: 1, max: 24 * HOUR },
            "\"30s\"",
            "How long a request may take until its answer begins, all tries together.",
        )
        .elsewhere(&["deadline", "read_timeout", "proxy_read_timeout"]),
        Key::new(
            "try_timeout",
            Kind::Span { min: 1, max: 24 * HOUR },
            "\"5s\"",
            "How long one try may take until its answer begins. A request that may be repeated is \
             then tried on another instance.",
        )
        .otherwise("30 seconds")
        .elsewhere(&["per_try_timeout", "response_header_timeout"]),
        Key::new(
            "retries",
            Kind::Count { min: 0, max: RETRIES_MAX },
            "1",
            "How often a request that may be repeated is tried on another instance.",
        )
        .otherwise("twice if nothing of it was sent, else once")
        .elsewhere(&["retry", "attempts", "max_retries"]),
        Key::new(
            "body_max",
            Kind::Size { min: 0 },
            "\"10MiB\"",
            "The most that a request may carry; more is answered with 413.",
        )
        .otherwise("no limit")
        .elsewhere(&[
            "client_max_body_size",
            "max_body_size",
            "body_limit",
            "max_request_body",
        ]),
        Key::new(
            "rate",
            Kind::Table(&RATE),
            "{ requests = 100 }",
            "How many requests come through.",
        )
        .elsewhere(&["rate_limit", "limit", "limit_req"]),
        Key::new(
            "strip",
            Kind::Flag,
            "true",
            "The instance does not see the route's path: `/api/x` arrives as `/x`.",
        )
        .preset(|| "false".to_owned())
        .elsewhere(&["strip_prefix", "strip_path_prefix", "rewrite"]),
        Key::new(
            "maintenance",
            Kind::Text,
            "\"We are back at nine.\"",
            "While this stands here nobody is let through: every request gets this text, as HTML \
             where it begins with `<`, with status 503.",
        )
        .elsewhere(&["maintenance_page", "closed", "offline"]),
    ],
};

/// `[route.NAME.rate]`
static RATE: Table = Table {
    id: "rate",
    header: "[route.NAME.rate]",
    doc: "How many requests come through; more are answered with 429 and when to come again. The \
          numbers are for each edge.",
    short: None,
    keys: &[
        Key::new(
            "requests",
            Kind::Count { min: 1, max: RATE_MAX },
            "100",
            "So many in the time that `per` says.",
        )
        .required()
        .elsewhere(&["limit", "rate", "average", "rps"]),
        Key::new("per", Kind::Span { min: 1_000, max: HOUR }, "\"1m\"", "In this time.")
            .preset(|| "\"1s\"".to_owned())
            .elsewhere(&["period", "interval", "window"]),
        Key::new(
            "burst",
            Kind::Count { min: 1, max: RATE_MAX },
            "200",
            "So many at once after a quiet time.",
        )
        .otherwise("as many as `requests`")
        .elsewhere(&["bucket", "capacity"]),
        Key::new(
            "by",
            Kind::Choice(&["client", "all"]),
            "\"all\"",
            "Counted for each address that asks, or for all together.",
        )
        .preset(|| "\"client\"".to_owned())
        .elsewhere(&["key", "source", "zone"]),
    ],
};

/// `[tcp.NAME]`
pub(super) static TCP: Table = Table {
    id: "tcp",
    header: "[tcp.NAME]",
    doc: "A door for what is not HTTP: each connection goes to an instance of the service, and \
          stays with it to its end.",
    short: None,
    keys: &[
        Key::new("listen", Kind::Address, "\"127.0.0.1:5432\"", "Where it listens.")
            .required()
            .elsewhere(&["bind", "address", "addr", "port"]),
        Key::new("to", Kind::Service, "\"service.catalog\"", "The service that answers.")
            .required()
            .elsewhere(&["service", "backend", "target", "upstream"]),
        Key::new(
            "proxy_protocol",
            Kind::Flag,
            "true",
            "Each connection to an instance begins with the address of the client (PROXY protocol, \
             version 2).",
        )
        .preset(|| "false".to_owned())
        .elsewhere(&["send_proxy", "send_proxy_v2"]),
    ],
};

/// Builds all routes as far as they can be read.
pub(super) fn build(
    all: &[Named],
    services: &[&str],
    lines: &Lines<'_>,
    mistakes: &mut Mistakes,
) -> BTreeMap<RouteName, Route> {
    let routes = all.iter().filter_map(|named| route(named, services, mistakes)).collect();
    doubles(all, &routes, lines, mistakes);
    routes
}

/// Builds the doors for what is not HTTP.
pub(super) fn build_tcp(
    all: &[Named],
    services: &[&str],
    mistakes: &mut Mistakes,
) -> BTreeMap<RouteName, TcpRoute> {
    let tcp = |named: &Named, mistakes: &mut Mistakes| {
        let fields = named.fields.as_ref()?;
        let to = target(fields, services, mistakes);
        let (listen, _) = fields.addresses("listen")?.first()?;
        let proxy_protocol = fields.flag("proxy_protocol").copied().unwrap_or(false);
        Some((named.name.parse().ok()?, TcpRoute { listen: *listen, to: to?, proxy_protocol }))
    };
    all.iter().filter_map(|named| tcp(named, mistakes)).collect()
}

fn target(
    fields: &Fields,
    services: &[&str],
    mistakes: &mut Mistakes,
) -> Option<crate::model::ServiceName> {
    let to = fields.text("to")?;
    service::reference(to, &fields.place("to"), &fields.at("to"), services, mistakes)
}

fn route(named: &Named, services: &[&str], mistakes: &mut Mistakes) -> Option<(RouteName, Route)> {
    let fields = named.fields.as_ref()?;
    let leads = leads(fields, services, mistakes);
    let (matches, policy) = (matches(fields, mistakes), policy(fields));
    let path = fields.text("path").map_or("/", String::as_str);
    // A host or path that could not be read must not look like the default one.
    let unread = ["host", "path"]
        .iter()
        .any(|key| fields.field(key).is_some() && fields.text(key).is_none());
    if unread {
        return None;
    }
    let route = Route {
        host: fields.text("host").cloned(),
        path: path.to_owned(),
        exact: fields.flag("exact").copied().unwrap_or(false),
        matches,
        leads: leads?,
        policy,
    };
    Some((named.name.parse().ok()?, route))
}

/// Where it leads; exactly one is said.
fn leads(fields: &Fields, services: &[&str], mistakes: &mut Mistakes) -> Option<Leads> {
    let status = fields.field("redirect_status");
    match (fields.field("to").is_some(), fields.field("redirect").is_some()) {
        (true, true) => {
            let wrong = "a route that redirects has no service";
            let mistake = Mistake::at(&fields.place("redirect"), &fields.at("redirect"), wrong);
            mistakes.add(mistake.expected("one of `to` and `redirect`"));
            None
        }
        (true, false) => {
            if let Some(status) = status {
                let wrong = "`redirect_status` is of no use without `redirect`";
                mistakes.add(Mistake::at(&status.key, &fields.at("redirect_status"), wrong));
            }
            target(fields, services, mistakes).map(Leads::To)
        }
        (false, true) => redirect(fields, mistakes).map(Leads::Redirect),
        (false, false) => {
            let wrong = format!("`{}` needs `to`", fields.path);
            let mistake = Mistake::at(&fields.span, &fields.at("to"), wrong)
                .expected("the name of a service, or a `redirect`")
                .hint("write `to = \"service.web\"`".to_owned())
                .absence();
            mistakes.add(mistake);
            None
        }
    }
}

fn redirect(fields: &Fields, mistakes: &mut Mistakes) -> Option<Redirect> {
    let to = fields.text("redirect")?;
    let rest = to.strip_prefix("https://").or_else(|| to.strip_prefix("http://"));
    let visible = to.bytes().all(|byte| byte.is_ascii_graphic());
    if !rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) || !visible {
        let wrong = format!("`{}` is not a URL", super::hint::brief(to));
        let mistake = Mistake::at(&fields.place("redirect"), &fields.at("redirect"), wrong);
        mistakes.add(mistake.expected("`https://` or `http://` and a host"));
        return None;
    }
    let status = fields.text("redirect_status").and_then(|it| it.parse().ok());
    Some(Redirect { to: to.clone(), status: status.unwrap_or(REDIRECT_STATUS) })
}

/// What a request must have beside host and path.
pub(super) fn matches(fields: &Fields, mistakes: &mut Mistakes) -> Matches {
    let mut methods = BTreeSet::new();
    for (method, span) in fields.field("methods").and(fields.texts("methods")).into_iter().flatten()
    {
        if traffic::is_token(method) {
            methods.insert(method.to_ascii_uppercase());
        } else {
            let wrong = format!("`{}` is not a method", super::hint::brief(method));
            let mistake = Mistake::at(span, &fields.at("methods"), wrong);
            mistakes.add(mistake.expected("a word such as `GET`"));
        }
    }
    let pairs = |key: &str| {
        let given = fields.field(key).and(fields.variables(key)).into_iter().flatten();
        given.map(|(name, (value, _))| (name.clone(), value.clone()))
    };
    Matches {
        methods,
        headers: pairs("headers").map(|(name, it)| (name.to_ascii_lowercase(), it)).collect(),
        cookies: pairs("cookies").collect(),
    }
}

fn policy(fields: &Fields) -> RoutePolicy {
    RoutePolicy {
        timeout: fields.span("timeout").copied(),
        try_timeout: fields.span("try_timeout").copied(),
        retries: fields.count("retries"),
        body_max: fields.long("body_max").copied(),
        rate: fields.table("rate").and_then(rate),
        strip: fields.flag("strip").copied().unwrap_or(false),
        maintenance: fields.text("maintenance").cloned(),
    }
}

fn rate(fields: &Fields) -> Option<Rate> {
    let requests = fields.count("requests")?;
    Some(Rate {
        requests,
        per: fields.span("per").copied().unwrap_or(Duration::from_secs(1)),
        burst: fields.count("burst").unwrap_or(requests),
        by_client: fields.text("by").is_none_or(|by| by == "client"),
    })
}

/// Two routes for the same requests: which of them wins would be chance.
fn doubles(
    all: &[Named],
    routes: &BTreeMap<RouteName, Route>,
    lines: &Lines<'_>,
    mistakes: &mut Mistakes,
) {
    let mut seen: Vec<(&Route, &Named)> = Vec::new();
    let mut by_target: BTreeMap<(Option<&str>, &str, bool), Vec<usize>> = BTreeMap::new();
    let mut in_order: Vec<&Named> = all.iter().collect();
    in_order.sort_by_key(|named| named.span.start);
    for named in in_order {
        let route = named.name.parse::<RouteName>().ok().and_then(|name| routes.get(&name));
        let Some(route) = route else { continue };
        let path = route.path.strip_suffix('/').unwrap_or(&route.path);
        let alike = by_target.entry((route.host.as_deref(), path, route.exact)).or_default();
        let same = alike.iter().filter_map(|place| seen.get(*place));
        let first = same.clone().find(|(other, _)| other.matches == route.matches).map(|it| it.1);
        alike.push(seen.len());
        seen.push((route, named));
        let Some(first) = first else { continue };
        let host = route.host.as_deref().unwrap_or("any host");
        let wrong = format!(
            "route `{}` is for the same requests as `{}` in line {}: {host}, {}",
            named.name,
            first.name,
            lines.line(first.span.start),
            route.path,
        );
        mistakes.add(
            Mistake::at(&named.span, &format!("route.{}", named.name), wrong)
                .expected("another `host` or `path`"),
        );
    }
}

/// Whether a text is a host, or a wildcard before one.
pub(super) fn host_pattern(text: &str) -> Result<String, value::Wrong> {
    match text.strip_prefix("*.") {
        Some(rest) if rest.contains('.') => host(rest).map(|rest| format!("*.{rest}")),
        Some(_) | None => host(text),
    }
}
