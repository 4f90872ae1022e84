//! Writes the seeds of each target into a subdirectory of the given directory.

use std::{env, fs, io, path::Path};

// The instrumented code calls into it.
use libfuzzer_sys as _;
use synfin_fuzz::TARGETS;

fn main() -> io::Result<()> {
    let corpus =
        env::args_os().nth(1).ok_or_else(|| io::Error::other("missing argument: DIRECTORY"))?;
    for target in TARGETS {
        let directory = Path::new(&corpus).join(target.name);
        fs::create_dir_all(&directory)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(directory.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
