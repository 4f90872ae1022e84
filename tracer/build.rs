//! Passes the directory of the eBPF objects to the crate: the committed ones beside this file, or
//! `SYNFIN_EBPF_DIR`, which `cargo xtask run --fresh-ebpf` sets during work on the eBPF programs.

use std::{env, path::PathBuf};

const DIR: &str = "SYNFIN_EBPF_DIR";

fn main() {
    println!("cargo::rerun-if-env-changed={DIR}");
    if env::var_os("CARGO_FEATURE_LIVE").is_none() {
        // Only the feature `live` includes the objects.
        return;
    }
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    // `include_bytes!` resolves against the source file, so the path has to be absolute.
    let dir = package.join(env::var_os(DIR).unwrap_or_else(|| "ebpf".into()));
    for object in ["synfin.bpf.o", "floor.bpf.o", "producer.bpf.o"] {
        let path = dir.join(object);
        println!("cargo::rerun-if-changed={}", path.display());
        if !path.exists() {
            println!(
                "cargo::error={} is missing: build it with `cargo xtask ebpf`",
                path.display()
            );
        }
    }
    println!("cargo::rustc-env={DIR}={}", dir.display());
}
