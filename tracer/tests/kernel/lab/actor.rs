//! Processes that connect and serve on command. They run this test binary.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{net::UnixDatagram, process::CommandExt},
    },
    process::{self, Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Cgroup, Namespace, connect_to, descriptors, sockets, wait_for_end};

/// Set if this program runs as an actor.
const ROLE: &str = "SYNFIN_TEST_ACTOR";

/// The name of the test that runs an actor.
const PART: &str = "lab::actor::runs_as_an_actor";

/// The prefix of an actor's answers; the test harness prints other lines.
const ANSWER: &str = "actor: ";

/// What the courier gets with a descriptor.
const LISTENER: u8 = b'l';
const CONNECTION: u8 = b'c';

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

    /// Accepts this number of connections of its latest listener and keeps them.
    pub(crate) fn accept(&mut self, count: usize) {
        self.send(&format!("accept {count}"));
    }

    /// Forks a process with this name, and closes the connections that it has inherited.
    pub(crate) fn hand_on(&mut self, name: &str) -> u32 {
        numbers(&self.send(&format!("hand on {name}")))[0]
    }

    /// Runs the program `tail`, which inherits the connections, and closes them.
    pub(crate) fn hand_to_tail(&mut self) -> u32 {
        numbers(&self.send("hand to tail"))[0]
    }

    /// Forks a process with this name, to which [`Self::deliver`] sends descriptors.
    pub(crate) fn courier(&mut self, name: &str) -> u32 {
        numbers(&self.send(&format!("courier {name}")))[0]
    }

    /// Sends all listeners and connections to the courier (SCM_RIGHTS), which accepts from the
    /// listeners, and closes them.
    pub(crate) fn deliver(&mut self) {
        self.send("deliver");
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
    courier: Option<UnixDatagram>,
    /// Programs that end soon after the actor.
    programs: Vec<Child>,
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
            _ => return self.perform_with_descriptors(order),
        }
        "done".to_owned()
    }

    /// Performs an order to accept connections or to hand descriptors on.
    fn perform_with_descriptors(&mut self, order: &[&str]) -> String {
        match *order {
            ["accept", count] => {
                let listener = self.listeners.last().expect("a listener");
                let accept = |_| listener.accept().expect("a connection").0;
                let count = count.parse::<usize>().expect("a number");
                self.connections.extend((0..count).map(accept));
                "done".to_owned()
            }
            ["hand", "on", name] => {
                let heir = fork_to(|| {
                    prctl_name(name);
                    self.listeners.clear();
                    wait_for_hangup();
                    process::exit(0);
                });
                self.connections.clear();
                texts([heir])
            }
            ["hand", "to", "tail"] => texts([self.hand_to_tail()]),
            ["courier", name] => texts([self.fork_courier(name)]),
            ["deliver"] => {
                let courier = self.courier.as_ref().expect("a courier");
                let listeners = self.listeners.drain(..).map(|it| (LISTENER, OwnedFd::from(it)));
                let connections = self.connections.drain(..).map(|it| (CONNECTION, it.into()));
                for (what, descriptor) in listeners.chain(connections) {
                    descriptors::send(courier, what, &descriptor);
                    // The courier has received it.
                    courier.recv(&mut [0]).expect("its answer");
                }
                "done".to_owned()
            }
            _ => panic!("unknown order {order:?}"),
        }
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

    fn hand_to_tail(&mut self) -> u32 {
        let inherited: Vec<_> = self.connections.iter().map(AsRawFd::as_raw_fd).collect();
        let mut tail = Command::new("tail");
        tail.args(["--pid", &process::id().to_string(), "-f", "/dev/null"]).stdin(Stdio::null());
        let keep = move || {
            for &descriptor in &inherited {
                // SAFETY: clears FD_CLOEXEC, and only that.
                unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) };
            }
            Ok(())
        };
        // SAFETY: fcntl(2) is safe between fork() and execve().
        let tail = unsafe { tail.pre_exec(keep) }.spawn().expect("tail");
        self.connections.clear();
        let pid = tail.id();
        self.programs.push(tail);
        pid
    }

    fn fork_courier(&mut self, name: &str) -> Pid {
        let (ours, theirs) = UnixDatagram::pair().expect("sockets");
        let courier = fork_to(|| {
            prctl_name(name);
            *self = Self::default();
            thread::spawn(move || {
                let (mut kept, mut servers) = (Vec::new(), Self::default());
                loop {
                    match descriptors::receive(&theirs) {
                        (LISTENER, listener) => {
                            servers.listeners = vec![listener.into()];
                            servers.serve(wait_for_end);
                        }
                        (_, connection) => kept.push(connection),
                    }
                    theirs.send(&[0]).expect("an answer");
                }
            });
            wait_for_hangup();
            process::exit(0);
        });
        self.courier = Some(ours);
        courier
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
