//! Measures synfin's overhead and limits beside other tracers under the same load, and writes
//! `docs/performance.md`. `cargo xtask bench` builds it and runs it as root.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "a benchmark with a wrong number fails"
)]

mod beyond;
mod burst;
mod cost;
mod floor;
mod host;
mod interrupts;
mod load;
mod memory;
mod page;
mod programs;
mod rate;
mod replay;
mod results;
mod scan;
mod start;
mod synthetic;
mod tracer;
mod usage;
mod wire;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;
use results::Results;
use tracer::Synfin;

#[derive(clap::Parser)]
enum Command {
    /// Measure, and store the results with those of other parts of the same program
    Measure {
        /// Program to measure
        #[arg(long)]
        synfin: PathBuf,
        /// File that stores the results
        #[arg(long)]
        results: PathBuf,
        /// Page to write once all parts are measured
        #[arg(long)]
        page: PathBuf,
        /// Parts to measure; by default all
        parts: Vec<Part>,
    },
    /// Run as the load
    #[command(subcommand, name = load::COMMAND)]
    Load(load::Load),
}

/// A part that can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Cost,
    Interrupts,
    Synthetic,
    Rate,
    Burst,
    Replay,
    Open,
    Soak,
    Scan,
    Start,
}

fn main() -> ExitCode {
    // `cargo test --benches` runs every bench; a test run measures nothing.
    if std::env::args().any(|arg| arg == "--test") {
        return ExitCode::SUCCESS;
    }
    // Cargo adds an argument.
    let args = std::env::args_os().filter(|arg| arg != "--bench");
    let result = match Command::parse_from(args) {
        Command::Load(load) => load.play(),
        Command::Measure { synfin, results, page, parts } => {
            measure(&Synfin(synfin), &results, &page, &parts)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot measure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(synfin: &Synfin, kept: &Path, page: &Path, parts: &[Part]) -> Result<()> {
    let mut results = Results::kept(kept, synfin)?;
    let all = <Part as clap::ValueEnum>::value_variants();
    for part in if parts.is_empty() { all } else { parts } {
        println!("measuring: {part:?}");
        match part {
            Part::Cost => results.cost = Some(cost::measure(synfin)?),
            Part::Interrupts => results.interrupts = Some(interrupts::measure(synfin)?),
            Part::Synthetic => results.synthetic = Some(synthetic::measure()?),
            Part::Rate => results.rate = Some(rate::measure(synfin)?),
            Part::Burst => results.burst = Some(burst::measure(synfin)?),
            Part::Replay => results.replay = Some(replay::measure(synfin)?),
            Part::Open => results.open = Some(memory::open(synfin)?),
            Part::Soak => results.soak = Some(memory::soak(synfin)?),
            Part::Scan => results.scans = Some(scan::measure(synfin)?),
            Part::Start => results.start = Some(start::measure(synfin)?),
        }
        results.keep(kept)?;
        for goal in page::goals(&results) {
            println!("{goal}");
        }
    }
    match page::write(&results) {
        Some(text) => {
            std::fs::write(page, text)?;
            println!("wrote {}", page.display());
        }
        None => println!("the page is written once all parts of this program are measured"),
    }
    Ok(())
}

/// The median.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
