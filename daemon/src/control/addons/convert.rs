//! Between the API's messages about add-ons and the daemon's values.

use borealis_proto::v1;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use super::super::convert::{failure, timestamp};
use crate::{
    admin::{
        extensions::Progress,
        info::News,
        restore::{Created, Execution, Request},
    },
    model::{Cause, Resolved},
    provider::wire::addon::{
        AddonInfo, DatabaseUsers, Extension, Integration, IntegrationCredentials,
        RestoreCapabilities, Upgrade,
    },
};

const SSH_PORT: u16 = 22;
const POSTGRES_PORT: u16 = 5432;

pub(super) fn addon(found: Resolved) -> Option<v1::Addon> {
    Some(v1::Addon {
        name: found.addon,
        app: found.app,
        attachment: found.attachment,
    })
}

pub(super) fn info(info: AddonInfo) -> v1::AddonInfo {
    v1::AddonInfo {
        status: info.status.unwrap_or_default(),
        region: info.region.unwrap_or_default(),
        plan_name: info.plan_name.unwrap_or_default(),
        db_tenancy_type: info.db_tenancy_type.unwrap_or_default(),
        postgres_version: info.postgres_version.unwrap_or_default(),
        db_storage_max_bytes: info.db_storage_max_bytes,
        db_storage_usage_bytes: info.db_storage_usage_bytes,
        replica_quantity: info.replica_quantity,
        app_db_name: info.app_db_name.unwrap_or_default(),
        created_at: info.created_at.map(timestamp),
        restore_source_addon_name: info.restore_source_addon_name.unwrap_or_default(),
        storage_compliance_status: info.storage_compliance_status.unwrap_or_default(),
        storage_compliance_deadline: info.storage_compliance_deadline.map(timestamp),
    }
}

pub(super) fn news(addon: Option<v1::Addon>, news: News) -> v1::WaitForAddonResponse {
    v1::WaitForAddonResponse {
        addon,
        state: news.state,
        status: news.status,
        done: news.done,
        trouble: news.trouble.as_ref().map(failure),
    }
}

pub(super) fn extension(extension: Extension) -> v1::Extension {
    v1::Extension {
        name: extension.name,
        version: extension.version.unwrap_or_default(),
        schema: extension.schema.unwrap_or_default(),
    }
}

pub(super) fn progress(
    addon: Option<v1::Addon>,
    progress: Progress,
) -> v1::InstallExtensionResponse {
    let only_name = |name| v1::Extension {
        name,
        ..v1::Extension::default()
    };
    let (step, extension) = match progress {
        Progress::Started(name) => (v1::InstallStep::Started, only_name(name)),
        Progress::Installed(installed) => (v1::InstallStep::Installed, extension(installed)),
        Progress::Present(name) => (v1::InstallStep::Present, only_name(name)),
    };
    v1::InstallExtensionResponse {
        addon,
        step: step.into(),
        extension: Some(extension),
    }
}

pub(super) fn users(users: DatabaseUsers) -> v1::DatabaseUsers {
    v1::DatabaseUsers {
        display_name: users.display_name.unwrap_or_default(),
        user_type: users.user_type.unwrap_or_default(),
        read_only_username: users.read_only_username.unwrap_or_default(),
        read_write_username: users.read_write_username.unwrap_or_default(),
    }
}

pub(super) fn integration(integration: Integration) -> v1::Integration {
    v1::Integration {
        name: integration.name,
        db_username: integration.db_username.unwrap_or_default(),
        ssh_username: integration.ssh_username.unwrap_or_default(),
        write_access: integration.write_access.unwrap_or_default(),
        created_at: integration.created_at.map(timestamp),
    }
}

pub(super) fn credentials(credentials: IntegrationCredentials) -> v1::IntegrationCredentials {
    v1::IntegrationCredentials {
        db_host: credentials.db_host,
        db_port: credentials.db_port.unwrap_or(POSTGRES_PORT).into(),
        db_name: credentials.db_name,
        db_username: credentials.db_username,
        db_password: credentials.db_password.expose_secret().to_owned(),
        ssh_host: credentials.ssh_host,
        ssh_port: credentials.ssh_port.unwrap_or(SSH_PORT).into(),
        ssh_username: credentials.ssh_username,
        public_ssh_host_key: credentials.public_ssh_host_key.unwrap_or_default(),
    }
}

pub(super) fn capabilities(
    found: Resolved,
    capabilities: &RestoreCapabilities,
) -> v1::GetRestoreCapabilitiesResponse {
    v1::GetRestoreCapabilitiesResponse {
        addon: addon(found),
        clone_supported: capabilities.clone_supported,
        restore_supported: capabilities.restore_supported,
        earliest_restorable_time: capabilities.earliest_restorable_time.map(timestamp),
        latest_restorable_time: capabilities.latest_restorable_time.map(timestamp),
    }
}

pub(super) fn restore_request(request: &v1::ExecuteRestoreRequest) -> Result<Request, Cause> {
    let named = |text: &String| (!text.is_empty()).then(|| text.clone());
    let restore_to = request.restore_to.as_ref().map(|time| {
        Timestamp::new(time.seconds, time.nanos).map_err(|_| Cause::InvalidRequest {
            problem: "there is no such time to restore to".into(),
        })
    });
    Ok(Request {
        attachment: named(&request.attachment),
        destination_app: named(&request.destination_app),
        plan: named(&request.plan),
        restore_to: restore_to.transpose()?,
    })
}

pub(super) fn execution(
    source: Resolved,
    request: Request,
    execution: Execution,
) -> v1::ExecuteRestoreResponse {
    v1::ExecuteRestoreResponse {
        source: addon(source),
        addon: Some(v1::Addon {
            name: execution.addon,
            app: execution.app,
            attachment: request.attachment.unwrap_or_default(),
        }),
        plan: execution.plan,
        restore_to: request.restore_to.map(timestamp),
        state: execution.state,
        created: execution.created == Created::Now,
    }
}

pub(super) fn upgrade(found: Resolved, upgrade: Upgrade) -> v1::GetUpgradeResponse {
    v1::GetUpgradeResponse {
        addon: addon(found),
        current_pg_major_version: upgrade.current_pg_major_version.unwrap_or_default(),
        next_pg_major_version: upgrade.next_pg_major_version.unwrap_or_default(),
        upgrade_status: upgrade.upgrade_status.unwrap_or_default(),
    }
}
