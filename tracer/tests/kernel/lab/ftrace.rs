//! ftrace, in an instance of its own.

use std::{fs, path::PathBuf};

use super::unique_name;

/// An instance of ftrace, which is removed on drop.
pub(super) struct Instance(PathBuf);

impl Instance {
    pub(super) fn new() -> Self {
        let folder = PathBuf::from("/sys/kernel/tracing/instances").join(unique_name());
        fs::create_dir(&folder).expect("a tracefs instance in /sys/kernel/tracing");
        Self(folder)
    }

    pub(super) fn set(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// The trace, one event per line.
    pub(super) fn trace(&self) -> String {
        fs::read_to_string(self.0.join("trace")).expect("the trace")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The directory of an instance can be removed with its contents.
        let _ = fs::remove_dir(&self.0);
    }
}
