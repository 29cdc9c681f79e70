//! PostgreSQL extensions of one database, installed and removed for real, with the refusals
//! that the provider's API knows. Each is put into a schema of its own name, as the provider
//! does it.

use tokio_postgres::error::SqlState;

use super::{
    SandboxError,
    database::{AddonDatabase, quote},
    postgres::Postgres,
};

/// An installed extension.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Extension {
    pub(crate) name: String,
    pub(crate) schema: String,
    pub(crate) version: String,
}

/// Why an extension can't be installed or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// PostgreSQL has none of that name.
    Unknown,
    /// Others must be there first.
    Dependencies(Vec<String>),
    /// It, or a schema of its name, is there already.
    Exists,
    /// Others depend on it.
    Dependents,
    /// It isn't there.
    NotInstalled,
}

/// The installed ones, but for the language that every database has.
///
/// # Errors
/// When the server isn't running.
pub(crate) async fn list(
    postgres: &Postgres,
    database: &AddonDatabase,
) -> Result<Vec<Extension>, SandboxError> {
    let rows = postgres
        .admin(database.name())
        .await?
        .query(
            "select e.extname::text, n.nspname::text, e.extversion
             from pg_extension e join pg_namespace n on n.oid = e.extnamespace
             where e.extname <> 'plpgsql' order by 1",
            &[],
        )
        .await
        .map_err(SandboxError::sql("listing extensions"))?;
    Ok(rows
        .iter()
        .map(|row| Extension {
            name: row.get(0),
            schema: row.get(1),
            version: row.get(2),
        })
        .collect())
}

/// Installs one.
///
/// # Errors
/// The outer one when the server isn't running, the inner one when it can't be installed.
pub(crate) async fn install(
    postgres: &Postgres,
    database: &AddonDatabase,
    name: &str,
) -> Result<Result<Extension, Obstacle>, SandboxError> {
    let doing = || SandboxError::sql(format!("installing the extension {name}"));
    let schema = schema_of(name);
    let mut client = postgres.admin(database.name()).await?;
    let Some(row) = client
        .query_opt(
            "select v.schema::text,
                    array(select r::text from unnest(v.requires) as r
                          where r not in (select extname from pg_extension)),
                    exists (select from pg_extension where extname = v.name)
                        or v.schema is null
                           and exists (select from pg_namespace where nspname = $2)
             from pg_available_extensions a
             join pg_available_extension_versions v
                  on v.name = a.name and v.version = a.default_version
             where a.name = $1",
            &[&name, &schema],
        )
        .await
        .map_err(doing())?
    else {
        return Ok(Err(Obstacle::Unknown));
    };
    let fixed_schema: Option<String> = row.get(0);
    let missing: Vec<String> = row.get(1);
    if row.get(2) {
        return Ok(Err(Obstacle::Exists));
    }
    if !missing.is_empty() {
        return Ok(Err(Obstacle::Dependencies(missing)));
    }
    let quoted = quote(name);
    let statements = match fixed_schema {
        Some(_) => format!("create extension {quoted}"),
        None => format!(
            "create schema {schema}; grant usage on schema {schema} to {}, {}; \
             create extension {quoted} with schema {schema}",
            database.readers(),
            database.writers(),
            schema = quote(&schema),
        ),
    };
    let transaction = client.transaction().await.map_err(doing())?;
    match transaction.batch_execute(&statements).await {
        Ok(()) => transaction.commit().await.map_err(doing())?,
        Err(error) if already_there(&error) => return Ok(Err(Obstacle::Exists)),
        Err(error) => return Err(doing()(error)),
    }
    let installed = list(postgres, database).await?;
    Ok(installed
        .into_iter()
        .find(|extension| extension.name == name)
        .ok_or(Obstacle::Unknown))
}

/// Removes one, and its schema where nothing else is in it.
///
/// # Errors
/// The outer one when the server isn't running, the inner one when it can't be removed.
pub(crate) async fn remove(
    postgres: &Postgres,
    database: &AddonDatabase,
    name: &str,
) -> Result<Result<(), Obstacle>, SandboxError> {
    let installed = list(postgres, database).await?;
    let Some(extension) = installed.into_iter().find(|e| e.name == name) else {
        return Ok(Err(Obstacle::NotInstalled));
    };
    let client = postgres.admin(database.name()).await?;
    let dropped = client
        .batch_execute(&format!("drop extension {}", quote(name)))
        .await;
    match dropped {
        Ok(()) => {}
        Err(error) if error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
            return Ok(Err(Obstacle::Dependents));
        }
        Err(error) => return Err(SandboxError::sql(format!("removing {name}"))(error)),
    }
    if extension.schema == schema_of(name) {
        // Refused where somebody put something of their own into it, and then it stays.
        let _ = client
            .batch_execute(&format!("drop schema {}", quote(&extension.schema)))
            .await;
    }
    Ok(Ok(()))
}

/// PostgreSQL keeps names that begin with `pg_` for itself.
fn schema_of(extension: &str) -> String {
    if extension.starts_with("pg_") {
        format!("ext_{extension}")
    } else {
        extension.to_owned()
    }
}

fn already_there(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::DUPLICATE_OBJECT | &SqlState::DUPLICATE_SCHEMA)
    )
}
