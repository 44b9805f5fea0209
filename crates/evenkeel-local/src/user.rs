//! Users: their names, for people to read, and their numbers.

/// The user's name, or its number where it has none.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let found = find(|_, user, _| user == uid, |name, _, _| name.to_owned());
    found.unwrap_or_else(|| format!("uid {uid}"))
}

/// The numbers of a user and its group.
#[must_use]
pub fn user_ids(name: &str) -> Option<(u32, u32)> {
    find(|it, _, _| it == name, |_, user, group| (user, group))
}

/// The user that this process is.
#[must_use]
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What is told of the first user that is the one, from name, number and group.
fn find<T>(is: impl Fn(&str, u32, u32) -> bool, tell: impl Fn(&str, u32, u32) -> T) -> Option<T> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (user, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        is(name, user, group).then(|| tell(name, user, group))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        assert_eq!((user_ids("root"), user_name(0)), (Some((0, 0)), "root".to_owned()));
        assert_eq!(
            (user_ids("nobody in particular"), user_name(4_000_000_000)),
            (None, "uid 4000000000".to_owned())
        );
    }
}
