//! The config file as it may be passed on: the keys that are known to hold no secret, with their
//! values. Comments are left out, and so is the value of every other key.

use std::{fs, io, path::Path};

use toml::{Table, Value};

use crate::failure::reason;

/// The keys that hold no secret, in whichever table.
const HARMLESS: &[&str] = &[
    "access",
    "connect_timeout",
    "default",
    "idle_in_transaction_timeout",
    "idle_timeout",
    "interval",
    "lazy",
    "listen",
    "lock_timeout",
    "max_connections",
    "metrics_listen",
    "mode",
    "name",
    "notify",
    "port",
    "port_range",
    "role",
    "shutdown_grace",
    "statement_timeout",
    "target",
    "timeout",
    "upstream_ca",
    "upstream_tls",
    "warm_connections",
];
/// Tables that are gone into.
const TABLES: &[&str] = &["guard", "keepalive", "rotation", "session"];

/// What is known of the file.
pub(super) fn shown(file: &Path) -> String {
    let place = file.display();
    match fs::read_to_string(file) {
        Ok(text) => match text.parse::<Table>() {
            Ok(table) => {
                let mut lines = format!("{place}, without comments:\n\n");
                write_table(&mut lines, "", &table);
                lines
            }
            Err(_) => format!(
                "{place} is no valid TOML, and its {} lines are left out; see the doctor\n",
                text.lines().count()
            ),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("{place} doesn't exist: the defaults hold\n")
        }
        Err(error) => format!("{place} can't be read: {}\n", reason(&error)),
    }
}

/// The texts of the file that are not shown.
pub(super) fn hidden(file: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    if let Ok(text) = fs::read_to_string(file)
        && let Ok(table) = text.parse::<Table>()
    {
        collect_hidden(&table, &mut texts);
    }
    texts
}

fn collect_hidden(table: &Table, texts: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            _ if HARMLESS.contains(&key.as_str()) && !value.is_table() && !value.is_array() => {}
            value if TABLES.contains(&key.as_str()) => {
                tables(value).for_each(|table| collect_hidden(table, texts));
            }
            value => collect_texts(value, texts),
        }
    }
}

/// The text itself and each word of it, which may be shown by itself.
fn collect_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            texts.push(text.clone());
            // The program of a command is shown.
            let words = text
                .split_whitespace()
                .skip(usize::from(program(text).is_some()));
            texts.extend(words.map(|word| word.trim_matches(['"', '\'']).to_owned()));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_texts(value, texts)),
        Value::Table(table) => table.values().for_each(|value| collect_texts(value, texts)),
        value => texts.push(value.to_string()),
    }
}

fn write_table(lines: &mut String, prefix: &str, table: &Table) {
    for (key, value) in table {
        match value {
            Value::String(command) if key == "token_command" => {
                let program = program(command).unwrap_or("(not shown)");
                let count = command.split_whitespace().count();
                lines.push_str(&format!(
                    "{prefix}token_command: {program}, {count} words, the others not shown\n"
                ));
            }
            value if TABLES.contains(&key.as_str()) && tables(value).next().is_some() => {
                for table in tables(value) {
                    write_table(lines, &format!("{prefix}{key}."), table);
                }
            }
            value if HARMLESS.contains(&key.as_str()) && !value.is_table() && !value.is_array() => {
                lines.push_str(&format!("{prefix}{key} = {value}\n"));
            }
            _ => lines.push_str(&format!("{prefix}{key}: a value that is not shown\n")),
        }
    }
}

/// A table, or each of an array of tables.
fn tables(value: &Value) -> impl Iterator<Item = &Table> {
    let one = value.as_table().into_iter();
    let several = value.as_array().into_iter().flatten();
    one.chain(several.filter_map(Value::as_table))
}

/// The program of a shell's command line, where it begins with one and with no variable.
fn program(command: &str) -> Option<&str> {
    let first = command.split_whitespace().next()?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    first.chars().all(is_name).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_harmless_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let text = r#"
            # SECRET in a comment
            port_range = "15432-15531"
            notify = false
            token_command = "pass show SECRET1 'SECRET2'"
            api_key = "SECRET3"
            port = { x = "SECRET4" }
            [rotation]
            interval = "8h"
            secret = ["SECRET5", 12345678]
            [[session]]
            target = "sushi"
            password = "SECRET6"
            [unknown]
            a = "SECRET7"
        "#;
        fs::write(&file, text).unwrap();
        let shown = shown(&file);
        assert!(!shown.contains("SECRET"), "{shown}");
        for line in [
            "port_range = \"15432-15531\"\n",
            "notify = false\n",
            "token_command: pass, 4 words, the others not shown\n",
            "rotation.interval = \"8h\"\n",
            "session.target = \"sushi\"\n",
            "session.password: a value that is not shown\n",
        ] {
            assert!(shown.contains(line), "{line:?} in {shown}");
        }
        let hidden = hidden(&file);
        for number in 1..=7 {
            let secret = format!("SECRET{number}");
            assert!(hidden.contains(&secret), "{secret} in {hidden:?}");
        }
        assert!(!hidden.iter().any(|text| text == "sushi" || text == "pass"));

        fs::write(&file, "token_command = SECRET\n").unwrap();
        assert!(!super::shown(&file).contains("SECRET"));
        fs::write(&file, "token_command = \"TOKEN=SECRET printenv TOKEN\"\n").unwrap();
        assert!(!super::shown(&file).contains("SECRET"));
    }
}
