//! What the daemon asks the provider about add-ons. Every answer comes with the add-on that
//! the target meant.

use borealis_proto::v1;
use tonic::Streaming;

use super::{Client, settle};
use crate::failure::Failure;

// === impl Client ===

/// All fail with what the daemon answered, or that it went away.
impl Client {
    pub(crate) async fn find_addon(
        &mut self,
        target: v1::Target,
    ) -> Result<v1::FindAddonResponse, Failure> {
        let target = Some(target);
        settle(
            self.addons
                .find_addon(v1::FindAddonRequest { target })
                .await,
        )
    }

    pub(crate) async fn addon(
        &mut self,
        target: v1::Target,
    ) -> Result<v1::GetAddonResponse, Failure> {
        let target = Some(target);
        settle(self.addons.get_addon(v1::GetAddonRequest { target }).await)
    }

    pub(crate) async fn wait_for_addon(
        &mut self,
        target: v1::Target,
    ) -> Result<Streaming<v1::WaitForAddonResponse>, Failure> {
        let target = Some(target);
        let request = v1::WaitForAddonRequest { target };
        settle(self.addons.wait_for_addon(request).await)
    }

    pub(crate) async fn extensions(
        &mut self,
        target: v1::Target,
    ) -> Result<v1::ListExtensionsResponse, Failure> {
        let target = Some(target);
        let request = v1::ListExtensionsRequest { target };
        settle(self.addons.list_extensions(request).await)
    }

    pub(crate) async fn install_extension(
        &mut self,
        request: v1::InstallExtensionRequest,
    ) -> Result<Streaming<v1::InstallExtensionResponse>, Failure> {
        settle(self.addons.install_extension(request).await)
    }

    pub(crate) async fn remove_extension(
        &mut self,
        request: v1::RemoveExtensionRequest,
    ) -> Result<v1::RemoveExtensionResponse, Failure> {
        settle(self.addons.remove_extension(request).await)
    }

    pub(crate) async fn users(
        &mut self,
        target: v1::Target,
    ) -> Result<v1::ListUsersResponse, Failure> {
        let target = Some(target);
        settle(
            self.addons
                .list_users(v1::ListUsersRequest { target })
                .await,
        )
    }

    pub(crate) async fn reset_users(
        &mut self,
        target: v1::Target,
    ) -> Result<v1::ResetUsersResponse, Failure> {
        let target = Some(target);
        settle(
            self.addons
                .reset_users(v1::ResetUsersRequest { target })
                .await,
        )
    }

    pub(crate) async fn integrations(
        &mut self,
        target: v1::Target,
    ) -> Result<v1::ListIntegrationsResponse, Failure> {
        let target = Some(target);
        let request = v1::ListIntegrationsRequest { target };
        settle(self.addons.list_integrations(request).await)
    }

    pub(crate) async fn register_integration(
        &mut self,
        request: v1::RegisterIntegrationRequest,
    ) -> Result<v1::RegisterIntegrationResponse, Failure> {
        settle(self.addons.register_integration(request).await)
    }

    pub(crate) async fn remove_integration(
        &mut self,
        request: v1::RemoveIntegrationRequest,
    ) -> Result<v1::RemoveIntegrationResponse, Failure> {
        settle(self.addons.remove_integration(request).await)
    }

    pub(crate) async fn restore_capabilities(
        &mut self,
        target: v1::Target,
    ) -> Result<v1::GetRestoreCapabilitiesResponse, Failure> {
        let target = Some(target);
        let request = v1::GetRestoreCapabilitiesRequest { target };
        settle(self.addons.get_restore_capabilities(request).await)
    }

    pub(crate) async fn execute_restore(
        &mut self,
        request: v1::ExecuteRestoreRequest,
    ) -> Result<v1::ExecuteRestoreResponse, Failure> {
        settle(self.addons.execute_restore(request).await)
    }

    pub(crate) async fn upgrade(
        &mut self,
        target: v1::Target,
    ) -> Result<v1::GetUpgradeResponse, Failure> {
        let target = Some(target);
        settle(
            self.addons
                .get_upgrade(v1::GetUpgradeRequest { target })
                .await,
        )
    }

    pub(crate) async fn execute_upgrade(
        &mut self,
        target: v1::Target,
    ) -> Result<v1::ExecuteUpgradeResponse, Failure> {
        let target = Some(target);
        let request = v1::ExecuteUpgradeRequest { target };
        settle(self.addons.execute_upgrade(request).await)
    }

    pub(crate) async fn cancel_upgrade(
        &mut self,
        target: v1::Target,
    ) -> Result<v1::CancelUpgradeResponse, Failure> {
        let target = Some(target);
        let request = v1::CancelUpgradeRequest { target };
        settle(self.addons.cancel_upgrade(request).await)
    }
}
