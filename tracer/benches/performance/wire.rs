//! A load whose packets come by interrupt, as from a network card: between two namespaces that a veth pair
//! connects.

use std::{
    fs,
    io::Read as _,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    process::Command,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, CpuSet, sched_setaffinity, unshare},
    unistd::{Pid, gettid},
};
use serde::{Deserialize, Serialize};

/// What makes the interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
pub(crate) enum Link {
    /// Receive packet steering: another CPU than the sender's receives each packet.
    Rps,
    /// A token bucket filter: a timer sends the packets.
    Tbf,
}

impl Link {
    pub(crate) const ALL: [Self; 2] = [Self::Rps, Self::Tbf];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rps => "rps",
            Self::Tbf => "tbf",
        }
    }
}

/// Connections at a time.
const WIDTH: usize = 64;

pub(crate) const PORT: u16 = 7001;
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Makes connections until the deadline, and returns their number. The server closes first. Clients have one
/// CPU, servers another one.
pub(crate) fn connections(link: Link, deadline: Instant) -> Result<u64> {
    let cpus = thread::available_parallelism()?.get();
    let last = usize::from(cpus > 1);
    enter_namespace()?;
    let (send_tid, tid) = mpsc::channel();
    let (over, made) = (&AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| -> Result<()> {
        // Dropped by an error, so that the servers do not wait.
        let (send_linked, linked) = mpsc::channel::<()>();
        let servers = scope.spawn(move || -> Result<()> {
            enter_namespace()?;
            send_tid.send(gettid())?;
            linked.recv()?;
            set_up(link, FAR, last)?;
            let listener = TcpListener::bind((FAR, PORT))?;
            thread::scope(|scope| {
                (0..WIDTH).for_each(|_| drop(scope.spawn(|| serve(&listener, last, over))));
            });
            Ok(())
        });
        let far = tid.recv()?;
        run(&format!("ip link add wire type veth peer name wire netns {far}"))?;
        set_up(link, NEAR, 0)?;
        send_linked.send(())?;
        thread::scope(|scope| {
            (0..WIDTH).for_each(|_| drop(scope.spawn(|| call(deadline, &made))));
        });
        over.store(true, Ordering::Release);
        // One more connection for each server wakes it.
        for _ in 0..WIDTH {
            TcpStream::connect(SocketAddrV4::new(FAR, PORT))?;
        }
        servers.join().expect("the servers do not panic")
    })?;
    Ok(made.into_inner() + WIDTH as u64)
}

fn serve(listener: &TcpListener, cpu: usize, over: &AtomicBool) {
    let _ = pin(cpu);
    while !over.load(Ordering::Acquire) {
        drop(listener.accept());
    }
}

fn call(deadline: Instant, made: &AtomicU64) {
    let _ = pin(0);
    let mut connections = 0;
    while Instant::now() < deadline {
        // The servers may still be starting.
        if let Ok(mut stream) = TcpStream::connect(SocketAddrV4::new(FAR, PORT)) {
            let _ = stream.read(&mut [0]);
            connections += 1;
        }
    }
    made.fetch_add(connections, Ordering::Relaxed);
}

/// Pins the calling thread to a CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
}

/// Moves this thread to a network namespace of its own, with the files in /sys for its devices.
fn enter_namespace() -> Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("cannot create a network namespace: run this as root")?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    mount(NOTHING, "/sys", Some("sysfs"), MsFlags::empty(), NOTHING)?;
    Ok(fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "2000000")?)
}

fn set_up(link: Link, address: Ipv4Addr, cpu: usize) -> Result<()> {
    run(&format!("ip address add {address}/24 dev wire"))?;
    run("ip link set wire up")?;
    match link {
        Link::Rps => {
            let mask = format!("{:x}", 1_u64 << cpu);
            fs::write("/sys/class/net/wire/queues/rx-0/rps_cpus", mask).context("cannot set RPS")
        }
        Link::Tbf => run("tc qdisc add dev wire root tbf rate 40mbit burst 10k latency 50ms"),
    }
}

fn run(command: &str) -> Result<()> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let status = Command::new(program).args(words).status();
    if !status.with_context(|| format!("cannot run {program}"))?.success() {
        bail!("`{command}` failed");
    }
    Ok(())
}
