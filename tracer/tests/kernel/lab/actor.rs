//! Processes that connect and serve on command: this test binary, started again.

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

use super::{Cgroup, Namespace, connect_to, sockets, wait_for_end};

/// Set for a run of this program as an actor.
const ROLE: &str = "SYNFIN_TEST_ACTOR";

/// The name of the test that runs an actor.
const PART: &str = "lab::actor::plays_its_part";

/// What an actor's answers begin with; the test harness prints other lines.
const ANSWER: &str = "actor: ";

/// The name of the threads that connect, which is not the process's.
const THREAD: &str = "just-a-thread";

/// A process that takes commands, as do those that it forks. All end when this is dropped.
pub(crate) struct Actor {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts one with a name in a namespace, and in a cgroup if given.
    pub(crate) fn start(namespace: &Namespace, cgroup: Option<&Cgroup>, name: &str) -> Self {
        let mut command = Command::new("/proc/self/exe");
        command.args(["--exact", PART, "--nocapture"]);
        command.env(ROLE, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = namespace.within(|| command.spawn()).expect("this program again");
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        if let Some(cgroup) = cgroup {
            cgroup.take_in(child.id());
        }
        let mut actor = Self { child, orders, answers };
        actor.tell(&format!("name {name}"));
        actor
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Listens.
    pub(crate) fn listen(&mut self, address: impl Into<SocketAddr>) {
        self.tell(&format!("listen {}", address.into()));
    }

    /// Accepts from now on, and closes connections that the peer has closed.
    pub(crate) fn serve(&mut self) {
        self.tell("serve");
    }

    /// Accepts from now on, and closes with unread data.
    pub(crate) fn hang_up(&mut self) {
        self.tell("hang up");
    }

    /// Connects and sends a request so many times, ignoring errors.
    pub(crate) fn ask(&mut self, at: impl Into<SocketAddr>, count: usize) {
        self.tell(&format!("ask {} {count}", at.into()));
    }

    /// Forks so many processes, which keep its name and accept from now on.
    pub(crate) fn prefork(&mut self, count: usize) -> Vec<u32> {
        numbers(&self.tell(&format!("prefork {count}")))
    }

    /// Forks a process that takes this name and accepts from now on.
    pub(crate) fn activate(&mut self, name: &str) -> u32 {
        numbers(&self.tell(&format!("activate {name}")))[0]
    }

    /// Runs programs from now on, one after another.
    pub(crate) fn run_programs(&mut self) {
        self.tell("run programs");
    }

    /// Ends, and leaves its children running.
    pub(crate) fn leave(&mut self) {
        self.tell("leave");
        self.child.wait().expect("its end");
    }

    /// Connects from a thread with a name of its own, and keeps the connections. Returns their
    /// local addresses.
    pub(crate) fn connect(&mut self, to: impl Into<SocketAddr>, count: usize) -> Vec<SocketAddr> {
        let answer = self.tell(&format!("connect {} {count}", to.into()));
        answer.split(' ').map(|address| address.parse().expect("an address")).collect()
    }

    /// Closes its connections.
    pub(crate) fn close(&mut self) {
        self.tell("close");
    }

    /// Forks so many processes of the names `NAME-0`, `NAME-1` …, one after the other, each of
    /// which connects and closes, from a thread of its own. Returns their numbers.
    pub(crate) fn clients(
        &mut self,
        to: impl Into<SocketAddr>,
        name: &str,
        count: usize,
    ) -> Vec<u32> {
        numbers(&self.tell(&format!("clients {} {name} {count}", to.into())))
    }

    #[track_caller]
    fn tell(&mut self, order: &str) -> String {
        let orders = self.orders.as_mut().expect("a pipe");
        writeln!(orders, "{order}").expect("it takes orders");
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.answers.read_line(&mut line).expect("text");
            assert!(read > 0, "an actor that got the order {order:?} failed as above");
            if let Some((_, answer)) = line.trim_end().split_once(ANSWER) {
                return answer.to_owned();
            }
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It and its children end when their input ends.
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

/// Runs this program as an actor for other tests. As a test itself, it checks that they find it.
#[test]
fn plays_its_part() {
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
            ["connect", to, count] => {
                let to = address(to);
                let new: Vec<_> =
                    (0..number(count)).map(|_| on_a_thread(move || connect(to))).collect();
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
                        on_a_thread(move || drop(connect(to)));
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
            _ => panic!("it does not know how to {order:?}"),
        }
        "done".to_owned()
    }

    fn serve(&mut self, then: fn(TcpStream)) {
        for listener in &self.listeners {
            let listener = listener.try_clone().expect("the listener");
            thread::spawn(move || {
                // accept() fails for a connection that was reset before.
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

fn connect(to: SocketAddr) -> TcpStream {
    connect_to(sockets::socket(to.ip()), to).expect("a connection")
}

/// Forks a process that does this and never returns.
fn fork_to(part: impl FnOnce()) -> Pid {
    // SAFETY: no other thread of an actor holds a lock; they wait or copy bytes.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            part();
            unreachable!("a part ends with its process");
        }
    }
}

/// Waits until the input ends, without reading it.
fn wait_for_hangup() {
    let stdin = io::stdin();
    let mut orders = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
    poll(&mut orders, PollTimeout::NONE).expect("poll");
}
