//! The control API on its Unix socket. The only importer of tonic: requests become calls of
//! the supervisor's handle, causes become statuses.

mod account;
mod addons;
mod connections;
mod convert;
mod daemon;
mod diagnostics;
mod services;
mod sessions;
mod socket;

use std::sync::Arc;

use borealis_proto::v1::{
    account_service_server::AccountServiceServer, addon_service_server::AddonServiceServer,
    connection_service_server::ConnectionServiceServer, daemon_service_server::DaemonServiceServer,
    diagnostics_service_server::DiagnosticsServiceServer,
    session_service_server::SessionServiceServer,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    body::Body,
    codegen::http::{HeaderValue, Response, header::DATE},
    transport::Server,
};
use tower::util::MapResponseLayer;

pub use services::{About, Services};
pub use socket::{ClaimError, Socket};

use crate::platform::clock;

/// Why the API can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server.
    #[error("the control API's server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// Its reflection.
    #[error("the control API can't be described: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves until `stop` completes, and then until open calls have ended.
///
/// # Errors
/// What keeps the server from being set up.
pub async fn serve(
    socket: Socket,
    services: Services,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let session_service = SessionServiceServer::new(sessions::Sessions::new(
        services.sessions.clone(),
        services.about.ca_file.clone(),
    ));
    let daemon_service = DaemonServiceServer::new(daemon::Daemon::new(&services));
    let account_service = AccountServiceServer::new(account::Account {
        sign_in: Arc::clone(&services.sign_in),
        journal: services.journal.clone(),
    });
    let diagnostics_service = DiagnosticsServiceServer::new(diagnostics::Diagnostics {
        journal: services.journal.clone(),
        metrics: Arc::clone(&services.metrics),
        doctor: services.doctor.clone(),
    });
    health
        .set_serving::<DiagnosticsServiceServer<diagnostics::Diagnostics>>()
        .await;
    health
        .set_serving::<AccountServiceServer<account::Account>>()
        .await;
    let addon_service = AddonServiceServer::new(addons::Addons::new(
        Arc::clone(&services.broker),
        services.sessions.clone(),
    ));
    let connection_service = ConnectionServiceServer::new(connections::Connections {
        handle: services.sessions.clone(),
        journal: services.journal.clone(),
    });
    health
        .set_serving::<ConnectionServiceServer<connections::Connections>>()
        .await;
    health
        .set_serving::<SessionServiceServer<sessions::Sessions>>()
        .await;
    health
        .set_serving::<DaemonServiceServer<daemon::Daemon>>()
        .await;
    health
        .set_serving::<AddonServiceServer<addons::Addons>>()
        .await;
    let (connections, incoming) = tokio::sync::mpsc::channel(16);
    let accepting = tokio::spawn(socket.accept(connections));
    let served = Server::builder()
        .layer(MapResponseLayer::new(dated))
        .add_service(session_service)
        .add_service(daemon_service)
        .add_service(account_service)
        .add_service(diagnostics_service)
        .add_service(addon_service)
        .add_service(connection_service)
        .add_service(health_service)
        .add_service(reflection_builder().build_v1()?)
        .add_service(reflection_builder().build_v1alpha()?)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop)
        .await;
    accepting.abort();
    // The socket file goes with the task.
    let _ = accepting.await;
    Ok(served?)
}

fn dated(mut response: Response<Body>) -> Response<Body> {
    if let Ok(date) = HeaderValue::try_from(clock::http_date()) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

/// Reflection is served in both of its versions: clients of some age ask for the older.
fn reflection_builder() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(borealis_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
