//! Commands written as one text: split like a shell would, but never given to one.

use super::hint::brief;
use super::value::Wrong;

/// What a shell would act on, and a program would only be confused by.
const OPERATORS: [&str; 14] =
    ["|", "||", "&", "&&", ";", ">", ">>", "<", "<<", "2>", "2>&1", "&>", ">&2", "1>&2"];

/// The words of a command.
pub(crate) fn split(text: &str) -> Result<Vec<String>, Wrong> {
    let Some(words) = shlex::split(text) else {
        return Err(Wrong::new("a quote is never closed, or nothing follows a `\\`"));
    };
    let Some(program) = words.first().filter(|program| !program.is_empty()) else {
        return Err(Wrong::new("there is no program in it"));
    };
    if let Some(operator) = words.iter().find(|word| OPERATORS.contains(&word.as_str())) {
        let message = format!("`{operator}` would be an argument: no shell is involved");
        let hint = "if it needs a shell, write `[\"sh\", \"-c\", \"…\"]`".to_owned();
        return Err(Wrong::new(message).hint(hint));
    }
    if let Some((name, _)) = program.split_once('=')
        && super::word::is_variable(name)
    {
        let message = format!("`{}=…` is not a program", brief(name));
        return Err(Wrong::new(message).hint(format!("variables go into `env = {{ {name} = … }}`")));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let got = match split(text) {
            Ok(words) => words.join("|"),
            Err(wrong) => format!("error: {}", wrong.message),
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn a_text_is_split_like_a_shell_would() {
        check("./web --port $PORT", "./web|--port|$PORT");
        check(r#"python3 -c 'print("a b")' "x y" z\ w"#, r#"python3|-c|print("a b")|x y|z w"#);
        check("sh -c 'a && b | c'", "sh|-c|a && b | c");
        check("", "error: there is no program in it");
        check("''", "error: there is no program in it");
        check("./web 'x", "error: a quote is never closed, or nothing follows a `\\`");
        check("cd x && ./web", "error: `&&` would be an argument: no shell is involved");
        check("LOG=info ./web", "error: `LOG=…` is not a program");
    }
}
