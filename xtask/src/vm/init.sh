#!/bin/bash
# The init of a virtual machine: sets up the system, runs `synfin doctor` and the kernel tests, and
# powers off. Their output goes to a port, which QEMU writes to a file outside of the machine.

# The kernel panics if init ends, which ends the machine; its console then shows the error.
set -euo pipefail

port=/dev/vport0p1

set_up() {
    mount -t devtmpfs devtmpfs /dev
    mkdir /dev/pts /dev/shm
    mount -t devpts devpts /dev/pts
    mount -t tmpfs tmpfs /dev/shm
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t securityfs securityfs /sys/kernel/security
    mount -t debugfs debugfs /sys/kernel/debug
    mount -t tracefs tracefs /sys/kernel/tracing
    mount -t bpf bpf /sys/fs/bpf
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    ln -s /proc/self/fd /dev/fd
    ln -s fd/0 /dev/stdin
    ln -s fd/1 /dev/stdout
    ln -s fd/2 /dev/stderr
    echo machine >/proc/sys/kernel/hostname
    ulimit -n 65536
    # The kernel loads the other modules that the tests need by itself.
    modprobe -a virtio_pci virtio_console tun
    ip link set lo up
}

# Run a command, and print its exit status in a line that xtask parses.
run() {
    local status=0
    "$@" </dev/null || status=$?
    echo "vm: $1 ended with $status"
}

synfin() {
    "$SYNFIN" doctor
}

tests() {
    cd "$DIRECTORY" && "$TESTS" "${ARGS[@]}"
}

set_up
source /task
for ((tenths = 0; tenths < 300; tenths++)); do
    [[ -e $port ]] && break
    sleep 0.1
done
{
    run synfin
    run tests
} &>$port
echo o >/proc/sysrq-trigger
sleep infinity
