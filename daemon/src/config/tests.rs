//! What the config file means, and the words of every refusal.

use std::{fs, path::Path, time::Duration};

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, text).unwrap();
    Config::load(&file)
}

/// The refusal, without the directory.
fn refusal(text: &str) -> String {
    let error = parse(text).unwrap_err();
    let dir = format!("{}/", error.file.parent().unwrap().display());
    error.to_string().replace(&dir, "")
}

#[test]
fn no_file_and_no_keys_are_the_defaults() {
    assert_eq!(
        Config::load(Path::new("/nonexistent/config.toml")),
        Ok(Config::default())
    );
    assert_eq!(parse(""), Ok(Config::default()));
    assert_eq!(
        parse("# nothing\n[rotation]\n[keepalive]\n"),
        Ok(Config::default())
    );
}

/// The contract's example, whose values are the defaults.
#[test]
fn the_documented_defaults_are_the_defaults() {
    let config = parse(
        r#"
        port_range = "15432-15531"
        connect_timeout = "30s"
        shutdown_grace = "5s"
        upstream_tls = "prefer"
        warm_connections = 1
        max_connections = 200
        notify = true
        [rotation]
        interval = "8h"
        [keepalive]
        interval = "5s"
        timeout = "5s"
        "#,
    );
    assert_eq!(config, Ok(Config::default()));
}

#[test]
fn every_key_is_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), "").unwrap();
    let file = dir.path().join("config.toml");
    fs::write(
        &file,
        r#"
        port_range = "20000 - 20009"
        connect_timeout = "1m30s"
        shutdown_grace = 0
        upstream_tls = "verify-ca"
        upstream_ca = "ca.pem"
        warm_connections = 0
        max_connections = 5_000
        token_command = "heroku auth:token"
        metrics_listen = "[::1]:9187"
        notify = false
        [rotation]
        interval = 0
        [keepalive]
        interval = "10s"
        timeout = "2s"
        [[session]]
        target = "sushi"
        [[session]]
        target = "ramen::BOREALIS_PG_MAROON"
        access = "read-write"
        name = "noodles"
        port = 5432
        role = "app"
        mode = "passthrough"
        "#,
    )
    .unwrap();
    let sushi = DeclaredSession {
        target: Target::Word("sushi".into()),
        access: Access::ReadOnly,
        role: Role::Personal,
        mode: Mode::Managed,
        name: None,
        port: None,
    };
    let noodles = DeclaredSession {
        target: Target::AppAddon {
            app: "ramen".into(),
            addon: "BOREALIS_PG_MAROON".into(),
        },
        access: Access::ReadWrite,
        role: Role::App,
        mode: Mode::Passthrough,
        name: Some(SessionName::parse("noodles").unwrap()),
        port: Some(5432),
    };
    let seconds = Duration::from_secs;
    assert_eq!(
        Config::load(&file),
        Ok(Config {
            port_range: PortRange::new(20000, 20009).unwrap(),
            connect_timeout: seconds(90),
            shutdown_grace: seconds(0),
            upstream_tls: UpstreamTls::VerifyCa {
                ca_file: dir.path().join("ca.pem")
            },
            warm_connections: 0,
            max_connections: 5000,
            token_command: Some("heroku auth:token".into()),
            metrics_listen: Some("[::1]:9187".parse().unwrap()),
            notify: false,
            rotation: Rotation { interval: None },
            keepalive: Keepalive {
                interval: seconds(10),
                timeout: seconds(2),
            },
            sessions: vec![sushi, noodles],
        })
    );
}

#[test]
fn zero_can_be_written_in_three_ways() {
    for zero in ["0", "\"0\"", "\"0s\""] {
        let config = parse(&format!("rotation.interval = {zero}")).unwrap();
        assert_eq!(config.rotation.interval, None, "{zero}");
    }
}

#[test]
fn refusals_name_place_key_value_and_what_is_accepted() {
    let cases = [
        (
            "notify = \"yes\"\n",
            "config.toml:1:10: notify = \"yes\" is not accepted; accepted: true, false",
        ),
        (
            "connect_timeout = \"30s\"\nportrange = \"1-2\"\n",
            "config.toml:2:1: there is no key portrange (did you mean port_range?); accepted at the top: port_range, connect_timeout, shutdown_grace, upstream_tls, upstream_ca, warm_connections, max_connections, token_command, metrics_listen, notify, rotation, keepalive, session",
        ),
        (
            "[keepalive]\n  every = \"5s\"\n",
            "config.toml:2:3: there is no key keepalive.every; accepted in [keepalive]: interval, timeout",
        ),
        (
            "connect_timeout = 30\n",
            "config.toml:1:19: connect_timeout = 30 is not accepted; accepted: a time with its unit, such as \"30s\", \"5m\" or \"8h\", from \"100ms\" to \"1h\"",
        ),
        (
            "shutdown_grace = \"1 month\"",
            "config.toml:1:18: shutdown_grace = \"1 month\" is not accepted; accepted: a time with its unit, such as \"30s\", \"5m\" or \"8h\", from \"0s\" to \"10m\"",
        ),
        (
            "[rotation]\ninterval = \"10ms\"",
            "config.toml:2:12: rotation.interval = \"10ms\" is not accepted; accepted: 0 for off, or a time with its unit, such as \"30s\", \"5m\" or \"8h\", from \"1s\" to \"365d\"",
        ),
        (
            "port_range = \"15531-15432\"",
            "config.toml:1:14: port_range = \"15531-15432\" is not accepted; accepted: two ports from 1024 to 65535, the lower first, such as \"15432-15531\"",
        ),
        (
            "port_range = \"80-90\"",
            "config.toml:1:14: port_range = \"80-90\" is not accepted; accepted: two ports from 1024 to 65535, the lower first, such as \"15432-15531\"",
        ),
        (
            "max_connections = 0",
            "config.toml:1:19: max_connections = 0 is not accepted; accepted: a whole number from 1 to 65535",
        ),
        (
            "warm_connections = \"one\"",
            "config.toml:1:20: warm_connections = \"one\" is not accepted; accepted: a whole number from 0 to 32",
        ),
        (
            "upstream_tls = \"verify-full\"",
            "config.toml:1:16: upstream_tls = \"verify-full\" is not accepted; accepted: \"prefer\", \"require\", \"disable\", \"verify-ca\"",
        ),
        (
            "upstream_tls = \"verify-ca\"",
            "config.toml:1:16: upstream_tls = \"verify-ca\" needs upstream_ca beside it; accepted: the path of a PEM file, such as \"/path/ca.pem\"",
        ),
        (
            "upstream_ca = \"/path/ca.pem\"",
            "config.toml:1:15: upstream_ca is used with upstream_tls = \"verify-ca\" only; set that, or remove upstream_ca",
        ),
        (
            "upstream_tls = \"verify-ca\"\nupstream_ca = \"/nonexistent/ca.pem\"",
            "config.toml:2:15: upstream_ca = \"/nonexistent/ca.pem\" doesn't exist; accepted: the path of a PEM file, such as \"/path/ca.pem\"",
        ),
        (
            "metrics_listen = \"0.0.0.0:9187\"",
            "config.toml:1:18: metrics_listen = \"0.0.0.0:9187\" is not accepted; accepted: a loopback address with a port, such as \"127.0.0.1:9187\" or \"[::1]:9187\"",
        ),
        (
            "token_command = \" \"",
            "config.toml:1:17: token_command = \" \" is not accepted; accepted: a shell command, such as \"heroku auth:token\"",
        ),
        (
            "rotation = \"8h\"",
            "config.toml:1:12: rotation = \"8h\" is not accepted; accepted: a table headed [rotation]",
        ),
        (
            "[session]\ntarget = \"sushi\"",
            "config.toml:1:1: session = [session] is not accepted; accepted: tables headed [[session]]",
        ),
        (
            "max_connections = 1\n[[session]]\naccess = \"read-write\"",
            "config.toml:2:1: session.target is missing; accepted: an app, an add-on or both, such as \"sushi\", \"borealis-pg-hex-12345\" or \"sushi::BOREALIS_PG_MAROON\"",
        ),
        (
            "[[session]]\ntarget = \"sushi\"\naccess = \"write\"",
            "config.toml:3:10: session.access = \"write\" is not accepted; accepted: \"read-only\", \"read-write\"",
        ),
        (
            "[[session]]\ntarget = \"sushi\"\nname = \"Sushi\"",
            "config.toml:3:8: session.name = \"Sushi\" is not accepted; accepted: a name of a-z, 0-9, '.', '_' and '-' that begins with a letter or digit, at most 63 characters",
        ),
        (
            "[[session]]\ntarget = \"sushi\"\nport = 0",
            "config.toml:3:8: session.port = 0 is not accepted; accepted: a whole number from 1 to 65535",
        ),
        (
            "[[session]]\ntarget = \"sushi\"\nname = \"x\"\n[[session]]\ntarget = \"ramen\"\nname = \"x\"",
            "config.toml:6:8: this [[session]] is called \"x\", as the one for sushi above; accepted: a name of its own for each",
        ),
        (
            "[[session]]\ntarget = \"sushi\"\nport = 5433\n[[session]]\ntarget = \"ramen\"\nport = 5433",
            "config.toml:6:8: session.port = 5433 is the port of the [[session]] for sushi already; accepted: a port of its own for each, or none to have one picked",
        ),
        (
            "[[session]]\ntarget = \"sushi\"\n[[session]]\ntarget = \"sushi\"",
            "config.toml:4:10: this [[session]] is called \"sushi\", as the one for sushi above; accepted: a name of its own for each",
        ),
        (
            "[[session]]\ntarget = \"sushi\"\naccess = \"read-write\"\n[[session]]\ntarget = \"ramen\"\nname = \"sushi-rw\"",
            "config.toml:6:8: this [[session]] is called \"sushi-rw\", as the one for sushi above; accepted: a name of its own for each",
        ),
        (
            "[[session]]\ntarget = \"ramen\"\nname = \"sushi-rw\"\n[[session]]\ntarget = \"sushi\"\naccess = \"read-write\"",
            "config.toml:5:10: this [[session]] is called \"sushi-rw\", as the one for ramen above; accepted: a name of its own for each",
        ),
        (
            "connect_timeout = \"30s\"\nconnect_timeout = \"40s\"",
            "config.toml:2:1: this is not valid TOML: duplicate key",
        ),
        (
            "port_range = \n",
            "config.toml:1:14: this is not valid TOML: string values must be quoted, expected literal string",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected, "\n{text}");
    }
}

#[test]
fn what_can_not_be_read_is_an_error_and_no_default() {
    let dir = tempfile::tempdir().unwrap();
    let error = Config::load(dir.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} is a directory, and no regular file",
            dir.path().display()
        )
    );
    let file = dir.path().join("config.toml");
    fs::write(&file, b"max_connections = 1\n# \xff\n").unwrap();
    let error = Config::load(&file).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}:2:3: this is not UTF-8 text", file.display())
    );
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in ".*") {
        let _ = parse(&text);
    }

    #[test]
    fn no_value_breaks_a_key(key in "(port_range|connect_timeout|metrics_listen|rotation|session)", value in ".*") {
        let _ = parse(&format!("{key} = {value:?}"));
        let _ = parse(&format!("{key} = {value}"));
    }

    #[test]
    fn every_range_is_read_back(low in 1024u16.., high in 1024u16..) {
        let text = format!("port_range = \"{low}-{high}\"");
        let expected = PortRange::new(low, high);
        prop_assert_eq!(parse(&text).ok().map(|c| c.port_range), expected);
    }
}
