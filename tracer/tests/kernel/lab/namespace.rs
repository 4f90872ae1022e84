//! Network namespaces, and pairs of them with a veth link.

use std::{
    fs::{self, File},
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::MetadataExt,
    panic,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use super::{Counters, Sock, eventually};

/// A new network namespace, whose loopback is up. It is removed on drop, or when the test process
/// ends.
pub(crate) struct Namespace {
    /// A process in the namespace, which ends when its input ends.
    holder: Child,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let found = thread::scope(|scope| {
            let founder = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
                Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
            });
            founder.join().unwrap_or_else(|failure| panic::resume_unwind(failure))
        });
        let namespace = Self { holder: found.expect("cat, to hold the namespace") };
        namespace.run("ip link set lo up");
        namespace
    }

    /// Its inode number, by which the kernel and synfin identify it.
    pub(crate) fn id(&self) -> u64 {
        fs::metadata(self.path()).expect("the namespace's file").ino()
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Names it as `ip netns` does, until the result is dropped.
    pub(crate) fn name(&self, name: &str) -> Name {
        let folder = Path::new("/run/netns");
        fs::create_dir_all(folder).expect("the directory of names");
        let file = folder.join(name);
        fs::write(&file, "").expect("a file to mount on");
        let name = Name { file };
        let none = None::<&str>;
        mount(Some(self.path().as_str()), &name.file, none, MsFlags::MS_BIND, none)
            .expect("a bind mount");
        name
    }

    /// Makes a veth link to another namespace. Both ends are named `wire`, have these addresses, and
    /// carry packets.
    pub(crate) fn link_to(&self, other: &Self, [mine, others]: [&[String]; 2]) {
        let peer = other.holder.id();
        self.run(&format!("ip link add wire type veth peer name wire netns {peer}"));
        for (namespace, addresses) in [(self, mine), (other, others)] {
            for address in addresses {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                namespace.run(&format!("ip address add {address} dev wire {nodad}"));
            }
            namespace.run("ip link set wire up");
        }
        // Until a worker of the kernel has activated its queue, an end drops what it is to send.
        for namespace in [self, other] {
            eventually("the link is up", || {
                namespace.run("ip link show wire").contains(" state UP ").then_some(())
            });
        }
    }

    /// Runs this within the namespace. A socket stays in the namespace in which it is created.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter_and_work = || {
            let file = File::open(self.path()).expect("the namespace's file");
            setns(file, CloneFlags::CLONE_NEWNET).expect("permission to enter the namespace");
            work()
        };
        thread::scope(|scope| {
            // In a new thread, so that no other one changes its namespace.
            let worker = scope.spawn(enter_and_work);
            worker.join().unwrap_or_else(|failure| panic::resume_unwind(failure))
        })
    }

    /// Runs a command, without a shell, and returns what it printed.
    #[track_caller]
    pub(crate) fn run(&self, command: &str) -> String {
        self.run_with(command, "")
    }

    #[track_caller]
    fn run_with(&self, command: &str, input: &str) -> String {
        let mut words = command.split_whitespace();
        let mut program = Command::new(words.next().expect("a command"));
        program.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.within(|| program.spawn());
        let mut child = child.unwrap_or_else(|error| panic!("cannot run `{command}`: {error}"));
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("its input");
        drop(stdin);
        let output = child.wait_with_output().expect("its output");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{command}` failed: {errors}\n{input}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Writes `/proc/sys/net/NAME`.
    pub(crate) fn set(&self, name: &str, value: impl ToString + Sync) {
        let path = format!("/proc/sys/net/{name}");
        self.within(|| fs::write(&path, value.to_string()))
            .unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }

    /// Writes `/proc/sys/net/NAME` if the kernel has that setting.
    pub(crate) fn set_if_there(&self, name: &str, value: impl ToString + Sync) {
        if self.within(|| Path::new(&format!("/proc/sys/net/{name}")).exists()) {
            self.set(name, value);
        }
    }

    /// Lets one CPU process the packets that come over the `wire`, by interrupts from the CPU that sends
    /// them (receive packet steering).
    pub(crate) fn steer_packets(&self, cpu: usize) {
        const NOTHING: Option<&str> = None;
        self.within(|| {
            // sysfs shows the devices of the namespace in which it is mounted.
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
            mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)
                .and_then(|()| mount(NOTHING, "/sys", Some("sysfs"), MsFlags::empty(), NOTHING))
                .expect("sysfs");
            let mask = format!("{:x}", 1_u64 << cpu);
            fs::write("/sys/class/net/wire/queues/rx-0/rps_cpus", mask).expect("RPS");
        });
    }

    /// Filters incoming packets by a rule of nftables, with a name for [`Self::unfilter`].
    pub(crate) fn filter(&self, name: &str, rule: &str) {
        let table = format!(
            "table inet {name} {{\nchain input {{\ntype filter hook input priority 0\n{rule}\n}}\n}}\n"
        );
        self.run_with("nft -f -", &table);
    }

    /// Gives every incoming TCP segment for these ports to the transparent listener on another one
    /// (TPROXY), for new connections. Returns whether the kernel can.
    pub(crate) fn redirect(&self, ports: &[u16], to: u16) -> bool {
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        let rule = format!("tcp dport {{ {} }} tproxy ip to :{to} accept", ports.join(", "));
        let table = format!(
            "table inet proxy {{\nchain prerouting {{\ntype filter hook prerouting priority mangle\n\
             {rule}\n}}\n}}\n"
        );
        let nft = || {
            let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
            nft.stdin.take().expect("a pipe").write_all(table.as_bytes())?;
            nft.wait()
        };
        self.within(nft).expect("nft runs").success()
    }

    /// Removes a filter.
    pub(crate) fn unfilter(&self, name: &str) {
        self.run(&format!("nft delete table inet {name}"));
    }

    /// Waits until this number of packets has matched a filter, whose rule has a `counter`.
    #[track_caller]
    pub(crate) fn wait_for_filtered(&self, name: &str, packets: u64) {
        eventually(&format!("{packets} packets at the filter {name}"), || {
            let table = self.run(&format!("nft list table inet {name}"));
            let (_, counter) = table.split_once("counter packets ").expect("a counter");
            let (counted, _) = counter.split_once(' ').expect("a number");
            (counted.parse::<u64>().expect("a number") >= packets).then_some(())
        });
    }

    /// The kernel's counters and gauges for this namespace.
    pub(crate) fn counters(&self) -> Counters {
        self.within(Counters::read)
    }

    /// All TCP sockets, by `ss`.
    pub(crate) fn sockets(&self) -> Vec<Sock> {
        self.run("ss -Htano").lines().map(Sock::parse).collect()
    }

    /// Waits until no connection is closing, and no handshake waits for its last step.
    #[track_caller]
    pub(crate) fn wait_until_quiet(&self) {
        const MOVING: [&str; 4] = ["FIN-WAIT-1", "LAST-ACK", "CLOSING", "SYN-RECV"];
        eventually("no connection is closing", || {
            self.sockets()
                .iter()
                .all(|socket| !MOVING.contains(&socket.state.as_str()))
                .then_some(())
        });
    }
}

/// The ids of namespaces as a list for `-N`.
pub(crate) fn ids<'a>(namespaces: impl IntoIterator<Item = &'a Namespace>) -> String {
    let ids = namespaces.into_iter().map(|namespace| namespace.id().to_string());
    ids.collect::<Vec<_>>().join(",")
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It would end with its input; wait for its end.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A name of a namespace.
pub(crate) struct Name {
    file: PathBuf,
}

impl Drop for Name {
    fn drop(&mut self) {
        // Without a mount, only the file has to be removed.
        let _ = umount2(&self.file, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.file);
    }
}

/// Two namespaces and a veth link.
pub(crate) struct Wire {
    /// The namespace of the clients.
    pub(crate) near: Namespace,
    /// The namespace of the servers.
    pub(crate) far: Namespace,
}

impl Wire {
    /// The servers' addresses.
    pub(crate) const FAR4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
    pub(crate) const FAR6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2));
    /// The clients' addresses.
    pub(crate) const NEAR4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
    pub(crate) const NEAR6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));

    pub(crate) fn new() -> Self {
        let (near, far) = (Namespace::new(), Namespace::new());
        let [mine, others] = [(Self::NEAR4, Self::NEAR6), (Self::FAR4, Self::FAR6)]
            .map(|(v4, v6)| [format!("{v4}/24"), format!("{v6}/64")]);
        near.link_to(&far, [&mine, &others]);
        for namespace in [&near, &far] {
            // A late RST of reordered segments must not end a TIME_WAIT early.
            namespace.set("ipv4/tcp_rfc1337", 1);
        }
        // No rate limit for ICMP errors to rejected SYNs.
        far.set("ipv4/icmp_ratelimit", 0);
        far.set("ipv6/icmp/ratelimit", 0);
        Self { near, far }
    }

    pub(crate) fn both(&self) -> [&Namespace; 2] {
        [&self.near, &self.far]
    }

    #[track_caller]
    pub(crate) fn wait_until_quiet(&self) {
        self.both().into_iter().for_each(Namespace::wait_until_quiet);
    }
}
