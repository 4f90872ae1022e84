//! Scans of a large number of TIME_WAITs compared with `ss`, and scans of many namespaces.

use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use synfin::trace::recording::Frame;

use crate::{
    load::{Carried, Load},
    median, replay,
    tracer::Synfin,
    usage,
};

/// More than needed: some connections reuse the endpoints of another's TIME_WAIT.
const CONNECTIONS: u64 = 360_000;
const ROUNDS: usize = 5;

const NAMESPACES: usize = 60;
const WATCHED: Duration = Duration::from_mins(1);

/// The maximum time between ticks in nanoseconds, unless one is delayed.
const TICK_PERIOD: u64 = 250_000_000;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Scans {
    /// Number of sockets that `ss` listed.
    pub(crate) time_waits: u64,
    ss: Vec<f64>,
    scan: Vec<f64>,
    /// Delay of the latest tick in nanoseconds, during continuous scans beside a load.
    latest_tick: u64,
    /// CPU seconds of all scans of many namespaces, and the duration of the measurement.
    namespaces: (f64, f64),
}

pub(crate) fn measure(synfin: &Synfin) -> Result<Scans> {
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().context("the path of a temporary file is not UTF-8")?;
    let mut load =
        Load::Short { connections: CONNECTIONS, ms: u64::MAX, carrying: Carried::Reply }.start()?;
    load.done()?;
    let (mut ss, mut scan, mut time_waits) = (Vec::new(), Vec::new(), u64::MAX);
    for _ in 0..ROUNDS {
        let (seconds, sockets) = list(load.pid())?;
        ss.push(seconds);
        time_waits = time_waits.min(sockets);
        synfin.run(&["report", "--once", "-o", "json", "--record", path, "--force"])?;
        scan.push(longest_scan(file.path())?);
    }
    let latest_tick = latest_tick(synfin, file.path())?;
    load.end()?;
    Ok(Scans { time_waits, ss, scan, latest_tick, namespaces: namespaces(synfin)? })
}

/// The duration of `ss` in seconds, and the number of sockets that it lists.
fn list(pid: u32) -> Result<(f64, u64)> {
    let begun = Instant::now();
    let output = Command::new("nsenter")
        .arg(format!("--net=/proc/{pid}/ns/net"))
        .args(["ss", "-Htan", "state", "time-wait"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run nsenter and ss")?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(output.status.success(), "ss failed ({})", output.status);
    Ok((seconds, output.stdout.iter().filter(|&&byte| byte == b'\n').count() as u64))
}

fn longest_scan(recording: &Path) -> Result<f64> {
    let scans = replay::read(recording)?.into_iter().filter_map(|frame| match frame {
        Frame::ScanEnd(end) => Some((end.ended - end.started) as f64 / 1e9),
        _ => None,
    });
    scans.max_by(f64::total_cmp).context("nothing was scanned")
}

/// The maximum delay of a tick, during continuous scans of all these sockets beside a new load.
fn latest_tick(synfin: &Synfin, recording: &Path) -> Result<u64> {
    let path = recording.to_str().context("the path of a temporary file is not UTF-8")?;
    let tracer = synfin.watch(&["record", "--force", path, "--scan-always"])?;
    Load::Short { connections: u64::MAX, ms: 5_000, carrying: Carried::Reply }.run()?;
    tracer.finish()?;
    let frames = replay::read(recording)?;
    let ticks: Vec<_> = frames
        .iter()
        .filter_map(|frame| match frame {
            Frame::Tick(tick) => Some(tick.time),
            _ => None,
        })
        .collect();
    let gaps = ticks.windows(2).map(|pair| (pair[1] - pair[0]).saturating_sub(TICK_PERIOD));
    gaps.max().context("no ticks")
}

fn namespaces(synfin: &Synfin) -> Result<(f64, f64)> {
    let load =
        Load::Namespaces { count: NAMESPACES, ms: (WATCHED * 2).as_millis() as u64 }.start()?;
    thread::sleep(Duration::from_secs(2));
    let tracer = synfin.watch(&["report", "1", "-o", "json"])?;
    let (begun, before) = (Instant::now(), usage::of_threads(tracer.pid(), "synfin-scan")?);
    thread::sleep(WATCHED);
    let spent = usage::of_threads(tracer.pid(), "synfin-scan")? - before;
    let time = begun.elapsed().as_secs_f64();
    tracer.finish()?;
    load.end()?;
    Ok((spent, time))
}

impl Scans {
    pub(crate) fn of_ss(&self) -> f64 {
        median(self.scan.iter().zip(&self.ss).map(|(scan, ss)| scan / ss))
    }

    pub(crate) fn scan_ms(&self) -> f64 {
        median(self.scan.iter().map(|seconds| seconds * 1e3))
    }

    pub(crate) fn ss_ms(&self) -> f64 {
        median(self.ss.iter().map(|seconds| seconds * 1e3))
    }

    pub(crate) fn latest_tick_ms(&self) -> f64 {
        self.latest_tick as f64 / 1e6
    }

    pub(crate) fn share_of_core(&self) -> f64 {
        self.namespaces.0 / self.namespaces.1
    }
}
