//! Paths as texts: joined and shortened without looking at any disk.

/// `path` as seen from the absolute folder `base`, without `.` and `..`.
///
/// A `..` takes the name before it away, as the text says, even where that name is a link.
pub(crate) fn resolve(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_their_base() {
        let got = ["web", "./web", "../up/x", "/abs//y/", "../../../..", "a/./b/../c", ""]
            .map(|path| resolve("/srv/shop", path));
        let expected = [
            "/srv/shop/web",
            "/srv/shop/web",
            "/srv/up/x",
            "/abs/y",
            "/",
            "/srv/shop/a/c",
            "/srv/shop",
        ];
        assert_eq!(got, expected);
    }
}
