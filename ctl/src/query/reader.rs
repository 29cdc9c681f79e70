//! One statement that reads: in a transaction that may not write and is never committed, by the
//! extended protocol, which takes one statement and no more.
//!
//! What is asked for is declared as a cursor. So it is the server's own grammar that lets
//! queries through and nothing else, whatever stands in the text. Its rows are fetched
//! through the cursor's portal: no more of them than are wanted ever leave the server, and a wide
//! value is kept in part only.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::{
    IsNull,
    message::{
        backend::{Message, RowDescriptionBody},
        frontend,
    },
};

pub(crate) use super::row::Field;
use super::{
    Complaint, Trouble,
    connection::{self, CancelKey, Connection},
    login::{self, Login},
    row::Bounded,
};
use crate::failure::Failure;

/// Where to log in. There is no password: the session's socket knows its user.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `<socket_dir>/.s.PGSQL.5432`.
    pub(crate) socket: PathBuf,
    /// The user to log in as.
    pub(crate) user: String,
    /// The database.
    pub(crate) database: String,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Statement<'a> {
    /// A query: `SELECT`, `VALUES`, `TABLE`, `WITH`.
    Query(&'a str),
    /// A statement that begins with `SHOW`, which is no query.
    Show(&'a str),
    /// The plan of a statement, which isn't executed.
    Plan(&'a str),
    /// The plan of a query that is executed for it.
    Measured(&'a str),
}

/// A column of what comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// Its type, as PostgreSQL writes it.
    pub(crate) type_name: String,
    /// Its type's object identifier.
    pub(crate) type_oid: u32,
    /// That of the elements, where the type is an array.
    pub(crate) element_oid: Option<u32>,
}

/// Cancels what a reader is at, from beside it.
#[derive(Debug, Clone)]
pub(crate) struct Canceller {
    socket: PathBuf,
    key: Arc<OnceLock<CancelKey>>,
}

/// A connection within its transaction.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Connection,
}

/// The name of the cursor, and of the portal that it is.
const CURSOR: &str = "borealis";
const BEGIN: &str = "begin transaction read only";
/// Asked in the transaction before anything else is. It takes a snapshot too, and from then on
/// PostgreSQL refuses to let the transaction write.
const WALL: &str = "\
    select pg_catalog.current_setting('transaction_read_only') = 'on', \
    not exists (select from pg_catalog.pg_roles r where r.rolname = current_user and r.rolsuper), \
    not exists (select from pg_catalog.pg_roles r where r.rolname in \
        ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files') \
        and pg_catalog.pg_has_role(current_user, r.oid, 'member')), \
    case when pg_catalog.current_setting('server_version_num')::int >= 140000 then \
        pg_catalog.set_config('client_connection_check_interval', '1s', true) end is not null";
/// What each column of [`WALL`] holds against, in its order.
const BREACHES: [&str; 3] = [
    "the transaction could write",
    "the database user is a superuser, whom no read-only transaction holds back",
    "the database user may reach files or programs of the server",
];
/// Of our own questions' answers: whole.
const WHOLE: usize = 1024 * 1024;

// === impl Canceller ===

impl Canceller {
    /// For a reader that is opened with it.
    pub(crate) fn new(place: &Place) -> Self {
        Self {
            socket: place.socket.clone(),
            key: Arc::default(),
        }
    }

    /// Has the server stop; returns when the request has been dealt with. Before the log-in
    /// there is nothing to stop.
    pub(crate) async fn cancel(&self) {
        if let Some(key) = self.key.get() {
            // Whoever can't be asked has lost the connection, and stops for that.
            let _ = connection::cancel(&self.socket, *key).await;
        }
    }
}

// === impl Statement ===

impl<'a> Statement<'a> {
    /// What is put before the text, and the text.
    fn parts(self) -> (&'static str, &'a str) {
        match self {
            Self::Query(sql) => ("declare borealis no scroll cursor for ", sql),
            Self::Show(sql) => ("", sql),
            Self::Plan(sql) => ("explain (verbose) ", sql),
            Self::Measured(sql) => ("explain (analyze, verbose, buffers) ", sql),
        }
    }
}

// === impl Reader ===

impl Reader {
    /// Logs in, begins the transaction, and looks whether it holds.
    ///
    /// # Errors
    /// That there is no connection, what the database says against it, or that the
    /// transaction would not hold.
    pub(crate) async fn open(
        place: &Place,
        settings: &[(&str, &str)],
        canceller: &Canceller,
    ) -> Result<Self, Trouble> {
        let connection = Connection::open(Path::new(&place.socket)).await?;
        let mut reader = Self { connection };
        let login = Login {
            user: &place.user,
            database: &place.database,
            password: "",
            settings,
        };
        let ignored = |_: &_| Ok(());
        login::log_in(&mut reader.connection, &login, &canceller.key, ignored).await?;
        let held = reader.ask(&format!("{BEGIN}; {WALL}")).await?;
        let held = held.first().map_or(&[][..], Vec::as_slice);
        for (number, breach) in BREACHES.iter().enumerate() {
            let holds = held.get(number).and_then(Option::as_deref) == Some("t");
            if !holds {
                let failure = Failure::failed(format!("nothing was asked: {breach}"))
                    .with_hint("only a read-only session of your personal role is used here");
                return Err(Trouble::Unsafe(failure));
            }
        }
        Ok(reader)
    }

    /// Has the server parse a statement and get it ready; answers what its rows are like.
    ///
    /// # Errors
    /// What the server says against it.
    pub(crate) async fn prepare(
        &mut self,
        statement: Statement<'_>,
    ) -> Result<Vec<Column>, Trouble> {
        if let Statement::Measured(sql) = statement {
            // What is measured is executed: only what could be a cursor too.
            let prefix = "declare borealis_measured no scroll cursor for ";
            let declared = self.extended("", &format!("{prefix}{sql}"), None).await;
            declared.map_err(|trouble| moved(trouble, prefix.chars().count()))?;
        }
        let (prefix, sql) = statement.parts();
        let text = format!("{prefix}{sql}");
        // A query becomes the cursor; of anything else the statement's own portal gets its name.
        let is_query = matches!(statement, Statement::Query(_));
        let portal = if is_query { "" } else { CURSOR };
        let described = self.extended(portal, &text, Some(CURSOR)).await;
        let described = described.map_err(|trouble| moved(trouble, prefix.chars().count()))?;
        self.with_types(described).await
    }

    /// Fetches rows of what was prepared, at most so many; of each value so many bytes are
    /// kept. `each` may break off, which leaves the reader fit to be dropped only. Answers
    /// whether all rows were seen.
    ///
    /// # Errors
    /// What the server says meanwhile.
    pub(crate) async fn fetch(
        &mut self,
        most: u32,
        keep: usize,
        mut each: impl FnMut(Vec<Option<Field>>) -> ControlFlow<()>,
    ) -> Result<bool, Trouble> {
        let most = i32::try_from(most).unwrap_or(i32::MAX);
        self.connection
            .send(|out| {
                frontend::execute(CURSOR, most, out)?;
                frontend::sync(out);
                Ok(())
            })
            .await?;
        let mut all = false;
        self.bounded_until_ready(keep, |bounded| {
            Ok(match bounded {
                Bounded::Row(fields) => each(fields),
                Bounded::Other(Message::CommandComplete(_)) => {
                    all = true;
                    ControlFlow::Continue(())
                }
                Bounded::Other(_) => ControlFlow::Continue(()),
            })
        })
        .await?;
        Ok(all)
    }

    /// Rolls back and says goodbye. The end of the connection would do the same.
    pub(crate) async fn close(mut self) {
        let _ = self
            .connection
            .send(|out| {
                frontend::query("rollback", out)?;
                frontend::terminate(out);
                Ok(())
            })
            .await;
    }

    /// A question of our own, in the simple protocol; all its rows as texts.
    async fn ask(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Trouble> {
        self.connection
            .send(|out| frontend::query(sql, out))
            .await?;
        let mut rows = Vec::new();
        self.until_ready(|bounded| {
            if let Bounded::Row(fields) = bounded {
                let text = |field: Field| String::from_utf8_lossy(&field.bytes).into_owned();
                rows.push(fields.into_iter().map(|field| field.map(text)).collect());
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(rows)
    }

    /// Has a statement parsed and bound to a portal; executes it where the portal has no name.
    /// Answers what the portal that is to be described gives.
    async fn extended(
        &mut self,
        portal: &str,
        sql: &str,
        describe: Option<&str>,
    ) -> Result<Vec<Described>, Trouble> {
        let none = || std::iter::empty::<i16>();
        self.connection
            .send(|out| {
                frontend::parse("", sql, std::iter::empty(), out)?;
                let nothing = std::iter::empty::<()>();
                let never = |(), _: &mut _| Ok(IsNull::Yes);
                frontend::bind(portal, "", none(), nothing, never, none(), out)
                    .map_err(|_| io::Error::other("it can't be bound"))?;
                if portal.is_empty() {
                    frontend::execute(portal, 0, out)?;
                }
                if let Some(portal) = describe {
                    frontend::describe(b'P', portal, out)?;
                }
                frontend::sync(out);
                Ok(())
            })
            .await?;
        let mut columns = Vec::new();
        self.until_ready(|bounded| {
            if let Bounded::Other(Message::RowDescription(body)) = bounded {
                columns = described(&body)?;
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(columns)
    }

    async fn until_ready(
        &mut self,
        take: impl FnMut(Bounded) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Trouble> {
        self.bounded_until_ready(WHOLE, take).await
    }

    /// Reads to the server's readiness. Its first error is what the whole ends with.
    async fn bounded_until_ready(
        &mut self,
        keep: usize,
        mut take: impl FnMut(Bounded) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Trouble> {
        let mut told = None;
        loop {
            let bounded = match self.connection.incoming.next_bounded(keep).await {
                Ok(bounded) => bounded,
                // A fatal error closes the connection, and says more than its end.
                Err(lost) => return Err(told.unwrap_or(Trouble::Lost(lost))),
            };
            match bounded {
                Bounded::Other(Message::ReadyForQuery(_)) => return told.map_or(Ok(()), Err),
                Bounded::Other(Message::ErrorResponse(body)) => {
                    let complaint = Complaint::read(body.fields())?;
                    told.get_or_insert(Trouble::told(complaint));
                }
                other => {
                    if take(other)?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Asks for the names of the columns' types.
    async fn with_types(&mut self, described: Vec<Described>) -> Result<Vec<Column>, Trouble> {
        if described.is_empty() {
            return Ok(Vec::new());
        }
        let list = |of: &dyn Fn(&Described) -> String| -> String {
            described.iter().map(of).collect::<Vec<_>>().join(",")
        };
        let oids = list(&|column| column.type_oid.to_string());
        let modifiers = list(&|column| column.modifier.to_string());
        let types = self
            .ask(&format!(
                "select pg_catalog.format_type(c.o, nullif(c.m, -1)), \
                 case when t.typcategory = 'A' then t.typelem end \
                 from rows from (pg_catalog.unnest('{{{oids}}}'::pg_catalog.oid[]), \
                 pg_catalog.unnest('{{{modifiers}}}'::pg_catalog.int4[])) with ordinality c(o, m, n) left join pg_catalog.pg_type t on t.oid = c.o order by c.n"
            ))
            .await?;
        let columns = described.into_iter().zip(types).map(|(column, mut row)| {
            let element = row.pop().flatten();
            Column {
                name: column.name,
                type_name: row.pop().flatten().unwrap_or_default(),
                type_oid: column.type_oid,
                element_oid: element.and_then(|oid| oid.parse().ok()),
            }
        });
        Ok(columns.collect())
    }
}

/// A column as the server describes it.
struct Described {
    name: String,
    type_oid: u32,
    modifier: i32,
}

fn described(body: &RowDescriptionBody) -> Result<Vec<Described>, Failure> {
    body.fields()
        .map(|field| {
            Ok(Described {
                name: field.name().to_owned(),
                type_oid: field.type_oid(),
                modifier: field.type_modifier(),
            })
        })
        .collect()
        .map_err(|error| Failure::failed(format!("the database's columns can't be read: {error}")))
}

/// A position within what was sent, as one within what was asked.
fn moved(mut trouble: Trouble, prefix: usize) -> Trouble {
    if let Trouble::Told(complaint) = &mut trouble {
        let position = complaint.position.take();
        complaint.position = position.and_then(|at| at.checked_sub(prefix).filter(|&at| at > 0));
    }
    trouble
}
