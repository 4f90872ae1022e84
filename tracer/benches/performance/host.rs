//! The host and date of a measurement.

use std::{fs, thread};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use synfin::host::clock;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Host {
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cpus: usize,
    pub(crate) gibibytes: u64,
    pub(crate) date: String,
}

impl Host {
    pub(crate) fn this() -> Result<Self> {
        let field = |file: &str, name: &str| -> Result<String> {
            let text = fs::read_to_string(file)?;
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.split(':').nth(1));
            Ok(value.unwrap_or("unknown").trim().to_owned())
        };
        let kilobytes = field("/proc/meminfo", "MemTotal")?;
        let kilobytes: u64 = kilobytes.trim_end_matches(" kB").parse()?;
        let now = std::time::Duration::from_nanos(clock::realtime_ns());
        let date = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + now).to_string();
        Ok(Self {
            // Without the suffix that identifies the build of this machine's owner.
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .split('-')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned(),
            processor: field("/proc/cpuinfo", "model name")?,
            cpus: thread::available_parallelism()?.into(),
            gibibytes: (kilobytes + (1 << 19)) >> 20,
            date: date[..10].to_owned(),
        })
    }
}
