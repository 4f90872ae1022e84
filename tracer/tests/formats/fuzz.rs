//! The fuzz targets, over their seeds and over every input that once made one of them fail.

use std::{fs, path::Path};

#[expect(unreachable_pub, reason = "elsewhere it is a library")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use targets::{TARGETS, Target};

/// Where `cargo xtask fuzz` keeps what it finds: a folder for each target.
const FOUND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/regressions");

#[test]
fn fuzz_targets_pass_on_their_seeds() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} begins with nothing", target.name);
        seeds.iter().for_each(|seed| (target.run)(seed));
    }
}

#[test]
fn fuzz_targets_pass_on_past_findings() {
    for folder in fs::read_dir(FOUND).unwrap() {
        let folder = folder.unwrap().path();
        let target = TARGETS.iter().find(|target| folder.ends_with(target.name));
        let target = target.unwrap_or_else(|| panic!("{} is of no target", folder.display()));
        for input in fs::read_dir(&folder).unwrap() {
            replay(target, &input.unwrap().path());
        }
    }
}

fn replay(target: &Target, input: &Path) {
    // Visibility if it fails.
    println!("{} over {}", target.name, input.display());
    (target.run)(&fs::read(input).unwrap());
}
