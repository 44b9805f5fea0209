//! The text format in which programs tell their counters, as far as a sum over one name needs it.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

/// The sum of all samples of `name`, whatever their labels; `None` when there is none.
///
/// In OpenMetrics a counter `x` is told as `x_total`; either name finds it.
pub(super) fn sum(page: &[u8], name: &str) -> Option<f64> {
    let page = String::from_utf8_lossy(page);
    let values = page.lines().filter_map(|line| sample(line.trim(), name));
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

/// The value of a line, if it is a sample of `name`.
fn sample(line: &str, name: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let rest = match name.ends_with("_total") {
        true => rest,
        false => rest.strip_prefix("_total").unwrap_or(rest),
    };
    let rest = match rest.strip_prefix('{') {
        Some(labels) => &labels[end_of_labels(labels)?..],
        None => rest.strip_prefix([' ', '\t'])?,
    };
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// Where the labels end: behind the brace that is not within quotes.
fn end_of_labels(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in labels.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn samples_of_one_name_are_summed_up() {
        let page = br#"# HELP jobs_total All jobs.
# TYPE jobs_total counter
jobs_total{kind="a}\" ",x="1"} 1027 1395066363000
jobs_total{kind="b"} 3
jobs_total_failed 100
jobs_totals 100
jobs_failed_total 1.5e1
odd NaN
broken{a="
empty"#;
        assert_eq!(sum(page, "jobs_total"), Some(1030.0));
        assert_eq!(sum(page, "jobs_failed"), Some(15.0));
        assert_eq!(sum(page, "jobs_failed_total"), Some(15.0));
        assert_eq!(sum(page, "jobs"), Some(1030.0));
        for none in ["odd", "broken", "empty", "other"] {
            assert_eq!(sum(page, none), None, "{none}");
        }
    }
}
