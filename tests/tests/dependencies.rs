//! What deny.toml says of dependencies, held without cargo-deny, whose installation would take CI
//! longer than all its other checks: licences, crates that are banned, where crates come from, and
//! that no more crates come in two versions. Advisories need their database of the day: `make lint`
//! asks for them where cargo-deny is installed.
#![allow(
    clippy::unwrap_used,
    reason = "a test that can't read what it judges has failed"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;
use spdx::{Expression, ParseMode};

/// Crates that come in more than one version. Look through them (`cargo tree --duplicates`) before
/// raising this.
const DUPLICATES: usize = 15;
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A crate that is built or tested with.
struct Package {
    name: String,
    version: String,
    licence: String,
    source: Option<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// deny.toml.
fn rules() -> toml::Table {
    let text = fs::read_to_string(root().join("deny.toml")).unwrap();
    text.parse().unwrap()
}

fn texts(list: &toml::Value) -> BTreeSet<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// What is in the graph for this machine. All that it asks for has been fetched by the build.
fn packages() -> Vec<Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .current_dir(root())
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let version = run("rustc", &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let asked = ["metadata", "--format-version=1", "--locked", "--offline"];
    let metadata = run(
        &cargo,
        &[&asked[..], &["--filter-platform", host.unwrap()]].concat(),
    );
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes = list(&metadata["resolve"]["nodes"]);
    let used: BTreeSet<_> = nodes.iter().map(|node| text(&node["id"])).collect();
    let all = list(&metadata["packages"]).into_iter();
    all.filter(|package| used.contains(&text(&package["id"])))
        .map(|package| Package {
            name: text(&package["name"]),
            version: text(&package["version"]),
            licence: text(&package["license"]),
            source: package["source"].as_str().map(str::to_owned),
        })
        .collect()
}

#[test]
fn licences_allow_to_pass_the_binaries_on() {
    let rules = rules();
    let licences = &rules["licenses"];
    let allowed = texts(&licences["allow"]);
    let exceptions: BTreeMap<_, _> = licences["exceptions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|exception| {
            (
                exception["crate"].as_str().unwrap(),
                texts(&exception["allow"]),
            )
        })
        .collect();
    let mut wrong = Vec::new();
    for package in packages() {
        // Ours.
        if package.source.is_none() {
            continue;
        }
        let own = exceptions.get(package.name.as_str());
        let may = |licence: &str| {
            allowed.contains(licence) || own.is_some_and(|own| own.contains(licence))
        };
        let fits = Expression::parse_mode(&package.licence, ParseMode::LAX)
            .is_ok_and(|asks| asks.evaluate(|asked| may(&asked.to_string())));
        if !fits {
            wrong.push(format!(
                "{} {}: {:?}",
                package.name, package.version, package.licence
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_banned_crate_is_used() {
    let rules = rules();
    let banned = rules["bans"]["deny"].as_array().unwrap().iter();
    let banned: BTreeMap<_, _> = banned
        .map(|ban| {
            (
                ban["crate"].as_str().unwrap(),
                ban["reason"].as_str().unwrap(),
            )
        })
        .collect();
    for package in packages() {
        let reason = banned.get(package.name.as_str());
        assert!(reason.is_none(), "{}: {}", package.name, reason.unwrap());
    }
}

#[test]
fn all_come_from_the_registry() {
    for package in packages() {
        let source = package.source.as_deref();
        assert!(
            source.is_none_or(|source| source == REGISTRY),
            "{}: {source:?}",
            package.name
        );
    }
}

#[test]
fn no_more_crates_come_in_two_versions() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        versions
            .entry(package.name)
            .or_default()
            .insert(package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(
        versions.len() <= DUPLICATES,
        "{}: {versions:#?}",
        versions.len()
    );
}
