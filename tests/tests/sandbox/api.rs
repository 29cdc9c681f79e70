//! Both APIs: endpoints and statuses.

use std::time::Duration;

use borealis_tests::sandbox::{AddonState, AppSpec, Catalog, Options};
use reqwest::Method;
use serde_json::{Value, json};

use crate::machine::{Database, Machine, SUSHI, sandbox};

#[tokio::test]
async fn heroku_checks_its_headers() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let account = machine.heroku(Method::GET, "/account", None).await;
    assert_eq!(account.status, 200);
    assert!(account.body["email"].as_str().unwrap().contains('@'));
    assert!(account.headers.contains_key("request-id"));
    assert!(account.headers.contains_key("ratelimit-remaining"));

    let url = format!("{}/account", sandbox.heroku_url());
    let without_version = machine.http.get(&url).bearer_auth(sandbox.token());
    assert_eq!(without_version.send().await.unwrap().status(), 406);

    sandbox.faults().revoke_token();
    let refused = machine.heroku(Method::GET, "/account", None).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.body["id"], "unauthorized");
    assert!(refused.headers.contains_key("request-id"));
    sandbox.faults().restore_token();
    let missing = machine.heroku(Method::GET, "/apps/nosuch", None).await;
    assert_eq!(
        (missing.status.as_u16(), &missing.body["id"]),
        (404, &json!("not_found"))
    );
}

#[tokio::test]
async fn attachments_are_resolved_as_heroku_does_it() {
    let catalog = Catalog::default().app(AppSpec::new("sashimi").shares(SUSHI, "SHARED"));
    let sandbox = sandbox(Options {
        catalog,
        ..Options::default()
    })
    .await;
    let machine = Machine::new(&sandbox);
    let resolve = async |body: Value| {
        let path = "/actions/addon-attachments/resolve";
        let answer = machine.heroku(Method::POST, path, Some(body)).await;
        let apps = answer.body.as_array().map_or(Vec::new(), |list| {
            list.iter()
                .map(|a| {
                    format!(
                        "{}::{}",
                        a["app"]["name"].as_str().unwrap(),
                        a["name"].as_str().unwrap()
                    )
                })
                .collect()
        });
        (answer.status.as_u16(), apps)
    };
    let both = vec!["sushi::DATABASE".to_owned(), "sashimi::SHARED".to_owned()];
    assert_eq!(
        resolve(json!({"addon_attachment": SUSHI})).await,
        (200, both)
    );
    assert_eq!(
        resolve(json!({"addon_attachment": "shared", "app": "sashimi"})).await,
        (200, vec!["sashimi::SHARED".into()])
    );
    assert_eq!(
        resolve(json!({"addon_attachment": "DATABASE"})).await.0,
        404
    );
    assert_eq!(
        resolve(json!({"addon_attachment": "DATABASE", "app": "udon"}))
            .await
            .0,
        404
    );
    assert_eq!(
        resolve(json!({"addon_attachment": SUSHI, "app": "nosuch"}))
            .await
            .0,
        404
    );

    let addon = machine
        .heroku(Method::GET, &format!("/addons/{SUSHI}"), None)
        .await;
    assert_eq!(addon.body["addon_service"]["name"], "borealis-pg");
    assert_eq!(addon.body["state"], "provisioned");
    let id = addon.body["id"].as_str().unwrap();
    let by_id = machine
        .heroku(Method::GET, &format!("/addons/{id}"), None)
        .await;
    assert_eq!(by_id.body, addon.body);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let sandbox = sandbox(Options {
        page_length: 1,
        ..Options::default()
    })
    .await;
    let machine = Machine::new(&sandbox);
    let first = machine
        .heroku(Method::GET, "/apps/ramen/addons", None)
        .await;
    assert_eq!(first.status, 206);
    let next = first.headers["next-range"].to_str().unwrap();
    let second = machine
        .heroku_request(Method::GET, "/apps/ramen/addons")
        .header("Range", next)
        .send()
        .await
        .unwrap();
    assert_eq!(second.status(), 200);
    assert!(!second.headers().contains_key("next-range"));
    let second: Value = second.json().await.unwrap();
    assert_eq!(first.body.as_array().unwrap().len(), 1);
    assert_ne!(first.body[0]["name"], second[0]["name"]);
}

#[tokio::test]
async fn only_a_live_authorization_opens_the_borealis_api() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let info = async |bearer: &str| {
        machine
            .borealis_as(bearer, Method::GET, SUSHI, "", None)
            .await
            .status
    };
    assert_eq!(info(&sandbox.token()).await, 401);
    let (id, token) = machine.grant().await;
    assert_eq!(info(&token).await, 200);
    let path = format!("/oauth/authorizations/{id}");
    assert_eq!(
        machine.heroku(Method::DELETE, &path, None).await.status,
        200
    );
    assert_eq!(
        machine.heroku(Method::DELETE, &path, None).await.status,
        404
    );
    assert_eq!(info(&token).await, 401);

    let (_, token) = machine.grant().await;
    sandbox.faults().expire_grants();
    assert_eq!(info(&token).await, 401);
    let grants = sandbox.stats().grants;
    assert_eq!(
        (grants.created, grants.removed, grants.outstanding),
        (2, 1, 1)
    );
}

#[tokio::test]
async fn what_an_add_on_is_doing_decides_the_status() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    for (addon, status) in [
        ("borealis-pg-cone-45678", 422),
        ("borealis-pg-ring-56789", 423),
        ("borealis-pg-star-67890", 403),
        ("redis-cubic-10293", 404),
        ("borealis-pg-no-00000", 404),
    ] {
        let answer = machine
            .borealis(Method::POST, addon, "/personal-ssh-users", None)
            .await;
        assert_eq!(answer.status, status, "{addon}");
    }
    let info = machine
        .borealis(Method::GET, "borealis-pg-cone-45678", "", None)
        .await;
    assert_eq!(info.body["status"], "provisioning");
    let heroku = machine
        .heroku(Method::GET, "/addons/borealis-pg-cone-45678", None)
        .await;
    assert_eq!(heroku.body["state"], "provisioning");

    sandbox
        .faults()
        .set_state("tempura", AddonState::Available)
        .await
        .unwrap();
    machine.ssh_user("borealis-pg-cone-45678").await;

    let faults = sandbox.faults();
    faults
        .set_state("sushi", AddonState::Maintenance)
        .await
        .unwrap();
    let reset = machine
        .borealis(Method::DELETE, SUSHI, "/db-users/credentials", None)
        .await;
    assert_eq!(reset.status, 400);
    let upgrade = machine
        .borealis(Method::POST, SUSHI, "/pg-version-upgrades", None)
        .await;
    assert_eq!(upgrade.status, 409);
}

#[tokio::test]
async fn an_upgrade_goes_on_until_it_is_cancelled() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let call = async |method: Method, path: &str| machine.borealis(method, SUSHI, path, None).await;
    let before = call(Method::GET, "/pg-version-upgrades").await;
    assert_eq!(before.body["upgradeStatus"], "available");
    let started = call(Method::POST, "/pg-version-upgrades").await;
    assert_eq!(
        started.body["targetPgMajorVersion"],
        before.body["nextPgMajorVersion"]
    );
    assert_eq!(call(Method::POST, "/personal-ssh-users").await.status, 423);
    let during = call(Method::GET, "/pg-version-upgrades").await;
    assert_eq!(during.body["upgradeStatus"], "upgrading");
    let cancelled = call(Method::DELETE, "/pg-version-upgrades/current").await;
    assert_eq!(cancelled.status, 200);
    assert_eq!(call(Method::POST, "/personal-ssh-users").await.status, 200);
    let again = call(Method::DELETE, "/pg-version-upgrades/current").await;
    assert_eq!(again.status, 400);
}

#[tokio::test]
async fn the_config_variable_has_working_credentials() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let variables = machine
        .heroku(Method::GET, "/apps/sushi/config-vars", None)
        .await
        .body;
    assert!(variables["REDIS_URL"].is_string());
    let items = |name: &str| -> std::collections::HashMap<String, String> {
        let value = variables[name].as_str().unwrap();
        let items = value.split('|').map(|item| item.split_once(":=").unwrap());
        items.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    };
    let items = items("DATABASE_TUNNEL_BPG_CONN_INFO");
    for kind in ["READER", "WRITER"] {
        let database = Database {
            port: items["POSTGRES_PORT"].parse().unwrap(),
            name: items["POSTGRES_DB_NAME"].clone(),
            username: items[&format!("POSTGRES_{kind}_USERNAME")].clone(),
            password: items[&format!("POSTGRES_{kind}_PASSWORD")].clone(),
        };
        database.connect().await.unwrap();
    }
    let ssh = crate::machine::Ssh {
        host_key: items["SSH_PUBLIC_HOST_KEY"].clone(),
        port: items["SSH_PORT"].parse().unwrap(),
        username: items["SSH_USERNAME"].clone(),
        private_key: items["SSH_USER_PRIVATE_KEY"].replace("\\n", "\n"),
    };
    let database = machine.db_user(SUSHI, false).await;
    ssh.connect(&database).await.unwrap();

    let ramen = machine
        .heroku(Method::GET, "/apps/ramen/config-vars", None)
        .await
        .body;
    for name in [
        "BOREALIS_PG_MAROON_TUNNEL_BPG_CONN_INFO",
        "BOREALIS_PG_NAVY_SSH_TUNNEL_BPG_CONNECTION_INFO",
    ] {
        assert!(ramen[name].is_string(), "{name}: {ramen}");
    }
}

#[tokio::test]
async fn extensions_are_really_installed() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let install = async |name: &str| {
        let body = json!({"pgExtensionName": name});
        machine
            .borealis(Method::POST, SUSHI, "/pg-extensions", Some(body))
            .await
    };
    let remove = async |name: &str| {
        let path = format!("/pg-extensions/{name}");
        machine.borealis(Method::DELETE, SUSHI, &path, None).await
    };
    assert_eq!(install("no-such").await.status, 400);
    let missing = install("earthdistance").await;
    assert_eq!(missing.status, 400);
    assert_eq!(missing.body["dependencies"], json!(["cube"]));
    let cube = install("cube").await;
    assert_eq!(cube.status, 201);
    assert_eq!(cube.body["pgExtensionSchema"], "cube");
    assert_eq!(install("cube").await.status, 409);
    assert_eq!(install("earthdistance").await.status, 201);
    assert_eq!(remove("cube").await.status, 400);
    assert_eq!(remove("earthdistance").await.status, 200);
    assert_eq!(remove("cube").await.status, 200);
    let gone = remove("cube").await;
    assert_eq!(gone.status, 404);
    assert_eq!(gone.body["resourceType"], "extension");
    let elsewhere = machine
        .borealis(
            Method::DELETE,
            "borealis-pg-no-00000",
            "/pg-extensions/cube",
            None,
        )
        .await;
    assert_eq!(elsewhere.body["resourceType"], "addon");
    let list = machine
        .borealis(Method::GET, SUSHI, "/pg-extensions", None)
        .await;
    assert_eq!(list.body, json!({"extensions": []}));
}

#[tokio::test]
async fn a_data_integration_gets_in_until_it_is_removed() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let ours = machine.ssh_user(SUSHI).await;
    let key = russh::keys::PrivateKey::from_openssh(&ours.private_key).unwrap();
    let request = |name: &str, key: &str| json!({"integrationName": name, "sshPublicKey": key, "enableWriteAccess": true});
    let public = key.public_key().to_openssh().unwrap();
    let add = async |body: Value| {
        machine
            .borealis(Method::POST, SUSHI, "/data-integrations", Some(body))
            .await
    };
    assert_eq!(add(request("warehouse", "nonsense")).await.status, 400);
    let added = add(request("warehouse", &public)).await;
    assert_eq!(added.status, 200);
    assert_eq!(add(request("warehouse", &public)).await.status, 409);

    let database = Database::from_json(&added.body);
    let ssh = crate::machine::Ssh {
        username: added.body["sshUsername"].as_str().unwrap().into(),
        ..ours
    };
    ssh.connect(&database).await.unwrap();
    let list = machine
        .borealis(Method::GET, SUSHI, "/data-integrations", None)
        .await;
    assert_eq!(list.body["integrations"][0]["name"], "warehouse");
    assert_eq!(list.body["integrations"][0]["writeAccess"], true);

    let path = "/data-integrations/warehouse";
    assert_eq!(
        machine
            .borealis(Method::DELETE, SUSHI, path, None)
            .await
            .status,
        200
    );
    assert_eq!(
        machine
            .borealis(Method::DELETE, SUSHI, path, None)
            .await
            .status,
        404
    );
    assert!(database.connect().await.is_err());
    assert!(ssh.refusal(&["-N", "127.0.0.1"]).await.contains("denied"));
}

#[tokio::test]
async fn a_clone_has_the_sources_data() {
    let sandbox = sandbox(Options {
        provisioning_time: Duration::from_millis(10),
        ..Options::default()
    })
    .await;
    let machine = Machine::new(&sandbox);
    let writer = machine.db_user(SUSHI, true).await.connect().await.unwrap();
    writer
        .batch_execute("create schema extra; create table extra.note (t text); insert into extra.note values ('kept')")
        .await
        .unwrap();
    let token = machine
        .borealis(Method::POST, SUSHI, "/restore-tokens", None)
        .await
        .body["restoreToken"]
        .clone();
    let create = async |token: Value| {
        let body = json!({
            "plan": "borealis-pg:x9-basic",
            "config": {"restore-token": token},
            "attachment": {"name": "COPY"},
        });
        machine
            .heroku(Method::POST, "/apps/udon/addons", Some(body))
            .await
    };
    assert_eq!(create(json!("wrong")).await.status, 422);
    let made = create(token.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.body["state"], "provisioning");
    assert_eq!(
        create(token).await.status,
        422,
        "the attachment's name is taken"
    );

    let name = made.body["name"].as_str().unwrap();
    sandbox
        .wait_for(Duration::from_secs(30), |stats| {
            stats.addons.get(name).map(|addon| addon.state) == Some(AddonState::Available)
        })
        .await
        .unwrap();
    let reader = machine.db_user(name, false).await.connect().await.unwrap();
    let row = reader
        .query_one(
            "select count(*), (select t from extra.note) from rolls",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (12, "kept"));
    let writer = machine.db_user(name, true).await.connect().await.unwrap();
    writer
        .batch_execute("alter table rolls add spicy boolean; delete from extra.note")
        .await
        .unwrap();
    let info = machine.borealis(Method::GET, name, "", None).await;
    assert_eq!(info.body["restoreSourceAddonName"], SUSHI);
}
