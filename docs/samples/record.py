#!/usr/bin/env python3
"""Makes the recordings of the pages in docs, from real connections in network namespaces (as root):

    unshare --mount --uts --cgroup docs/samples/record.py SYNFIN [NAME]...

SYNFIN is the program to record with; NAME is one of the functions in RECORDINGS at the end.
"""

import ctypes
import fcntl
import os
import pathlib
import queue
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET, PR_SET_NAME, PR_SET_PDEATHSIG = 0x40000000, 15, 1
TCP_USER_TIMEOUT = 18
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
FOLDER = pathlib.Path(__file__).parent

US, GATEWAY = "10.0.0.10", "10.0.0.1"
START = 0.0  # When the recording begins, by time.monotonic().


def run(command, **options):
    return subprocess.run(command, shell=True, check=True, **options)


def enter(namespace):
    with open(f"/run/netns/{namespace}") as file:
        if LIBC.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def until(seconds):
    """Sleeps until this long after the start of the recording."""
    time.sleep(max(0, START + seconds - time.monotonic()))


def stay():
    time.sleep(300)


ACTORS = []


def actor(name, act):
    """A process with this name on the traced host."""
    pid = os.fork()
    if pid:
        ACTORS.append(pid)
        return
    try:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        LIBC.prctl(PR_SET_NAME, name.encode())
        enter("web-1")
        act()
    except BaseException:
        print(f"{name}:", file=sys.stderr)
        traceback.print_exc()
    finally:
        os._exit(0)


def elsewhere(act):
    """A thread on the other hosts."""

    def inside():
        enter("far")
        act()

    threading.Thread(target=inside, daemon=True).start()


def listen(address, port, backlog=128):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(backlog)
    return listener


def serve(address, port, handle, backlog=128):
    """Accepts connections and handles each in a thread of its own."""
    listener = listen(address, port, backlog)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle, args=(connection,), daemon=True).start()


def connect(address, port, source=None, user_timeout=None):
    client = socket.socket()
    if user_timeout:
        client.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, user_timeout)
    if source:
        client.bind((source, 0))
    client.connect((address, port))
    return client


def begin_connect(address, port):
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex((address, port))
    return client


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def exchange(connection, request=b"GET / HTTP/1.1\r\n\r\n"):
    connection.send(request)
    return connection.recv(65536)


def echo(connection):
    """Answers every request until the client closes."""
    try:
        while connection.recv(65536):
            connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.close()
    except OSError:
        pass


def firewall(rule):
    """A rule for all segments that this host sends."""
    run(f"ip netns exec far nft 'add rule inet filter input {rule}'")


def open_firewall():
    run("ip netns exec far nft flush chain inet filter input")


def delayed_link(delay):
    """A link that takes this long in each direction: two TUN devices and this process."""

    def device(namespace):
        enter(namespace)
        tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", b"eth0", IFF_TUN | IFF_NO_PI))
        return tun

    def receive(tun, packets):
        while True:
            packet = os.read(tun, 65536)
            packets.put((time.monotonic() + delay, packet))

    def send(tun, packets):
        while True:
            due, packet = packets.get()
            time.sleep(max(0, due - time.monotonic()))
            try:
                os.write(tun, packet)
            except OSError:
                pass  # The other device is not up yet.

    with open("/proc/self/ns/net") as here:
        near, far = device("web-1"), device("far")
        LIBC.setns(here.fileno(), CLONE_NEWNET)
    for source, target in ((near, far), (far, near)):
        packets = queue.Queue()
        threading.Thread(target=receive, args=(source, packets), daemon=True).start()
        threading.Thread(target=send, args=(target, packets), daemon=True).start()


def hosts(delay=None):
    """The traced host, web-1, and one namespace for all other hosts."""
    run("umount /run/netns 2>/dev/null; mkdir -p /run/netns; mount -t tmpfs none /run/netns", stderr=subprocess.DEVNULL)
    run("hostname web-1")
    # The release of the kernel, without what its builder added.
    release = pathlib.Path("/proc/sys/kernel/osrelease")
    short = re.match(r"\d+\.\d+", release.read_text())[0]
    pathlib.Path("/run/netns/release").write_text(short + "\n")
    run(f"mount --bind /run/netns/release {release}")
    for name in ("web-1", "far"):
        run(f"ip netns add {name}; ip netns exec {name} ip link set lo up")
    if delay:
        delayed_link(delay)
    else:
        run("ip -n web-1 link add eth0 type veth peer name eth0 netns far")
    run(f"ip -n web-1 address add {US}/24 dev eth0; ip -n web-1 link set eth0 up")
    run("ip -n far link set eth0 up")
    for host in (1, *range(21, 45)):
        run(f"ip -n far address add 10.0.0.{host}/24 dev eth0")
    run(f"ip -n web-1 route add default via {GATEWAY}")
    # Clients of other networks, which are all in the same namespace.
    for host in range(1, 5):
        run(f"ip -n far address add 198.51.100.{host}/32 dev lo")
    run("ip netns exec far nft -f -", text=True, input="""
        table inet filter {
            chain input { type filter hook input priority 0; }
        }""")


def sysctl(name, value):
    run(f"ip netns exec web-1 sysctl -qw {name}='{value}'")


def record(synfin, name, seconds):
    """Records the traced host from START on."""
    until(-2.5)
    target = FOLDER / f"{name}.rec"
    run(f"{synfin} record --force -N web-1 --for {seconds + 2}s {target}")
    target.chmod(0o644)
    for pid in ACTORS:
        os.kill(pid, signal.SIGKILL)
    print(f"{target}: {target.stat().st_size} bytes")


def syn(source, port, number, seq=1):
    """A SYN, as a raw IPv4 packet."""

    def checksum(data):
        total = sum(struct.unpack(f"!{len(data) // 2}H", data))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        return ~total & 0xFFFF

    addresses = socket.inet_aton(source) + socket.inet_aton(US)
    tcp = struct.pack("!HHIIBBHHH", number, port, seq, 0, 5 << 4, 2, 64240, 0, 0)
    pseudo = addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    return struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, socket.IPPROTO_TCP, 0) + addresses + tcp


def inject(packets):
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for packet in packets:
        raw.sendto(packet, (US, 0))


def night(synfin):
    """A host on which a great deal goes wrong at once."""
    global START
    hosts()
    START = time.monotonic() + 34

    # Connections that cannot be established.
    def refused():
        until(2)
        for _ in range(5):
            try:
                connect("10.0.0.21", 9100)
            except ConnectionRefusedError:
                time.sleep(0.4)

    def unanswered():
        until(3)
        for _ in range(4):
            client = begin_connect("10.0.0.22", 8443)
            time.sleep(3)
            client.close()

    def no_route():
        until(4)
        for _ in range(3):
            try:
                connect("10.0.0.99", 8086)
            except OSError:
                pass
        stay()

    def lost_syns():
        until(6)
        for _ in range(6):
            client = connect("10.0.0.24", 443)
            exchange(client)
            client.close()
            time.sleep(0.3)

    firewall("tcp dport 8443 drop")
    firewall("tcp dport 443 tcp flags syn numgen inc mod 2 0 drop")
    elsewhere(lambda: serve("10.0.0.24", 443, echo))
    actor("agent", refused)
    actor("web", unanswered)
    actor("telegraf", no_route)
    actor("curl", lost_syns)

    # A server that falls behind, one that hangs, and answers that are lost.
    def falls_behind():
        listener = listen(US, 8080, 4)
        until(12)
        while True:
            connection, _ = listener.accept()
            time.sleep(0.7)
            connection.close()

    def hangs():
        listener = listen(US, 8081)
        connection, _ = listener.accept()
        stay()

    def eager():
        until(9)
        clients = [begin_connect(US, 8080) for _ in range(14)]
        clients += [begin_connect(US, 8081) for _ in range(4)]
        stay()

    def half_open():
        until(7)
        clients = []
        for host in range(1, 5):
            client = socket.socket()
            client.setblocking(False)
            client.bind((f"198.51.100.{host}", 0))
            client.connect_ex((US, 8083))
            clients.append(client)
        stay()

    firewall("tcp sport 8083 drop")
    actor("gunicorn", falls_behind)
    actor("reports", hangs)
    actor("admin", lambda: serve(US, 8083, echo))
    elsewhere(eager)
    elsewhere(half_open)

    # Resets.
    def forgotten():
        until(2)
        idle = [connect("10.0.0.31", 5432) for _ in range(4)]
        for connection in idle:
            exchange(connection)
        until(4)
        firewall("tcp dport 5432 reject with tcp reset")
        until(27)
        for connection in idle:
            try:
                exchange(connection)
            except OSError:
                time.sleep(0.5)
        stay()

    def used_once_more():
        for turn in range(4):
            until(8 + 4 * turn)
            connection = connect("10.0.0.32", 3000)
            exchange(connection)
            time.sleep(2.05)
            try:
                exchange(connection)
            except OSError:
                pass
            connection.close()

    def closes_when_idle(connection):
        connection.settimeout(2)
        try:
            while connection.recv(65536):
                connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        except TimeoutError:
            connection.close()
        except OSError:
            pass

    def restarts():
        listener = listen(US, 8000)
        for _ in range(5):
            listener.accept()[0].close()
        until(17)
        listener.close()
        time.sleep(0.3)
        serve(US, 8000, echo)

    def during_a_restart():
        until(15)
        for _ in range(5):
            connect(US, 8000).close()
        clients = [connect(US, 8000) for _ in range(3)]
        until(17.05)
        for _ in range(4):
            try:
                connect(US, 8000)
            except ConnectionRefusedError:
                time.sleep(0.05)
        time.sleep(0.5)
        for _ in range(3):
            connection = connect(US, 8000)
            exchange(connection)
            connection.close()

    def health_check():
        until(2)
        for _ in range(12):
            reset(connect(US, 8084))
            time.sleep(2)

    elsewhere(lambda: serve("10.0.0.31", 5432, echo))
    elsewhere(lambda: serve("10.0.0.32", 3000, closes_when_idle))
    actor("orders", forgotten)
    actor("haproxy", used_once_more)
    actor("shop", restarts)
    actor("envoy", lambda: serve(US, 8084, echo))
    elsewhere(during_a_restart)
    elsewhere(health_check)

    # Open connections that are stuck, and a path that loses.
    def black_hole():
        until(20)
        clients = [connect("10.0.0.33", 8333) for _ in range(4)]
        for client in clients:
            exchange(client)
        for client in clients:
            client.send(bytes(20_000))
        stay()

    def lossy():
        until(10)
        for _ in range(4):
            client = connect("10.0.0.34", 873)
            for _ in range(40):
                client.send(bytes(1200))
                client.recv(65536)
            client.close()

    def peer_is_gone():
        until(12)
        clients = [connect("10.0.0.35", 6379, user_timeout=4000) for _ in range(4)]
        for client in clients:
            exchange(client)
        until(13)
        firewall("tcp dport 6379 drop")
        for client in clients:
            client.send(b"PING\r\n")
        for client in clients:
            try:
                client.recv(10)
            except OSError:
                pass
        stay()

    def leaks():
        kept = []
        serve(US, 8085, lambda connection: kept.append((connection, exchange(connection))))

    def leaving_clients():
        until(-31)
        for _ in range(6):
            connection = connect(US, 8085)
            connection.send(b"GET / HTTP/1.1\r\n\r\n")
            connection.recv(100)
            connection.close()
        stay()

    def half_closes():
        until(8)
        kept = [connect("10.0.0.36", 514) for _ in range(3)]
        for connection in kept:
            connection.send(b"the last line\n")
            connection.shutdown(socket.SHUT_WR)
        stay()

    firewall("tcp dport 8333 meta length > 1000 drop")
    firewall("tcp dport 873 meta length > 500 numgen inc mod 16 0 drop")
    elsewhere(lambda: serve("10.0.0.33", 8333, echo))
    elsewhere(lambda: serve("10.0.0.34", 873, echo))
    elsewhere(lambda: serve("10.0.0.35", 6379, echo))
    elsewhere(lambda: serve("10.0.0.36", 514, lambda connection: stay()))
    actor("backup", black_hole)
    actor("rsync", lossy)
    actor("cart", peer_is_gone)
    actor("images", leaks)
    actor("rsyslogd", half_closes)
    elsewhere(leaving_clients)

    record(synfin, "night", 32)


def flood(synfin):
    """SYNs that nobody means, to a server without SYN cookies."""
    global START
    hosts()
    sysctl("net.ipv4.tcp_syncookies", 0)
    START = time.monotonic() + 4

    def syns():
        until(2)
        for part in range(10):
            numbers = range(part * 30, part * 30 + 30)
            inject(syn(f"203.0.113.{number % 200 + 1}", 8082, 20000 + number) for number in numbers)
            time.sleep(0.2)

    def clients():
        until(0.5)
        for _ in range(3):
            connection = connect(US, 8082)
            exchange(connection)
            connection.close()

    actor("nginx", lambda: serve(US, 8082, echo, 16))
    elsewhere(syns)
    elsewhere(clients)
    record(synfin, "flood", 6)


def ports(synfin):
    """A client that opens a connection for every request, and closes it first."""
    global START
    hosts()
    sysctl("net.ipv4.ip_local_port_range", "40000 40047")
    START = time.monotonic() + 4

    def many():
        until(1)
        for _ in range(44):
            connection = connect("10.0.0.40", 9200)
            exchange(connection)
            connection.close()
            time.sleep(0.1)
        for _ in range(8):
            try:
                connect("10.0.0.40", 9200).close()
            except OSError:
                time.sleep(0.1)
        stay()

    elsewhere(lambda: serve("10.0.0.40", 9200, echo))
    actor("indexer", many)
    record(synfin, "ports", 8)


def steps(synfin):
    """One connection for each thing that docs/tcp.md explains, over a path with 30 ms of round trip."""
    global START
    hosts(delay=0.015)
    START = time.monotonic() + 4

    def answers_slowly(connection):
        while connection.recv(65536):
            pass
        time.sleep(0.5)
        connection.send(b"the answer")
        connection.close()

    def closes_at_once(connection):
        connection.recv(65536)
        time.sleep(0.1)
        connection.close()

    def closes_late(connection):
        while connection.recv(65536):
            connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        time.sleep(0.2)
        connection.close()

    def sends_late(connection):
        connection.recv(65536)
        time.sleep(0.05)
        connection.send(b"the answer")
        time.sleep(0.2)

    def client():
        until(0.5)
        connection = connect("10.0.0.21", 80)
        exchange(connection)
        connection.close()
        until(1.5)
        connection = connect("10.0.0.22", 81)
        connection.send(b"the question")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(100):
            pass
        connection.close()
        until(3)
        connection = connect("10.0.0.23", 82)
        connection.send(b"the question")
        time.sleep(0.115)
        connection.close()
        until(4)
        connection = connect("10.0.0.24", 83)
        connection.send(b"the question")
        time.sleep(0.055)
        connection.close()
        until(7)
        connection = connect("10.0.0.25", 84)
        connection.send(b"the question")
        connection.recv(100)
        time.sleep(0.2)
        connection.close()
        stay()

    def from_elsewhere():
        until(5)
        connection = connect(US, 8080, "10.0.0.30")
        exchange(connection)
        connection.close()
        until(6)
        # A SYN of which its sender knows nothing any more.
        inject([syn("10.0.0.31", 8080, 31_000)])

    def opens_the_path():
        until(7.5)
        open_firewall()

    firewall("tcp dport 84 tcp flags syn drop")
    elsewhere(lambda: serve("10.0.0.21", 80, closes_late))
    elsewhere(lambda: serve("10.0.0.22", 81, answers_slowly))
    elsewhere(lambda: serve("10.0.0.23", 82, closes_at_once))
    elsewhere(lambda: serve("10.0.0.24", 83, sends_late))
    elsewhere(lambda: serve("10.0.0.25", 84, closes_at_once))
    elsewhere(from_elsewhere)
    elsewhere(opens_the_path)
    actor("nginx", lambda: serve(US, 8080, echo))
    actor("curl", client)
    record(synfin, "steps", 10)


def release(synfin, name, resets):
    """The same load on two versions of a service."""
    global START
    hosts(delay=0.002)
    START = time.monotonic() + 4

    def handle(connection):
        connection.recv(10 if resets else 65536)
        connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.close()

    def load():
        until(0.5)
        for index in range(40):
            connection = connect(US, 8080)
            connection.send(b"GET / HTTP/1.1\r\n\r\n" if index % 4 == 0 or not resets else b"GET / 1.1\n")
            try:
                while connection.recv(100):
                    pass
            except OSError:
                pass
            connection.close()
            time.sleep(0.02)

    actor("checkout", lambda: serve(US, 8080, handle))
    elsewhere(load)
    record(synfin, name, 5)


RECORDINGS = {
    "night": night,
    "flood": flood,
    "ports": ports,
    "steps": steps,
    "before": lambda synfin: release(synfin, "before", False),
    "after": lambda synfin: release(synfin, "after", True),
}


def main():
    synfin, *names = sys.argv[1:]
    for name in names or RECORDINGS:
        # Each recording has its own namespaces, names and threads.
        if os.fork() == 0:
            RECORDINGS[name](synfin)
            os._exit(0)
        os.wait()


if __name__ == "__main__":
    main()
