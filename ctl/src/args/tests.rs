use super::*;

fn parsed(words: &[&str]) -> Cli {
    Cli::try_parse_from([&["borealisctl"], words].concat()).unwrap()
}

fn run_args(words: &[&str]) -> RunArgs {
    match parsed(words).command {
        Command::Run(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definitions_are_sound() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}

fn refused(words: &[&str]) {
    let parsed = Cli::try_parse_from([&["borealisctl"], words].concat());
    assert_eq!(parsed.map(|_| ()).unwrap_err().exit_code(), 2, "{words:?}");
}

/// What scripts pass to `heroku borealis-pg:run` and `:psql`, in all of its spellings.
#[test]
fn flags_of_the_reference_mean_the_same() {
    let args = run_args(&["run", "--app", "sushi", "--db-cmd", "select 1"]);
    assert_eq!(args.target.app.as_deref(), Some("sushi"));
    assert_eq!(args.target.target, None);
    assert_eq!(args.db_cmd.as_deref(), Some("select 1"));
    assert!(!args.write_access && !args.personal_user);

    let args = run_args(&[
        "run",
        "-a",
        "sushi",
        "-o",
        "MAROON",
        "-u",
        "-w",
        "-p",
        "5433",
        "-e",
        "rake db:migrate",
    ]);
    assert_eq!(args.target.addon.as_deref(), Some("MAROON"));
    assert!(args.write_access && args.personal_user);
    assert_eq!(args.port, Some(5433));
    assert_eq!(args.shell_cmd.as_deref(), Some("rake db:migrate".as_ref()));

    let args = run_args(&[
        "run",
        "--addon=hex-1",
        "--db-cmd-file=./a.sql",
        "--personal-user",
        "--write-access",
        "--port=5433",
        "--format=csv",
    ]);
    assert_eq!(args.db_cmd_file.as_deref(), Some("./a.sql".as_ref()));
    let args = run_args(&["run", "-a", "sushi", "-i", "a.sql", "-f", "yaml"]);
    assert!(args.db_cmd_file.is_some());

    let Command::Psql(args) = parsed(&[
        "psql",
        "-a",
        "sushi",
        "-o",
        "M",
        "-w",
        "-p",
        "5433",
        "-b",
        "/opt/psql",
    ])
    .command
    else {
        panic!("not psql")
    };
    assert_eq!(args.binary_path.as_deref(), Some("/opt/psql".as_ref()));
    assert!(args.write_access && args.args.is_empty());
}

#[test]
fn global_flags_stand_on_either_side() {
    for words in [
        [
            "-f",
            "json",
            "--socket",
            "/s",
            "--no-color",
            "--quiet",
            "list",
        ],
        [
            "list",
            "-f",
            "json",
            "--socket",
            "/s",
            "--no-color",
            "--quiet",
        ],
    ] {
        let global = parsed(&words).global;
        assert_eq!(global.format, Format::Json);
        assert_eq!(global.socket.as_deref(), Some("/s".as_ref()));
        assert!(global.no_color && global.quiet);
    }
    assert!(matches!(parsed(&["ls"]).command, Command::List(_)));
}

#[test]
fn what_follows_the_dashes_is_the_commands_own() {
    let Command::Psql(args) = parsed(&["psql", "sushi", "--", "-c", "select 1"]).command else {
        panic!("not psql")
    };
    assert_eq!(args.target.target.as_deref(), Some("sushi"));
    assert_eq!(args.args, ["-c", "select 1"]);

    let args = run_args(&["run", "-a", "sushi", "--", "pg_dump", "-d", "x"]);
    assert_eq!(args.target.target, None);
    assert_eq!(args.command, ["pg_dump", "-d", "x"]);
}

#[test]
fn sql_and_commands_may_begin_with_a_dash() {
    let args = run_args(&["run", "sushi", "-d", "-- nothing\nselect 1"]);
    assert_eq!(args.db_cmd.as_deref(), Some("-- nothing\nselect 1"));
    assert_eq!(
        run_args(&["run", "sushi", "-d", ""]).db_cmd.as_deref(),
        Some("")
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    refused(&["run", "sushi", "-d", "x", "-e", "y"]);
    refused(&["run", "sushi", "-d", "x", "--", "y"]);
    refused(&["run", "sushi", "-i", "x", "--stdin"]);
    refused(&["open", "sushi", "--port", "0"]);
    refused(&["open", "sushi", "--port", "65536"]);
    refused(&["open", "sushi", "--for", "soon"]);
    refused(&["open", "sushi", "--for", "-5m"]);
    refused(&["open", "sushi", "--no-wait", "--timeout", "5s"]);
    refused(&["open", "sushi", "--role", "admin"]);
    refused(&["close", "sushi", "--all"]);
    refused(&["list", "-f", "xml"]);
    refused(&["completions"]);
    refused(&[]);
}

#[test]
fn durations() {
    for (text, seconds) in [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("0s", 0),
        ("1h 30m", 5400),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for text in ["", "5", "m", "-1s", "1.5x"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn every_command_has_examples() {
    use clap::CommandFactory as _;

    fn check(command: &clap::Command, before: &str) {
        for command in command.get_subcommands() {
            let name = format!("{before} {}", command.get_name());
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Examples:") && help.contains(&name), "{name}");
            check(command, &name);
        }
    }

    check(&Cli::command(), "borealisctl");
}

/// What scripts pass to the reference's add-on commands.
#[test]
fn flags_of_the_references_add_on_commands_mean_the_same() {
    use super::addons::{
        ExtensionsAction, IntegrationsAction, RestoreAction, UpgradeAction, UsersAction,
    };

    let spelled = |words: &[&str]| {
        let words = ["borealisctl"].iter().chain(words).map(OsString::from);
        Cli::try_parse_from(normalized(words)).unwrap().command
    };
    let Command::Extensions(args) =
        spelled(&["extensions:install", "-r", "-s", "-a", "sushi", "x"])
    else {
        panic!("not extensions")
    };
    let Some(ExtensionsAction::Install(args)) = args.action else {
        panic!("not install")
    };
    assert!(args.recursive && args.suppress_conflict);
    assert_eq!(args.target.target, None);
    assert_eq!(
        (args.target.app.as_deref(), args.extension.as_str()),
        (Some("sushi"), "x")
    );

    let words = [
        "extensions:remove",
        "--suppress-missing",
        "--confirm",
        "x",
        "--addon",
        "hex",
        "x",
    ];
    let Command::Extensions(args) = spelled(&words) else {
        panic!("not extensions")
    };
    let Some(ExtensionsAction::Remove(args)) = args.action else {
        panic!("not remove")
    };
    assert!(args.suppress_missing);
    assert_eq!(args.confirm.as_deref(), Some("x"));

    let Command::Users(args) = spelled(&["users:reset", "--app", "sushi"]) else {
        panic!("not users")
    };
    assert!(matches!(args.action, Some(UsersAction::Reset(_))));

    let words = [
        "integrations:register",
        "--app",
        "sushi",
        "--name",
        "n",
        "ssh-rsa",
        "AAAA",
        "me",
    ];
    let Command::Integrations(args) = spelled(&words) else {
        panic!("not integrations")
    };
    let Some(IntegrationsAction::Register(args)) = args.action else {
        panic!("not register")
    };
    assert_eq!(args.words, ["ssh-rsa", "AAAA", "me"]);

    let words = [
        "restore:execute",
        "--app",
        "sushi",
        "--addon",
        "SRC",
        "--as",
        "COPY",
        "-d",
        "ramen",
        "-n",
        "x2",
        "-t",
        "2023-02-24T18:42:00-08:00",
        "--wait",
    ];
    let Command::Restore(args) = spelled(&words) else {
        panic!("not restore")
    };
    let RestoreAction::Execute(args) = args.action else {
        panic!("not execute")
    };
    assert_eq!(args.attachment.as_deref(), Some("COPY"));
    assert_eq!(args.destination_app.as_deref(), Some("ramen"));
    assert_eq!(args.new_plan.as_deref(), Some("x2"));
    assert_eq!(
        args.restore_to_time.unwrap().to_string(),
        "2023-02-25T02:42:00Z"
    );
    assert!(args.wait);

    let Command::Upgrade(args) = spelled(&["upgrade:cancel", "-o", "hex"]) else {
        panic!("not upgrade")
    };
    assert!(matches!(args.action, UpgradeAction::Cancel(_)));
}
