//! What an agent asks, looked at before it is sent: for an error that says what to do. Whether
//! something is a query, and whether it may write, the server decides. Only for the functions in
//! [`REFUSED`], which a read-only transaction lets through, this is what holds them back.

mod tokens;

use self::tokens::{Token, tokens};

/// What a statement is, as far as its beginning tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Perhaps a query.
    Query,
    /// `SHOW`.
    Show,
}

/// Why a statement isn't sent, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) hint: &'static str,
}

const ONE: &str = "send one SELECT, VALUES, TABLE, WITH or SHOW statement for each call";
/// Functions, or how their names begin, and why they aren't called.
const REFUSED: [(&str, &str); 13] = [
    (
        "pg_terminate_backend",
        "it ends other connections of this user",
    ),
    (
        "pg_cancel_backend",
        "it cancels what other connections of this user are running",
    ),
    ("pg_advisory_*", "it locks what others wait for"),
    ("pg_try_advisory_*", "it locks what others wait for"),
    (
        "pg_logical_emit_message",
        "it writes to the server's log of changes",
    ),
    ("set_config", "settings are the server's here"),
    (
        "dblink*",
        "it connects to other databases, outside of this transaction",
    ),
    ("lo_*", "it makes, changes or moves large objects"),
    ("lowrite", "it changes large objects"),
    (
        "query_to_xml*",
        "it executes SQL in a text, which can't be looked at",
    ),
    ("cursor_to_xml*", "it executes what can't be looked at"),
    (
        "ts_stat",
        "it executes SQL in a text, which can't be looked at",
    ),
    (
        "ts_rewrite",
        "it executes SQL in a text, which can't be looked at",
    ),
];
/// How the statements begin that are no queries. Any other word is left to the server.
const NO_QUERIES: &[&str] = &[
    "abort",
    "alter",
    "analyze",
    "begin",
    "call",
    "checkpoint",
    "close",
    "cluster",
    "comment",
    "commit",
    "copy",
    "create",
    "deallocate",
    "declare",
    "delete",
    "discard",
    "do",
    "drop",
    "end",
    "execute",
    "fetch",
    "grant",
    "import",
    "insert",
    "listen",
    "load",
    "lock",
    "merge",
    "move",
    "notify",
    "prepare",
    "reassign",
    "refresh",
    "reindex",
    "release",
    "reset",
    "revoke",
    "rollback",
    "savepoint",
    "security",
    "set",
    "start",
    "truncate",
    "unlisten",
    "update",
    "vacuum",
];

/// Looks at what is to be executed.
///
/// # Errors
/// Why it isn't sent.
pub(super) fn executed(sql: &str) -> Result<Kind, Refusal> {
    let tokens = one(sql)?;
    let first = first_word(&tokens);
    match first {
        Some("explain") => {
            return Err(refused(
                "EXPLAIN is no query",
                "use the tool `explain`, with the statement alone",
            ));
        }
        Some(word) if NO_QUERIES.contains(&word) => {
            let word = word.to_uppercase();
            return Err(refused(
                format!("{word} is not executed here: this reads, and nothing else"),
                ONE,
            ));
        }
        _ => {}
    }
    for pair in tokens.windows(2) {
        if let [Token::Word(name), Token::Symbol('(')] = pair
            && let Some((_, why)) = REFUSED.iter().find(|(pattern, _)| fits(name, pattern))
        {
            return Err(refused(
                format!("the function {name} is not called here: {why}"),
                "leave it out; `borealisctl agent-guide` lists what is refused",
            ));
        }
    }
    Ok(if first == Some("show") {
        Kind::Show
    } else {
        Kind::Query
    })
}

/// Looks at what is only to be planned.
///
/// # Errors
/// Why it isn't sent.
pub(super) fn planned(sql: &str) -> Result<(), Refusal> {
    match first_word(&one(sql)?) {
        Some("explain") => Err(refused(
            "EXPLAIN can't be explained",
            "give the statement alone, without EXPLAIN",
        )),
        _ => Ok(()),
    }
}

/// The tokens of a text that holds one statement.
fn one(sql: &str) -> Result<Vec<Token<'_>>, Refusal> {
    let tokens = tokens(sql)?;
    let mut ended = false;
    for token in &tokens {
        match token {
            Token::Symbol(';') => ended = true,
            _ if ended => return Err(refused("several statements in one call", ONE)),
            _ => {}
        }
    }
    match tokens.first() {
        None | Some(Token::Symbol(';')) => Err(refused("there is no statement", ONE)),
        Some(_) => Ok(tokens),
    }
}

/// The first word, behind parentheses.
fn first_word<'a>(tokens: &'a [Token<'_>]) -> Option<&'a str> {
    match tokens
        .iter()
        .find(|token| !matches!(token, Token::Symbol('(')))
    {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    }
}

fn fits(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

/// The refused functions and why, for the guide.
pub(super) fn refused_functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    REFUSED.iter().copied()
}

fn refused(message: impl Into<String>, hint: &'static str) -> Refusal {
    Refusal {
        message: message.into(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(sql: &str) -> String {
        match executed(sql) {
            Ok(kind) => panic!("{sql:?} is let through as {kind:?}"),
            Err(refusal) => refusal.message,
        }
    }

    #[test]
    fn queries_pass() {
        for sql in [
            "select 1",
            "  -- why\n select 1 ; ",
            "/* a /* nested; */ drop */ (select 1) union (select 2);;",
            "with x as (select 1) table x",
            "values (1), (2)",
            "select 'drop table x; pg_terminate_backend(1)', \"a;b\", $$ ; $$, $t$ $$;'$t$",
            r"select E'it\'s; ', '\', pg_sleep(1)",
            "select set_config from settings",
            "select a.pg_advisory_locks, count(*) from locks",
            "selec 1",
        ] {
            assert_eq!(executed(sql), Ok(Kind::Query), "{sql}");
        }
        assert_eq!(executed("Show search_path;"), Ok(Kind::Show));
    }

    #[test]
    fn what_is_no_query_is_named() {
        assert_eq!(
            refusal("\n--x\nDeLeTe from orders"),
            "DELETE is not executed here: this reads, and nothing else"
        );
        assert_eq!(refusal("explain select 1"), "EXPLAIN is no query");
        for sql in ["", " ;", "-- nothing\n", "/* ; */"] {
            assert_eq!(refusal(sql), "there is no statement", "{sql:?}");
        }
        for sql in [
            "select 1; select 2",
            "select 1;drop table x",
            "select '\\'; commit",
            "select $a$ $b$ $a$; commit",
            "select 1 /* ; */ ; -- ;\n commit",
        ] {
            assert_eq!(refusal(sql), "several statements in one call", "{sql:?}");
        }
    }

    #[test]
    fn functions_that_reach_beyond_the_transaction_are_refused() {
        for sql in [
            "select pg_terminate_backend(1)",
            "select PG_Terminate_Backend /* x */ (1)",
            "select pg_catalog.\"pg_terminate_backend\"(1)",
            "select 1 from t where pg_catalog . pg_try_advisory_lock(1)",
            "select 'a''', dblink_exec('')",
            "select * from dblink('x', 'y') as t(a int)",
            "select E'\\'', pg_cancel_backend(1), '\\'",
            "select query_to_xml('select pg_cancel_backend(1)', true, true, '')",
            "select lo_import('/etc/passwd')",
            "select\u{a0}é, set_config('a', 'b', false)",
        ] {
            assert!(refusal(sql).starts_with("the function "), "{sql}");
        }
    }

    #[test]
    fn texts_that_hide_what_they_call_are_refused() {
        for sql in [
            "select U&\"pg\\005fterminate_backend\"(1)",
            "select E'a'\n'\\'' , pg_terminate_backend(1) , ''",
            "select E'a' -- x\n'\\'' , pg_terminate_backend(1) , ''",
            "select 'not closed",
            "select \"not closed",
            "select $x$ not closed",
            "select /* not closed",
            "select 1\0",
        ] {
            executed(sql).unwrap_err();
        }
    }

    #[test]
    fn what_is_planned_may_write() {
        planned("delete from orders").unwrap();
        planned("explain select 1").unwrap_err();
        planned("select 1; select 2").unwrap_err();
    }
}
