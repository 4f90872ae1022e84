//! Processes that connect and serve on command. They run this test binary.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    process::{self, Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Cgroup, Namespace, connect_to, sockets, wait_for_end};

/// Set if this program runs as an actor.
const ROLE: &str = "SYNFIN_TEST_ACTOR";

/// The name of the test that runs an actor.
const PART: &str = "lab::actor::runs_as_an_actor";

/// The prefix of an actor's answers; the test harness prints other lines.
const ANSWER: &str = "actor: ";

/// The name of the threads that connect, which is not the process's.
const THREAD: &str = "just-a-thread";

/// A process that takes commands, as the processes that it forks do. All end on drop.
pub(crate) struct Actor {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts an actor with this name in a namespace, and in a cgroup if given.
    pub(crate) fn start(namespace: &Namespace, cgroup: Option<&Cgroup>, name: &str) -> Self {
        let mut command = Command::new("/proc/self/exe");
        command.args(["--exact", PART, "--nocapture"]);
        command.env(ROLE, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = namespace.within(|| command.spawn()).expect("a process of this program");
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        if let Some(cgroup) = cgroup {
            cgroup.take_in(child.id());
        }
        let mut actor = Self { child, orders, answers };
        actor.send(&format!("name {name}"));
        actor
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Listens.
    pub(crate) fn listen(&mut self, address: impl Into<SocketAddr>) {
        self.send(&format!("listen {}", address.into()));
    }

    /// Accepts from now on, and closes connections that the peer has closed.
    pub(crate) fn serve(&mut self) {
        self.send("serve");
    }

    /// Accepts from now on, and closes with unread data.
    pub(crate) fn hang_up(&mut self) {
        self.send("hang up");
    }

    /// Connects and sends a request this number of times, ignoring errors.
    pub(crate) fn ask(&mut self, at: impl Into<SocketAddr>, count: usize) {
        self.send(&format!("ask {} {count}", at.into()));
    }

    /// Forks this number of processes, which keep its name and accept from now on.
    pub(crate) fn prefork(&mut self, count: usize) -> Vec<u32> {
        numbers(&self.send(&format!("prefork {count}")))
    }

    /// Forks a process that takes this name and accepts from now on.
    pub(crate) fn activate(&mut self, name: &str) -> u32 {
        numbers(&self.send(&format!("activate {name}")))[0]
    }

    /// Runs programs from now on, one after another.
    pub(crate) fn run_programs(&mut self) {
        self.send("run programs");
    }

    /// Ends, and leaves its children running.
    pub(crate) fn leave(&mut self) {
        self.send("leave");
        self.child.wait().expect("its exit status");
    }

    /// Connects from a thread with a name of its own, and keeps the connections. Returns their
    /// local addresses.
    pub(crate) fn connect(&mut self, to: impl Into<SocketAddr>, count: usize) -> Vec<SocketAddr> {
        self.connect_by("tcp", to.into(), count)
    }

    /// The same with MPTCP.
    pub(crate) fn connect_by_mptcp(
        &mut self,
        to: impl Into<SocketAddr>,
        count: usize,
    ) -> Vec<SocketAddr> {
        self.connect_by("mptcp", to.into(), count)
    }

    fn connect_by(&mut self, protocol: &str, to: SocketAddr, count: usize) -> Vec<SocketAddr> {
        let answer = self.send(&format!("connect {protocol} {to} {count}"));
        answer.split(' ').map(|address| address.parse().expect("an address")).collect()
    }

    /// Closes its connections.
    pub(crate) fn close(&mut self) {
        self.send("close");
    }

    /// Forks this number of processes with the names `NAME-0`, `NAME-1` …, one after the other, each
    /// of which connects and closes from a thread of its own. Returns their PIDs.
    pub(crate) fn clients(
        &mut self,
        to: impl Into<SocketAddr>,
        name: &str,
        count: usize,
    ) -> Vec<u32> {
        numbers(&self.send(&format!("clients {} {name} {count}", to.into())))
    }

    #[track_caller]
    fn send(&mut self, order: &str) -> String {
        let orders = self.orders.as_mut().expect("a pipe");
        writeln!(orders, "{order}").expect("the actor reads its input");
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.answers.read_line(&mut line).expect("text");
            assert!(read > 0, "an actor failed at the order {order:?}, see above");
            if let Some((_, answer)) = line.trim_end().split_once(ANSWER) {
                return answer.to_owned();
            }
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // The actor and its children end when their input ends.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

fn numbers(answer: &str) -> Vec<u32> {
    answer.split(' ').map(|number| number.parse().expect("a process id")).collect()
}

/// The state of an actor.
#[derive(Default)]
struct Props {
    listeners: Vec<TcpListener>,
    connections: Vec<TcpStream>,
}

/// Runs this program as an actor for other tests. As a test, it checks that its name is [`PART`].
#[test]
fn runs_as_an_actor() {
    if env::var_os(ROLE).is_none() {
        let listed = Command::new("/proc/self/exe").args(["--list", "--exact", PART]).output();
        let listed = String::from_utf8(listed.expect("this program").stdout).expect("text");
        assert!(listed.starts_with(&format!("{PART}: test")), "{listed}");
        return;
    }
    let mut props = Props::default();
    for order in io::stdin().lines() {
        let order = order.expect("text");
        let words: Vec<_> = order.split(' ').collect();
        let answer = props.perform(&words);
        println!("{ANSWER}{answer}");
        if order == "leave" {
            process::exit(0);
        }
    }
}

impl Props {
    fn perform(&mut self, order: &[&str]) -> String {
        let number = |text: &str| text.parse::<usize>().expect("a number");
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        match *order {
            ["name", name] => fs::write("/proc/self/comm", name).expect("a name"),
            ["listen", at] => self.listeners.push(sockets::listen(address(at), 1024)),
            ["serve"] => self.serve(wait_for_end),
            ["hang", "up"] => self.serve(|stream| {
                let _ = stream.peek(&mut [0]);
            }),
            ["ask", at, count] => {
                for _ in 0..number(count) {
                    if let Ok(mut stream) =
                        connect_to(sockets::socket(address(at).ip()), address(at))
                    {
                        let _ = stream.write_all(b"?").and_then(|()| stream.read(&mut [0]));
                    }
                }
            }
            ["prefork", count] => {
                let name = fs::read_to_string("/proc/self/comm").expect("its name");
                return texts((0..number(count)).map(|_| self.fork_server(name.trim_end())));
            }
            ["activate", name] => return texts([self.fork_server(name)]),
            ["connect", protocol, to, count] => {
                let to = address(to);
                let protocol = if protocol == "mptcp" { Protocol::MPTCP } else { Protocol::TCP };
                let new: Vec<_> = (0..number(count))
                    .map(|_| on_a_thread(move || connect(protocol, to)))
                    .collect();
                let locals: Vec<_> =
                    new.iter().map(|it| it.local_addr().expect("its address")).collect();
                self.connections.extend(new);
                return texts(locals);
            }
            ["close"] => self.connections.clear(),
            ["clients", to, name, count] => {
                let to = address(to);
                let client = |number| {
                    fork_to(|| {
                        prctl_name(&format!("{name}-{number}"));
                        on_a_thread(move || drop(connect(Protocol::TCP, to)));
                        process::exit(0);
                    })
                };
                let ended = |pid: Pid| {
                    let status = waitpid(pid, None).expect("its end");
                    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
                    pid
                };
                return texts((0..number(count)).map(client).map(ended));
            }
            ["run", "programs"] => {
                thread::spawn(|| {
                    loop {
                        Command::new("true").status().expect("a program");
                    }
                });
            }
            ["leave"] => {}
            _ => panic!("unknown order {order:?}"),
        }
        "done".to_owned()
    }

    fn serve(&mut self, then: fn(TcpStream)) {
        for listener in &self.listeners {
            let listener = listener.try_clone().expect("the listener");
            thread::spawn(move || {
                // accept() fails for a connection that was already reset.
                for stream in listener.incoming().flatten() {
                    thread::spawn(move || then(stream));
                }
            });
        }
    }

    fn fork_server(&mut self, name: &str) -> Pid {
        fork_to(|| {
            prctl_name(name);
            self.serve(wait_for_end);
            wait_for_hangup();
            process::exit(0);
        })
    }
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
}

fn prctl_name(name: &str) {
    let name = std::ffi::CString::new(name).expect("a name");
    prctl::set_name(&name).expect("PR_SET_NAME");
}

fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::Builder::new().name(THREAD.to_owned()).spawn(work).expect("a thread");
    thread.join().expect("its work")
}

fn connect(protocol: Protocol, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(protocol));
    connect_to(socket.expect("a socket"), to).expect("a connection")
}

/// Forks a process that runs this and never returns.
fn fork_to(part: impl FnOnce()) -> Pid {
    // SAFETY: no other thread of an actor holds a lock; all of them wait or copy bytes.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            part();
            unreachable!("a forked process exits at the end");
        }
    }
}

/// Waits until the input ends, without reading it.
fn wait_for_hangup() {
    let stdin = io::stdin();
    let mut orders = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
    poll(&mut orders, PollTimeout::NONE).expect("poll");
}
