//! Hosts with missing or broken features, simulated for one process and its mounts.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use super::{PROGRAM, synfin::Finished};
use crate::lab::Synfin;

/// The kernel's BTF.
pub(crate) const BTF: &str = "/sys/kernel/btf/vmlinux";

/// A host with simulated faults.
pub(crate) struct Broken {
    /// The shell commands that cause the faults, within a mount namespace of their own.
    script: String,
    /// The command that runs the program.
    prefix: Vec<String>,
    folder: TempDir,
}

impl Broken {
    /// A host without faults.
    pub(crate) fn not() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        Self { script: String::new(), prefix: Vec::new(), folder }
    }

    /// Root lacks these capabilities (names without `cap_`).
    pub(crate) fn without_capabilities(mut self, names: &[&str]) -> Self {
        let dropped: Vec<_> = names.iter().map(|name| format!("-{name}")).collect();
        self.prefix = vec!["setpriv".into(), format!("--bounding-set={}", dropped.join(","))];
        self
    }

    /// synfin runs as an unprivileged user.
    pub(crate) fn for_nobody(mut self) -> Self {
        let words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        self.prefix = words.map(str::to_owned).into();
        self
    }

    /// synfin runs as root of a user namespace only.
    pub(crate) fn in_a_user_namespace(mut self) -> Self {
        self.prefix = ["unshare", "--user", "--map-root-user"].map(str::to_owned).into();
        self
    }

    /// synfin runs in its own PID namespace.
    pub(crate) fn in_a_pid_namespace(mut self) -> Self {
        self.prefix = ["unshare", "--pid", "--fork", "--mount-proc"].map(str::to_owned).into();
        self
    }

    /// Adds a shell command that causes a fault.
    pub(crate) fn by(mut self, command: &str) -> Self {
        self.script += command;
        self.script.push('\n');
        self
    }

    /// The kernel's BTF is hidden.
    pub(crate) fn without_btf(self) -> Self {
        self.by("mount -t tmpfs none /sys/kernel/btf")
    }

    /// The kernel's BTF is replaced.
    pub(crate) fn with_btf(self, types: &[u8]) -> Self {
        let folder = self.folder.path().join("btf");
        fs::create_dir(&folder).expect("a directory");
        fs::write(folder.join("vmlinux"), types).expect("a file");
        self.by(&format!("mount --bind {} /sys/kernel/btf", folder.display()))
    }

    /// These two names are swapped in the kernel's BTF.
    pub(crate) fn with_swapped_names(self, one: &str, other: &str) -> Self {
        assert_eq!(one.len(), other.len());
        let mut types = fs::read(BTF).expect("the kernel's type information");
        let places = |name: &str| -> Vec<_> {
            let needle = [b"\0", name.as_bytes(), b"\0"].concat();
            let found =
                types.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
            found.map(|(at, _)| at + 1).collect()
        };
        let (ones, others) = (places(one), places(other));
        assert!(!ones.is_empty(), "this kernel has no {one}");
        for (places, name) in [(ones, other), (others, one)] {
            for at in places {
                types[at..at + name.len()].copy_from_slice(name.as_bytes());
            }
        }
        self.with_btf(&types)
    }

    /// The kernel reports this lockdown state.
    pub(crate) fn with_lockdown(self, text: &str) -> Self {
        self.by(&format!(
            "mount -t tmpfs none /sys/kernel/security\necho '{text}' > /sys/kernel/security/lockdown"
        ))
    }

    /// The path of a file in a directory of its own.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("a UTF-8 path").to_owned()
    }

    /// A command that runs synfin there.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        // In a directory where every user may run it.
        let program = self.folder.path().join("synfin");
        if !program.exists() {
            fs::copy(PROGRAM, &program).expect("a copy of the program");
        }
        open_for_all(self.folder.path());
        let mut command = Command::new("unshare");
        let script = format!("set -e\n{}exec \"$@\"", self.script);
        command.args(["--mount", "sh", "-c", &script, "sh"]).args(&self.prefix);
        command.arg(program).args(args);
        command
    }

    /// Runs synfin there.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        Synfin::run_command(&mut self.command(args))
    }
}

fn open_for_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("its permissions");
}
