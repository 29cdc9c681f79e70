//! Compiles the .proto files with protox, so that no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["account", "addons", "connections", "control", "diagnostics"]
        .map(|file| format!("borealis/control/v1/{file}.proto"));
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Their Debug is in src/redacted.rs: they hold secrets.
        .skip_debug([
            "borealis.control.v1.Secrets",
            "borealis.control.v1.LoginRequest",
        ])
        .compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed=borealis");
    Ok(())
}
