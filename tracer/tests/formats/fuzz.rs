//! Runs the fuzz targets on their seeds and on all past findings.

use std::{fs, path::Path};

#[expect(unreachable_pub, reason = "the module is a library in tracer/fuzz")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use targets::{TARGETS, Target};

/// The directory of `cargo xtask fuzz`'s findings, with a subdirectory for each target.
const FOUND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/regressions");

#[test]
fn fuzz_targets_pass_on_their_seeds() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        seeds.iter().for_each(|seed| (target.run)(seed));
    }
}

#[test]
fn fuzz_targets_pass_on_past_findings() {
    for folder in fs::read_dir(FOUND).unwrap() {
        let folder = folder.unwrap().path();
        let target = TARGETS.iter().find(|target| folder.ends_with(target.name));
        let target = target.unwrap_or_else(|| panic!("{} belongs to no target", folder.display()));
        for input in fs::read_dir(&folder).unwrap() {
            replay(target, &input.unwrap().path());
        }
    }
}

fn replay(target: &Target, input: &Path) {
    // Shown if the test fails.
    println!("{} over {}", target.name, input.display());
    (target.run)(&fs::read(input).unwrap());
}
