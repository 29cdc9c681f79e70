//! PostgreSQL extensions.

use tokio::sync::mpsc;
use tracing::info;

use super::{
    borealis, names_addon, otherwise,
    plan::{Plan, Stuck},
};
use crate::{
    credential::{Broker, Grant},
    model::{Cause, Refusal},
    provider::{
        Failure,
        wire::addon::{Extension, InstalledExtension},
    },
};

/// What to do about dependencies that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependencies {
    /// Fail, and name them.
    Report,
    /// Install them first.
    Install,
}

/// A step of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The extension of this name is being installed.
    Started(String),
    /// This one is installed now.
    Installed(Extension),
    /// The dependency of this name was there already.
    Present(String),
}

/// Those that are installed.
///
/// # Errors
/// What the provider answers instead.
pub async fn list(broker: &Broker, addon: &str) -> Result<Vec<Extension>, Cause> {
    let call = async |grant: Grant| borealis(broker, &grant, addon).extensions().await;
    broker
        .with_grant(call, |failure| failure.addon_cause(addon))
        .await
}

/// Installs an extension, telling `progress` of each step. Stops before the next step where
/// nobody listens any more; dropping the future abandons the step under way, which the
/// provider may still carry out.
///
/// # Errors
/// Why it can't be installed; dependencies that were installed before stay.
pub async fn install(
    broker: &Broker,
    addon: &str,
    extension: &str,
    dependencies: Dependencies,
    progress: &mpsc::Sender<Result<Progress, Cause>>,
) -> Result<(), Cause> {
    let mut plan = Plan::new(extension);
    // One grant serves all steps, as long as it is young.
    let mut held = None;
    while let Some(name) = plan.next().map(str::to_owned) {
        let tell = async |step| progress.send(Ok(step)).await;
        if tell(Progress::Started(name.clone())).await.is_err() {
            info!(
                addon,
                extension = name,
                "not installed: nobody waits for it any more"
            );
            return Ok(());
        }
        let (tried, grant) = attempt(broker, addon, &name).await?;
        held.replace(grant);
        let outcome = match tried {
            Ok(installed) => {
                plan.installed();
                // The one it is for learns it by the end of the stream too.
                let _ = tell(Progress::Installed(named(&name, installed))).await;
                Ok(())
            }
            Err(failure) => match (failure.status(), missing(&failure)) {
                (Some(409), _) => {
                    let outcome = plan.exists();
                    if outcome.is_ok() {
                        let _ = tell(Progress::Present(name.clone())).await;
                    }
                    outcome
                }
                (Some(400), missing) if !missing.is_empty() => match dependencies {
                    Dependencies::Install => plan.needs(&missing),
                    Dependencies::Report => {
                        return Err(Cause::Refused(Refusal::ExtensionDependencies {
                            extension: name,
                            dependencies: missing,
                        }));
                    }
                },
                (Some(400), _) => {
                    return Err(Cause::Refused(Refusal::ExtensionUnsupported {
                        extension: name,
                    }));
                }
                _ if matches!(failure, Failure::Lost { .. }) => {
                    let found = settle(broker, addon, &name, failure).await?;
                    plan.installed();
                    let _ = tell(Progress::Installed(found)).await;
                    Ok(())
                }
                _ => return Err(failure.addon_cause(addon)),
            },
        };
        outcome.map_err(|stuck| stuck.into_cause(extension, addon))?;
    }
    drop(held);
    Ok(())
}

/// Removes an extension.
///
/// # Errors
/// Why it can't be removed.
pub async fn remove(broker: &Broker, addon: &str, extension: &str) -> Result<(), Cause> {
    let call = async |grant: Grant| {
        borealis(broker, &grant, addon)
            .remove_extension(extension)
            .await
    };
    broker
        .with_grant(call, |failure| {
            let (extension, addon) = (extension.to_owned(), addon.to_owned());
            match failure.status() {
                Some(400) => Cause::Refused(Refusal::ExtensionDependents { extension, addon }),
                Some(404) if !names_addon(&failure) => {
                    Cause::Refused(Refusal::ExtensionNotInstalled { extension, addon })
                }
                _ => {
                    let doing = format!("extension {extension} was removed");
                    otherwise(failure, &addon, &doing, "extensions")
                }
            }
        })
        .await
}

/// One call, its refusal as a value, and the grant that it was made with.
async fn attempt(
    broker: &Broker,
    addon: &str,
    name: &str,
) -> Result<(Result<InstalledExtension, Failure>, Grant), Cause> {
    let call = async |grant: Grant| {
        let outcome = borealis(broker, &grant, addon)
            .install_extension(name)
            .await;
        match outcome {
            Err(failure) if failure.status() == Some(401) => Err(failure),
            outcome => Ok((outcome, grant)),
        }
    };
    broker
        .with_grant(call, |failure| failure.addon_cause(addon))
        .await
}

/// After a lost answer: whether the extension is there now.
async fn settle(
    broker: &Broker,
    addon: &str,
    name: &str,
    failure: Failure,
) -> Result<Extension, Cause> {
    let unknown = || {
        let doing = format!("extension {name} was installed");
        otherwise(failure, addon, &doing, "extensions")
    };
    match list(broker, addon).await {
        Ok(extensions) => extensions
            .into_iter()
            .find(|extension| extension.name == name)
            .ok_or_else(unknown),
        Err(_) => Err(unknown()),
    }
}

fn named(name: &str, installed: InstalledExtension) -> Extension {
    Extension {
        name: name.to_owned(),
        schema: installed.pg_extension_schema,
        version: installed.pg_extension_version,
    }
}

/// What the provider names as missing.
fn missing(failure: &Failure) -> Vec<String> {
    let Failure::Refused(refusal) = failure else {
        return Vec::new();
    };
    let list = refusal.body.get("dependencies").and_then(|d| d.as_array());
    let names = list.into_iter().flatten().filter_map(|name| name.as_str());
    names.map(str::to_owned).collect()
}

// === impl Stuck ===

impl Stuck {
    fn into_cause(self, extension: &str, addon: &str) -> Cause {
        Cause::Refused(match self {
            Self::Exists(name) => Refusal::ExtensionExists {
                extension: name,
                addon: addon.to_owned(),
            },
            Self::Cycle(cycle) => Refusal::ExtensionCycle {
                extension: extension.to_owned(),
                cycle,
            },
        })
    }
}
