//! Imports point down only, and no files import each other in a circle: reads the crate's files
//! and says which don't.
#![allow(
    clippy::unwrap_used,
    reason = "a test that can't read the code has failed"
)]

mod circle;
mod source;

use std::{collections::BTreeMap, path::Path};

use source::Source;

/// Modules by row, from the ground up; a module may use those of lower rows.
const ROWS: &[&[&str]] = &[
    &["model"],
    &["log", "platform"],
    &["service_manager"],
    &["journal"],
    &["ssh", "postgres", "provider", "state", "config"],
    &["credential"],
    &["tunnels"],
    &["proxy"],
    &["session"],
    &["supervisor", "admin"],
    &["reload", "metrics", "notifications", "doctor", "watchdog"],
    &["control"],
    &["app"],
];

/// Of lower rows, all that these may use.
const USES: &[(&str, &[&str])] = &[
    ("admin", &["credential", "provider", "platform", "model"]),
    (
        "tunnels",
        &["ssh", "credential", "platform", "journal", "model"],
    ),
];

/// Crates that only one module may name.
const ONLY: &[(&str, &str)] = &[
    ("axum", "metrics"),
    ("russh", "ssh"),
    ("reqwest", "provider"),
    ("secret_service", "credential"),
    ("tonic", "control"),
    ("zbus", "notifications"),
];

fn source() -> Source {
    Source::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// The top module that a file belongs to.
fn module(file: &Path) -> &str {
    let first = file.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs")
}

fn row(module: &str) -> usize {
    ROWS.iter()
        .position(|row| row.contains(&module))
        .unwrap_or_else(|| panic!("{module} has no row yet"))
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (file, used) in source().edges() {
        let own = module(&file);
        if own == "lib" {
            continue;
        }
        let allowed = USES.iter().find(|(name, _)| *name == own);
        for (other, names) in used {
            let target = module(&other);
            let may = target == own
                || row(target) < row(own) && allowed.is_none_or(|(_, of)| of.contains(&target));
            if !may {
                wrong.push(format!(
                    "{} uses {names:?} of {}",
                    file.display(),
                    other.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_has_a_row() {
    for file in source().files() {
        if module(file) != "lib" {
            row(module(file));
        }
    }
}

#[test]
fn some_crates_are_one_modules_own() {
    let only: BTreeMap<_, _> = ONLY.iter().copied().collect();
    let mut wrong = Vec::new();
    for (file, named) in source().crates() {
        if let Some(owner) = only.get(named)
            && module(file) != *owner
        {
            wrong.push(format!(
                "{} names {named}, which is {owner}'s",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let told = circle::all(&source().edges());
    assert!(told.is_empty(), "\n{}", told.join("\n\n"));
}

#[test]
fn the_reader_sees_past_tests_and_through_what_is_passed_on() {
    let files = BTreeMap::from([
        ("lib.rs", "mod a; mod b;"),
        (
            "a/mod.rs",
            "mod deep; pub use deep::{Deep, Deeper as Far}; pub struct A;
             #[cfg(test)] mod tests { use crate::b::hidden; }
             fn later() { crate::b::seen(); macro_of!(x, crate::b::C::new()) }",
        ),
        (
            "a/deep.rs",
            "use super::A; pub struct Deep; pub struct Deeper(A);",
        ),
        (
            "b.rs",
            "use crate::a::{self, Far}; fn seen(d: a::Deep, f: Far) {} struct C;
             fn hidden() { russh::y(); let b = 1; }",
        ),
    ]);
    let source =
        Source::from_files(&|file| files.get(file.to_str().unwrap()).map(ToString::to_string));
    let edges = source.edges();
    let used = |file: &str, other: &str| {
        let names = edges
            .get(Path::new(file))
            .and_then(|used| used.get(Path::new(other)));
        let names = names.into_iter().flatten();
        names.map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(used("a/mod.rs", "b.rs"), "crate::b::C::new crate::b::seen");
    // What is passed on is used by who takes it, of the file that defines it.
    assert_eq!(used("a/mod.rs", "a/deep.rs"), "");
    assert_eq!(used("a/deep.rs", "a/mod.rs"), "A super::A");
    assert_eq!(used("b.rs", "a/deep.rs"), "Far a::Deep crate::a::Far");
    assert_eq!(used("b.rs", "a/mod.rs"), "");
    assert!(source.crates().contains(&(Path::new("b.rs"), "russh")));
    // a/mod.rs → b.rs → a/deep.rs → a/mod.rs
    assert_eq!(circle::all(&edges).len(), 1);
}
