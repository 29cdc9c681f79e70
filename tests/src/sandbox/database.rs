//! One add-on's database: makes it with its groups and content, and gives roles to log in
//! with, takes them away, cuts their connections. Which roles there should be is
//! `provider`'s business.
//!
//! Every database has two groups that nobody logs in as: `<database>_rw` owns what is in
//! it, `<database>_ro` may read it. Roles that log in are members of one of them.

use tokio::sync::{Mutex, OnceCell};
use tokio_postgres::Client;

use super::{SandboxError, catalog::Content, postgres::Postgres};

/// A database that is made when it is first needed.
#[derive(Debug)]
pub(crate) struct AddonDatabase {
    name: String,
    content: Content,
    made: OnceCell<()>,
    /// Held while roles change, so that two requests don't interleave.
    pub(crate) turn: Mutex<()>,
}

/// A role that logs in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) access: Access,
}

/// What a role may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read, and nothing else.
    ReadOnly,
    /// Everything but what only the provider's superuser may.
    ReadWrite,
}

/// A name as SQL takes it.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Locks everybody but the superuser out of the databases that belong to no add-on.
///
/// # Errors
/// When the server isn't running.
pub(crate) async fn close_common_databases(postgres: &Postgres) -> Result<(), SandboxError> {
    postgres
        .admin("postgres")
        .await?
        .batch_execute(
            "revoke all on database postgres from public; \
             revoke all on database template1 from public",
        )
        .await
        .map_err(SandboxError::sql("closing the common databases"))
}

// === impl AddonDatabase ===

impl AddonDatabase {
    pub(crate) fn new(name: &str, content: Content) -> Self {
        Self {
            name: name.to_owned(),
            content,
            made: OnceCell::new(),
            turn: Mutex::new(()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes the database with the app's users unless that is done already.
    ///
    /// # Errors
    /// When the server isn't running or refuses.
    pub(crate) async fn ensure(
        &self,
        postgres: &Postgres,
        app_users: &[Login],
    ) -> Result<(), SandboxError> {
        self.made
            .get_or_try_init(|| async {
                self.create(postgres).await?;
                for login in app_users {
                    self.enable(postgres, login).await?;
                }
                Ok(())
            })
            .await
            .copied()
    }

    async fn create(&self, postgres: &Postgres) -> Result<(), SandboxError> {
        let doing = || SandboxError::sql(format!("making the database {}", self.name));
        let (db, rw, ro) = (quote(&self.name), self.writers(), self.readers());
        let client = postgres.admin("postgres").await?;
        // What an attempt that was interrupted left behind goes first.
        for statement in [
            format!("drop database if exists {db}"),
            format!("drop role if exists {rw}, {ro}"),
            format!("create role {rw} nologin; create role {ro} nologin"),
            format!("create database {db}"),
            format!(
                "revoke all on database {db} from public; \
                 grant connect on database {db} to {ro}; \
                 grant connect, create, temporary on database {db} to {rw}"
            ),
        ] {
            client.batch_execute(&statement).await.map_err(doing())?;
        }
        let client = postgres.admin(&self.name).await?;
        client
            .batch_execute(&format!(
                "alter schema public owner to {rw}; \
                 revoke create on schema public from public; \
                 grant usage on schema public to {ro}"
            ))
            .await
            .map_err(doing())?;
        self.share_what_comes(&client, &rw).await?;
        if self.content == Content::Restaurant {
            let seed = include_str!("seed.sql");
            client
                .batch_execute(&format!("set role {rw}; {seed} reset role"))
                .await
                .map_err(doing())?;
        }
        Ok(())
    }

    /// Lets the login's password work from now on, and no other. Makes the role where
    /// there is none.
    ///
    /// # Errors
    /// When the server isn't running or refuses.
    pub(crate) async fn enable(
        &self,
        postgres: &Postgres,
        login: &Login,
    ) -> Result<(), SandboxError> {
        let doing = || SandboxError::sql(format!("setting up the role {}", login.username));
        let client = postgres.admin(&self.name).await?;
        let role = quote(&login.username);
        let known = client
            .query_opt(
                "select from pg_roles where rolname = $1",
                &[&login.username],
            )
            .await
            .map_err(doing())?
            .is_some();
        if !known {
            client
                .batch_execute(&self.new_role(&role, login.access))
                .await
                .map_err(doing())?;
            if login.access == Access::ReadWrite {
                self.share_what_comes(&client, &role).await?;
            }
        }
        client
            .batch_execute(&format!(
                "alter role {role} login password {}",
                literal(&login.password)
            ))
            .await
            .map_err(doing())
    }

    /// Stops the roles from logging in and cuts their connections.
    ///
    /// # Errors
    /// When the server isn't running or refuses.
    pub(crate) async fn disable(
        &self,
        postgres: &Postgres,
        usernames: &[String],
    ) -> Result<(), SandboxError> {
        let client = postgres.admin(&self.name).await?;
        self.disable_with(&client, usernames).await
    }

    async fn disable_with(
        &self,
        client: &Client,
        usernames: &[String],
    ) -> Result<(), SandboxError> {
        let doing = || SandboxError::sql("disabling roles");
        let known = client
            .query(
                "select rolname::text from pg_roles where rolname = any($1)",
                &[&usernames],
            )
            .await
            .map_err(doing())?;
        for row in known {
            let role = quote(row.get(0));
            client
                .batch_execute(&format!("alter role {role} nologin password null"))
                .await
                .map_err(doing())?;
        }
        client
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = any($1)",
                &[&usernames],
            )
            .await
            .map_err(doing())?;
        Ok(())
    }

    /// Removes the roles; what they own goes to the writers' group.
    ///
    /// # Errors
    /// When the server isn't running or refuses.
    pub(crate) async fn remove(
        &self,
        postgres: &Postgres,
        usernames: &[String],
    ) -> Result<(), SandboxError> {
        let doing = || SandboxError::sql("removing roles");
        let client = postgres.admin(&self.name).await?;
        self.disable_with(&client, usernames).await?;
        let writers = self.writers();
        for username in usernames {
            let role = quote(username);
            client
                .batch_execute(&format!(
                    "reassign owned by {role} to {writers}; drop owned by {role}; drop role {role}"
                ))
                .await
                .map_err(doing())?;
        }
        Ok(())
    }

    /// Bytes that the database takes.
    ///
    /// # Errors
    /// When the server isn't running.
    pub(crate) async fn size(&self, postgres: &Postgres) -> Result<i64, SandboxError> {
        postgres
            .admin(&self.name)
            .await?
            .query_one("select pg_database_size(current_database())", &[])
            .await
            .map(|row| row.get(0))
            .map_err(SandboxError::sql("asking for the database's size"))
    }

    /// Hands everything in the database to the writers' group, as after a restore.
    ///
    /// # Errors
    /// When the server isn't running or refuses.
    pub(crate) async fn adopt(&self, postgres: &Postgres, from: &str) -> Result<(), SandboxError> {
        let (rw, ro) = (self.writers(), self.readers());
        postgres
            .admin(&self.name)
            .await?
            .batch_execute(&format!(
                "reassign owned by {from} to {rw};
                 do $$
                 declare namespace text;
                 begin
                     for namespace in
                         select nspname from pg_namespace
                         where nspname !~ '^pg_' and nspname <> 'information_schema'
                     loop
                         execute format('grant usage on schema %I to {ro}, {rw}', namespace);
                         execute format('grant select on all tables in schema %I to {ro}', namespace);
                         execute format('grant select on all sequences in schema %I to {ro}', namespace);
                     end loop;
                 end $$;
                 analyze",
                from = quote(from),
            ))
            .await
            .map_err(SandboxError::sql("taking over a restored database"))
    }

    /// The group that owns everything, quoted.
    pub(crate) fn writers(&self) -> String {
        quote(&format!("{}_rw", self.name))
    }

    /// The group that may read everything, quoted.
    pub(crate) fn readers(&self) -> String {
        quote(&format!("{}_ro", self.name))
    }

    fn new_role(&self, role: &str, access: Access) -> String {
        match access {
            Access::ReadOnly => format!(
                "create role {role} in role {}; \
                 alter role {role} set default_transaction_read_only = on",
                self.readers()
            ),
            Access::ReadWrite => format!("create role {role} in role {}", self.writers()),
        }
    }

    /// What `owner` makes from now on is the writers' to change and the readers' to read.
    async fn share_what_comes(&self, client: &Client, owner: &str) -> Result<(), SandboxError> {
        let (rw, ro) = (self.writers(), self.readers());
        let mine = format!("alter default privileges for role {owner} grant");
        client
            .batch_execute(&format!(
                "{mine} select on tables to {ro}; {mine} all on tables to {rw}; \
                 {mine} select on sequences to {ro}; {mine} all on sequences to {rw}; \
                 {mine} usage on schemas to {ro}; {mine} all on schemas to {rw}"
            ))
            .await
            .map_err(SandboxError::sql(format!("setting privileges for {owner}")))
    }
}

// === impl Access ===

impl Access {
    /// From the provider's `enableWriteAccess`.
    pub(crate) fn from_write(write: bool) -> Self {
        if write {
            Self::ReadWrite
        } else {
            Self::ReadOnly
        }
    }

    /// The provider's `writeAccess`.
    pub(crate) fn is_write(self) -> bool {
        self == Self::ReadWrite
    }
}
