//! Texts as users see them, kept in files beside the tests. They are written only where
//! `BOREALIS_WRITE_TEXTS` is set, so that each change of one is somebody's decision.

use std::{env, fs, path::Path};

/// The test fails where the text isn't what the file has.
#[track_caller]
pub(crate) fn compare(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/parity")
        .join(file);
    if env::var_os("BOREALIS_WRITE_TEXTS").is_some() {
        fs::write(&path, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let differs = text
        .lines()
        .zip(expected.lines())
        .find(|(now, there)| now != there);
    assert!(
        text == expected,
        "{file} has another text, first at {differs:?}. Where the new one is better, run this \
         test again with BOREALIS_WRITE_TEXTS=1.\n--- there ---\n{expected}\n--- now ---\n{text}"
    );
}
