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
    let mut installation = Installation {
        broker,
        addon,
        extension,
        dependencies,
        progress,
        plan: Plan::new(extension),
    };
    // One grant serves all steps, as long as it is young.
    let mut held = None;
    while let Some(name) = installation.plan.next().map(str::to_owned) {
        let started = Progress::Started(name.clone());
        if progress.send(Ok(started)).await.is_err() {
            info!(
                addon,
                extension = name,
                "not installed: nobody waits for it any more"
            );
            return Ok(());
        }
        let (tried, grant) = attempt(broker, addon, &name).await?;
        held.replace(grant);
        installation.take(&name, tried).await?;
    }
    drop(held);
    Ok(())
}

/// An installation under way.
struct Installation<'a> {
    broker: &'a Broker,
    addon: &'a str,
    /// What was asked for.
    extension: &'a str,
    dependencies: Dependencies,
    progress: &'a mpsc::Sender<Result<Progress, Cause>>,
    plan: Plan,
}

// === impl Installation ===

impl Installation<'_> {
    /// Goes on by what the provider answered to one step.
    async fn take(
        &mut self,
        name: &str,
        tried: Result<InstalledExtension, Failure>,
    ) -> Result<(), Cause> {
        let failure = match tried {
            Ok(installed) => return self.installed(named(name, installed)).await,
            Err(failure) => failure,
        };
        match failure.status() {
            Some(409) => self.exists(name).await,
            Some(400) => self.refused(name, missing(&failure)),
            _ if matches!(failure, Failure::Lost { .. }) => {
                let found = settle(self.broker, self.addon, name, failure).await?;
                self.installed(found).await
            }
            _ => Err(failure.addon_cause(self.addon)),
        }
    }

    async fn installed(&mut self, extension: Extension) -> Result<(), Cause> {
        self.plan.installed();
        self.tell(Progress::Installed(extension)).await;
        Ok(())
    }

    async fn exists(&mut self, name: &str) -> Result<(), Cause> {
        let outcome = self.plan.exists();
        outcome.map_err(|stuck| stuck.into_cause(self.extension, self.addon))?;
        self.tell(Progress::Present(name.to_owned())).await;
        Ok(())
    }

    fn refused(&mut self, name: &str, missing: Vec<String>) -> Result<(), Cause> {
        let extension = name.to_owned();
        if missing.is_empty() {
            return Err(Cause::Refused(Refusal::ExtensionUnsupported { extension }));
        }
        if self.dependencies == Dependencies::Report {
            return Err(Cause::Refused(Refusal::ExtensionDependencies {
                extension,
                dependencies: missing,
            }));
        }
        let outcome = self.plan.needs(&missing);
        outcome.map_err(|stuck| stuck.into_cause(self.extension, self.addon))
    }

    /// The one it is for learns the end by that of the stream too.
    async fn tell(&self, step: Progress) {
        let _ = self.progress.send(Ok(step)).await;
    }
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
