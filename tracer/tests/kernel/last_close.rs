//! Sockets whose last reference no process drops by close(): a message that nobody can read any more,
//! or a ring of io_uring. A thread of the kernel closes them then, and never owns them.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::BufReader,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, IntoRawFd},
    process,
};

use io_uring::{IoUring, opcode, squeue, types::Fd};
use serde_json::Value;
use socket2::{SockAddr, Socket};
use synfin::trace::{decode::decode, event::Input, recording::Reader};
use synfin_common::state::TcpState;

use crate::lab::{self, Pair, Synfin, Wire, accept};

/// The port of the first connection.
const FIRST_PORT: u16 = 9_600;

fn ring() -> IoUring {
    IoUring::new(2).expect("a ring of io_uring")
}

/// Whether the kernel refuses io_uring, as some are configured to do.
fn lacks_io_uring() -> bool {
    let refused = IoUring::new(2).err();
    if let Some(error) = &refused {
        lab::skip(&format!("io_uring is not available: {error}"));
    }
    refused.is_some()
}

/// Lets a worker of the ring process a request, and returns its result.
fn by_worker(ring: &mut IoUring, request: squeue::Entry) -> i32 {
    let request = request.flags(squeue::Flags::ASYNC);
    // SAFETY: what the request points to lives until its completion, for which this waits.
    unsafe { ring.submission().push(&request) }.expect("room for a request");
    ring.submit_and_wait(1).expect("the request is done");
    ring.completion().next().expect("its completion").result()
}

/// A ring is the last to hold the socket, and is closed.
fn by_the_end_of_a_ring(stream: TcpStream) {
    let ring = ring();
    ring.submitter().register_files(&[stream.as_raw_fd()]).expect("it is registered");
    drop(stream);
    drop(ring);
}

/// A ring closes the socket for its process.
fn by_a_request(stream: TcpStream) {
    let close = opcode::Close::new(Fd(stream.into_raw_fd())).build();
    assert_eq!(by_worker(&mut ring(), close), 0);
}

/// How the last reference to a socket is dropped.
type Release = fn(TcpStream);

/// Which end that is, and how it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Client,
    Server,
    ServerWithUnreadData,
}

use Ending::*;

impl Ending {
    /// The expected reasons of the client and the server.
    fn reasons(self) -> [&'static str; 2] {
        match self {
            Client => ["closed_by_us", "closed_by_peer"],
            Server => ["closed_by_peer", "closed_by_us"],
            ServerWithUnreadData => ["reset_by_peer", "reset_by_us_unread_data"],
        }
    }

    fn role(self) -> &'static str {
        if self == Client { "client" } else { "server" }
    }

    fn play(self, Pair { client, server }: Pair, release: Release) {
        match self {
            Client => {
                release(client);
                lab::wait_for_end(server);
            }
            Server => {
                release(server);
                lab::wait_for_end(client);
            }
            ServerWithUnreadData => {
                let mut swapped = Pair { client: server, server: client };
                swapped.answer_unread(b"never read");
                release(swapped.client);
                lab::wait_for_end(swapped.server);
            }
        }
    }
}

/// Plays every ending while synfin records, and checks reasons and owners. Returns for each of them
/// which process the kernel ran when it closed the socket that `release` gets.
fn check(release: Release) -> Vec<Option<u32>> {
    let wire = Wire::new();
    let namespaces = lab::ids([&wire.near, &wire.far]);
    let (_folder, recording) = lab::recording_file();
    let endings = || (FIRST_PORT..).zip([Client, Server, ServerWithUnreadData]);
    lab::seen_whole(|| {
        let synfin = Synfin::watch(["record", "--force", "-N", &namespaces, &recording]);
        let listeners: Vec<_> = endings()
            .map(|(port, ending)| {
                let address = SocketAddr::from((Wire::FAR4, port));
                let listener = wire.far.listen(address);
                ending.play(wire.near.pair_with(&listener, address), release);
                listener
            })
            .collect();
        for namespace in [&wire.near, &wire.far] {
            namespace.wait_until_quiet();
        }
        synfin.finish();
        (missed(&recording) == 0, listeners)
    });
    let lines = lines(&recording);
    let closing = closing_processes(&recording);
    endings()
        .map(|(port, ending)| {
            for (role, reason) in ["client", "server"].into_iter().zip(ending.reasons()) {
                let line = &lines[&(port, role.to_owned())];
                assert_eq!(line["reason"], reason, "{ending:?}: {line}");
                check_owner(line);
            }
            closing[&(port, ending.role())]
        })
        .collect()
}

#[track_caller]
fn check_owner(line: &Value) {
    let name = fs::read_to_string("/proc/self/comm").expect("the name of this process");
    assert_eq!(line["pid"], process::id(), "{line}");
    assert_eq!(line["owner"], name.trim_end(), "{line}");
}

fn missed(recording: &str) -> u64 {
    Synfin::run(["report", "-o", "json", "--from", recording]).report().event("missed")
}

/// The closed connections in a recording, by port and role.
fn lines(recording: &str) -> BTreeMap<(u16, String), Value> {
    let lines = Synfin::run(["connections", "-o", "json", "--from", recording]).json_lines();
    let key = |line: &Value| {
        let port = line["service_port"].as_u64().expect("a port");
        (port as u16, line["role"].as_str().expect("a role").to_owned())
    };
    lines.into_iter().map(|line| (key(&line), line)).collect()
}

/// The process of the transition by which each end left ESTABLISHED, as the kernel side records it.
fn closing_processes(recording: &str) -> HashMap<(u16, &'static str), Option<u32>> {
    let file = File::open(recording).expect("the recording");
    let frames = Reader::new(BufReader::new(file)).expect("a recording");
    let mut processes = HashMap::new();
    for frame in frames {
        decode(&frame.expect("a frame"), |input| {
            if let Input::Transition(transition) = input
                && transition.old == TcpState::Established
            {
                let (local, remote) = (transition.local.port(), transition.remote.port());
                let is_server = local < remote;
                let role = if is_server { "server" } else { "client" };
                processes.insert((local.min(remote), role), transition.pid);
            }
        });
    }
    processes
}

#[test]
fn garbage_collection_of_messages_owns_no_socket() {
    let _lab = lab::enter();
    let closing = check(lab::close_by_garbage_collection);
    // Older kernels collect garbage within a system call.
    if lab::since(6, 10) {
        assert_eq!(closing, [None; 3]);
    }
}

#[test]
fn the_end_of_an_io_uring_owns_no_socket() {
    let _lab = lab::enter();
    if lacks_io_uring() {
        return;
    }
    assert_eq!(check(by_the_end_of_a_ring), [None; 3]);
}

/// Whether workers of io_uring are threads of the process that it belongs to. Up to Linux 5.11 they were
/// threads of the kernel, but later versions of 5.10 have the io_uring of 5.15.
fn workers_are_own_threads() -> bool {
    let mut ring = ring();
    assert_eq!(by_worker(&mut ring, opcode::Nop::new().build()), 0);
    let threads = fs::read_dir("/proc/self/task").expect("the threads of this process");
    let names =
        threads.map(|thread| fs::read_to_string(thread.expect("a thread").path().join("comm")));
    names.flatten().any(|name| name.starts_with("iou-wrk"))
}

#[test]
fn a_worker_of_io_uring_acts_for_its_process() {
    let _lab = lab::enter();
    if lacks_io_uring() {
        return;
    }
    let worker = workers_are_own_threads().then(process::id);
    assert_eq!(check(by_a_request), [worker; 3]);
    if worker.is_none() {
        return lab::skip("workers of this kernel's io_uring are threads of the kernel");
    }
    let wire = Wire::new();
    let namespaces = lab::ids([&wire.near, &wire.far]);
    let (_folder, recording) = lab::recording_file();
    let address = SocketAddr::from((Wire::FAR4, FIRST_PORT));
    lab::seen_whole(|| {
        let synfin = Synfin::watch(["record", "--force", "-N", &namespaces, &recording]);
        let listener = wire.far.listen(address);
        connect_and_close(&wire, &listener, address);
        synfin.finish();
        (missed(&recording) == 0, ())
    });
    let lines = lines(&recording);
    assert_eq!(lines.len(), 2, "{lines:?}");
    lines.values().for_each(check_owner);
}

/// Workers connect and close the client.
fn connect_and_close(wire: &Wire, listener: &TcpListener, address: SocketAddr) {
    let socket: Socket = wire.near.socket(address.ip());
    let to = SockAddr::from(address);
    let connect = opcode::Connect::new(Fd(socket.as_raw_fd()), to.as_ptr().cast(), to.len());
    assert_eq!(by_worker(&mut ring(), connect.build()), 0);
    let server = accept(listener);
    by_a_request(socket.into());
    lab::wait_for_end(server);
    wire.near.wait_until_quiet();
    wire.far.wait_until_quiet();
}
