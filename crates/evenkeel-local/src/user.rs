//! The names of users, for people to read.

/// The user's name, or its number where it has none.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    };
    users.lines().find_map(of).unwrap_or_else(|| format!("uid {uid}"))
}

/// The user that this process is.
#[must_use]
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
