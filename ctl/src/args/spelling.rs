//! What is typed in another way than clap can parse.

use std::ffi::OsString;

/// The flag that `url --socket` is parsed as.
pub(crate) const OVER_SOCKET: &str = "--unix-socket";

/// Brings the words of a command line into the form that the definitions have:
///
/// - `extensions:install`, as the reference tool writes it, is `extensions install`;
/// - behind `url`, `--socket` asks for the URL over the Unix socket, unless a path follows it:
///   then it is the global flag with the control socket. No target has a slash in it.
pub(crate) fn normalized(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    const WITH_ACTIONS: [&str; 5] = ["extensions", "users", "integrations", "restore", "upgrade"];
    const WITH_VALUE: [&str; 3] = ["--socket", "--format", "-f"];
    let mut args = args.into_iter();
    let mut out: Vec<OsString> = args.next().into_iter().collect();
    while let Some(arg) = args.next() {
        let Some(text) = arg.to_str() else {
            out.push(arg);
            break;
        };
        if text.starts_with('-') {
            let has_value = WITH_VALUE.contains(&text);
            out.push(arg);
            if has_value {
                out.extend(args.next());
            }
            continue;
        }
        match text.split_once(':') {
            Some((noun, action)) if WITH_ACTIONS.contains(&noun) => {
                out.extend([noun.into(), action.into()]);
            }
            _ if text == "url" => {
                out.push(arg);
                out.extend(of_url(args.collect()));
                return out;
            }
            _ => out.push(arg),
        }
        break;
    }
    out.extend(args);
    out
}

fn of_url(words: Vec<OsString>) -> Vec<OsString> {
    let is_path = |word: &OsString| word.as_encoded_bytes().contains(&b'/');
    let flag =
        |index: usize| words[index] == "--socket" && !words.get(index + 1).is_some_and(is_path);
    let word = |index: usize| {
        if flag(index) {
            OVER_SOCKET.into()
        } else {
            words[index].clone()
        }
    };
    (0..words.len()).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(words: &[&str]) -> Vec<String> {
        let words = words.iter().map(OsString::from);
        let words = normalized(words).into_iter();
        words.map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn only_the_command_itself_is_taken_apart() {
        assert_eq!(
            spelled(&["b", "extensions:install", "-a", "sushi", "users:reset"]),
            ["b", "extensions", "install", "-a", "sushi", "users:reset"]
        );
        assert_eq!(
            spelled(&["b", "-f", "upgrade:info", "--quiet", "upgrade:info", "x"]),
            ["b", "-f", "upgrade:info", "--quiet", "upgrade", "info", "x"]
        );
        for same in [
            &["b", "run", "sushi", "-d", "users:reset"] as &[_],
            &["b", "show", "users:reset"],
            &["b", "a:b"],
            &["b", "--socket", "/s", "show", "--socket", "x"],
            &["b"],
        ] {
            assert_eq!(spelled(same), same);
        }
    }

    #[test]
    fn behind_url_the_socket_is_the_sessions() {
        for (typed, meant) in [
            (
                &["b", "url", "sushi", "--socket"] as &[_],
                &["b", "url", "sushi", OVER_SOCKET] as &[_],
            ),
            (
                &["b", "url", "--socket", "sushi"],
                &["b", "url", OVER_SOCKET, "sushi"],
            ),
            (
                &["b", "--socket", "/c", "url", "--socket", "sushi"],
                &["b", "--socket", "/c", "url", OVER_SOCKET, "sushi"],
            ),
            (
                &["b", "url", "sushi", "--socket", "/run/c.sock", "--socket"],
                &["b", "url", "sushi", "--socket", "/run/c.sock", OVER_SOCKET],
            ),
            (
                &["b", "url", "sushi", "--socket=c.sock"],
                &["b", "url", "sushi", "--socket=c.sock"],
            ),
        ] {
            assert_eq!(spelled(typed), meant);
        }
    }
}
