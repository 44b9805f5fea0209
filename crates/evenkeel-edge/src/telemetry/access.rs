//! One line of the access log: what was asked, who answered, and how that went. Never a header, a
//! cookie or a body; a query only where that is wanted.

use std::time::{Duration, SystemTime};

use super::Trace;
use super::text::{moment, put, quote};

/// What a line says.
#[derive(Debug)]
pub(crate) struct Line<'r> {
    pub(crate) began: SystemTime,
    pub(crate) took: Duration,
    /// When the answer began.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) client: &'r str,
    pub(crate) protocol: &'static str,
    pub(crate) method: &'r str,
    pub(crate) host: &'r str,
    pub(crate) path: &'r str,
    pub(crate) query: Option<&'r str>,
    /// 0: the client went away before there was one.
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) route: Option<&'r str>,
    pub(crate) service: Option<&'r str>,
    pub(crate) revision: Option<&'r str>,
    pub(crate) instance: Option<&'r str>,
    pub(crate) retries: u32,
    /// Why the edge answered itself.
    pub(crate) cause: Option<&'r str>,
    pub(crate) trace: Option<Trace>,
}

impl Line<'_> {
    pub(crate) fn write(&self) -> String {
        let mut out = String::with_capacity(320);
        out.push_str("{\"time\":\"");
        out.push_str(&moment(self.began));
        out.push('"');
        let mut text = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                out.push_str(",\"");
                out.push_str(name);
                out.push_str("\":");
                quote(&mut out, value);
            }
        };
        text("client", Some(self.client));
        text("protocol", Some(self.protocol));
        text("method", Some(self.method));
        text("host", Some(self.host));
        text("path", Some(self.path));
        text("query", self.query);
        text("route", self.route);
        text("service", self.service);
        text("revision", self.revision);
        text("instance", self.instance);
        text("cause", self.cause);
        let ms = |span: Duration| span.as_secs_f64() * 1_000.0;
        put(&mut out, format_args!(",\"status\":{},\"bytes\":{}", self.status, self.bytes));
        put(&mut out, format_args!(",\"duration_ms\":{:.3}", ms(self.took)));
        if let Some(first) = self.first_byte {
            put(&mut out, format_args!(",\"first_byte_ms\":{:.3}", ms(first)));
        }
        put(&mut out, format_args!(",\"retries\":{}", self.retries));
        if let Some(trace) = &self.trace {
            out.push_str(",\"trace\":\"");
            trace.write_id(&mut out);
            out.push('"');
        }
        out.push_str("}\n");
        out
    }
}
