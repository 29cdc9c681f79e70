//! The control API as any gRPC client sees it, and the daemon's own commands.

use borealis_tests::harness::TestMachine;
use rustix::process::Signal;

#[test]
fn status_says_what_the_daemon_is() {
    let machine = TestMachine::new();
    let status = machine.json(&["status"]);
    assert_eq!(status["health"], "ok");
    assert_eq!(status["pid"], machine.daemon().pid());
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    machine.leave();
}

#[test]
fn health_and_reflection_are_served() {
    let machine = TestMachine::new();
    machine.sandbox.block_on(async {
        use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
        use tonic_reflection::pb::v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };

        let channel = borealis_proto::connect::connect(machine.daemon().socket().to_owned())
            .await
            .unwrap();
        let services = ["SessionService", "ConnectionService"]
            .map(|name| format!("borealis.control.v1.{name}"));
        for service in services.clone() {
            let answer = HealthClient::new(channel.clone())
                .check(HealthCheckRequest { service })
                .await
                .unwrap();
            assert_eq!(answer.into_inner().status, 1);
        }
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut answers = ServerReflectionClient::new(channel)
            .server_reflection_info(tokio_stream::once(request))
            .await
            .unwrap()
            .into_inner();
        let answer = answers
            .message()
            .await
            .unwrap()
            .unwrap()
            .message_response
            .unwrap();
        let MessageResponse::ListServicesResponse(list) = answer else {
            panic!("{answer:?}")
        };
        let names: Vec<_> = list
            .service
            .into_iter()
            .map(|service| service.name)
            .collect();
        for expected in [
            services[0].as_str(),
            services[1].as_str(),
            "borealis.control.v1.DaemonService",
            "grpc.health.v1.Health",
        ] {
            assert!(
                names.iter().any(|name| name == expected),
                "{expected} in {names:?}"
            );
        }
    });
    machine.leave();
}

#[test]
fn shutdown_ends_the_daemon_and_the_next_start_brings_everything_back() {
    let mut machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    machine.ctl_ok(&["shutdown"]);
    assert_eq!(machine.await_daemon(), Some(0));
    machine.ctl(&["list"]).expect_failure(3, &["not running"]);
    machine
        .psql(&url, "select 1")
        .expect_failure(2, &["refused"]);
    machine.start_daemon();
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn an_interrupt_ends_the_daemon_as_well() {
    let mut machine = TestMachine::new();
    machine.open(&["sushi"]);
    machine.daemon().signal(Signal::INT);
    assert_eq!(machine.await_daemon(), Some(0));
    machine.leave();
}

#[test]
fn open_asks_the_provider_for_no_more_than_it_needs() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    machine.open(&["sushi"]);
    let stats = machine.sandbox.stats();
    assert_eq!(stats.requests_for("/personal-db-users"), 1);
    assert_eq!(stats.requests_for("/personal-ssh-users"), 1);
    assert_eq!(stats.grants.created, 1, "both calls share a grant");
    machine.leave();
}
