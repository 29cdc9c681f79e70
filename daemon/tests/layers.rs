//! Imports point down only: reads them and says which don't.
#![allow(
    clippy::unwrap_used,
    reason = "a test that can't read the code has failed"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Modules by row, from the ground up; a module may use those of lower rows.
const ROWS: &[&[&str]] = &[
    &["model", "log"],
    &["platform"],
    &["service_manager"],
    &["journal"],
    &["ssh", "postgres", "provider", "state", "config"],
    &["credential"],
    &["tunnels"],
    &["proxy"],
    &["session"],
    &["supervisor", "admin"],
    &["reload", "metrics", "doctor", "watchdog"],
    &["control"],
    &["app"],
];

/// Crates that only one module may name.
const ONLY: &[(&str, &str)] = &[
    ("axum", "metrics"),
    ("russh", "ssh"),
    ("reqwest", "provider"),
    ("secret_service", "credential"),
    ("tonic", "control"),
];

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code before a file's tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end].to_owned()
}

/// The modules that follow `crate::`, also within braces.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            // One level is enough: what stands deeper belongs to a module named here.
            Some(list) => {
                let mut depth = 0;
                let end = list
                    .find(|c| {
                        depth += i32::from(c == '{') - i32::from(c == '}');
                        depth < 0
                    })
                    .unwrap_or(list.len());
                let mut depth = 0;
                list[..end]
                    .split(|c| {
                        depth += i32::from(c == '{') - i32::from(c == '}');
                        c == ',' && depth == 0
                    })
                    .collect()
            }
            None => vec![rest],
        };
        for name in names {
            let name: String = name
                .trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            found.push(name);
        }
    }
    found
}

#[test]
fn imports_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let module = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_string_lossy();
        let module = module.trim_end_matches(".rs").to_owned();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let own = row(&module).unwrap_or_else(|| panic!("{module} has no row yet"));
        let code = code(&file);
        for import in imports(&code) {
            if import == module {
                continue;
            }
            // What is no module is an item of the crate's root.
            if row(&import).is_some_and(|row| row >= own) {
                wrong.push(format!("{} uses {import}", inside.display()));
            }
        }
        for (name, only) in ONLY {
            let named =
                code.contains(&format!("{name}::")) || code.contains(&format!("use {name}"));
            if named && module != *only {
                wrong.push(format!(
                    "{} names {name}, which is {only}'s",
                    inside.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_reader_of_imports_reads_them() {
    let code = "use crate::{a::{b, c}, d, e::f};\nlet x = crate::g::h();";
    assert_eq!(imports(code), ["a", "d", "e", "g"]);
}
