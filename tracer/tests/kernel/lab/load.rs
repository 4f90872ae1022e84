//! Connections between threads that have a CPU each.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use super::{Namespace, accept};

/// Clients that connect to servers, which close first.
pub(crate) struct Load<'a> {
    /// The CPUs of the clients, which take turns.
    pub(crate) clients: &'a [usize],
    /// The CPUs of the servers.
    pub(crate) servers: &'a [usize],
    /// Number of clients, and of servers: each is a thread.
    pub(crate) width: usize,
    /// Number of connections of each.
    pub(crate) each: usize,
}

impl Load<'_> {
    pub(crate) fn connections(&self) -> usize {
        self.width * self.each
    }

    /// Makes the connections from a namespace to a listener in any namespace.
    pub(crate) fn run(&self, from: &Namespace, listener: &TcpListener, at: SocketAddr) {
        let serve = |cpu| {
            pin(cpu);
            (0..self.each).for_each(|_| drop(accept(listener)));
        };
        let call = |cpu| {
            pin(cpu);
            from.within(|| {
                for _ in 0..self.each {
                    let mut client = TcpStream::connect(at).expect("a connection");
                    assert_eq!(client.read(&mut [0]).expect("the end"), 0);
                }
            });
        };
        let (serve, call) = (&serve, &call);
        thread::scope(|scope| {
            for (&client, &server) in
                self.clients.iter().cycle().zip(self.servers.iter().cycle()).take(self.width)
            {
                scope.spawn(move || serve(server));
                scope.spawn(move || call(client));
            }
        });
    }
}

/// The CPUs that this process may use, up to 16.
pub(crate) fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("its CPUs");
    (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).expect("a CPU")).take(16).collect()
}

/// Pins the calling thread to a CPU.
fn pin(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("permission to pin a thread");
}
