//! One number from a Prometheus server: an instant query of its HTTP API.

use std::time::Duration;

use serde::Deserialize;

use crate::outbound::{self, Method, Request};

/// What is said when a query comes to nothing.
pub(super) const NO_SAMPLE: &str = "the query has no sample now";

/// The part of the answer that is read.
#[derive(Debug, Deserialize)]
struct Answered {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct Series {
    value: Option<Sample>,
}

/// A moment, and a number as text.
#[derive(Debug, Deserialize)]
struct Sample(#[expect(dead_code, reason = "only the number is asked for")] f64, String);

/// The value of `query` now; `None` when it has no sample.
///
/// # Errors
///
/// When the server cannot be asked, does not understand the query, or answers with more than one
/// number.
pub(super) fn query(server: &str, query: &str, timeout: Duration) -> Result<Option<f64>, String> {
    let request = Request {
        method: Method::Post,
        url: format!("{server}/api/v1/query"),
        headers: vec![("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned())],
        body: Some(format!("query={}", encoded(query)).into_bytes()),
        timeout,
    };
    let answer = outbound::send(&request).map_err(|failed| failed.to_string())?;
    read(answer.status, &answer.body)
}

fn read(status: u16, body: &[u8]) -> Result<Option<f64>, String> {
    let answered: Answered = serde_json::from_slice(body)
        .map_err(|_not_ours| format!("the server answered {status}, not as Prometheus does"))?;
    if let Some(error) = answered.error {
        return Err(format!("the server says: {error}"));
    }
    let data = answered.data.ok_or_else(|| format!("the server answered {status} without data"))?;
    let odd = |error: serde_json::Error| format!("the server's answer is odd: {error}");
    let sample = match data.kind.as_str() {
        "scalar" => Some(serde_json::from_value(data.result).map_err(odd)?),
        "vector" => {
            let series: Vec<Series> = serde_json::from_value(data.result).map_err(odd)?;
            if series.len() > 1 {
                return Err(format!(
                    "the query comes to {} numbers; make one of them with `sum` or `max`",
                    series.len()
                ));
            }
            series.into_iter().find_map(|it| it.value)
        }
        kind => return Err(format!("the query comes to a {kind}, and must come to one number")),
    };
    let number = |Sample(_, text): Sample| {
        text.parse::<f64>().map_err(|_odd| format!("{text:?} is no number"))
    };
    sample.map(number).transpose()
}

/// A text as a form's value.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                out.push(char::from(byte));
            }
            _ => write!(out, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forms of <https://prometheus.io/docs/prometheus/latest/querying/api/>.
    #[test]
    fn one_number_is_read_and_anything_else_is_said() {
        let data = |kind: &str, result: &str| {
            let body = format!(
                r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#
            );
            read(200, body.as_bytes())
        };
        assert_eq!(data("scalar", r#"[1.5,"0.25"]"#), Ok(Some(0.25)));
        let one = r#"[{"metric":{"job":"x"},"value":[1,"3e-05"]}]"#;
        assert_eq!(data("vector", one), Ok(Some(0.00003)));
        assert_eq!(data("vector", "[]"), Ok(None));
        assert!(data("vector", r#"[{"metric":{},"value":[1,"NaN"]}]"#).unwrap().unwrap().is_nan());
        let two = r#"[{"metric":{},"value":[1,"1"]},{"metric":{},"value":[1,"2"]}]"#;
        assert!(data("vector", two).unwrap_err().contains("2 numbers"));
        assert!(data("matrix", "[]").unwrap_err().contains("matrix"));
        let error = br#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
        assert_eq!(read(400, error), Err("the server says: parse error".to_owned()));
        assert!(read(502, b"<html>").unwrap_err().contains("502"));
    }

    #[test]
    fn a_query_survives_its_way() {
        assert_eq!(
            encoded("a{b=~\"c|d\"} + 1é"),
            "a%7Bb%3D~%22c%7Cd%22%7D%20%2B%201%C3%A9".replace('~', "%7E")
        );
    }
}
