//! A program of type `sk_lookup` (`BPF_PROG_TYPE_SK_LOOKUP`, Linux 5.9) that gives every new connection
//! of a namespace to one listener, whatever its port. It is six instructions around two calls, so it needs
//! neither a compiler nor a loader.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use nix::libc;
use socket2::SockRef;

use super::Namespace;

// include/uapi/linux/bpf.h.
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_MAP_TYPE_SOCKMAP: u32 = 15;
const BPF_PROG_TYPE_SK_LOOKUP: u32 = 30;
const BPF_SK_LOOKUP: u32 = 36;

/// The program, until it is dropped.
pub(crate) struct SkLookup {
    _link: OwnedFd,
}

/// `struct bpf_insn`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// The destination register in the low half, the source register in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// Looks up socket 0 of the map, assigns it, releases it, and lets the connection pass.
fn program(map: i32) -> [Instruction; 17] {
    [
        instruction(0xbf, 0x16, 0, 0),   // r6 = r1, the context
        instruction(0x7a, 0x0a, -8, 0),  // *(u64 *)(r10 - 8) = 0, the key
        instruction(0x18, 0x11, 0, map), // r1 = the map
        instruction(0, 0, 0, 0),         //
        instruction(0xbf, 0xa2, 0, 0),   // r2 = r10
        instruction(0x07, 0x02, 0, -8),  // r2 -= 8
        instruction(0x85, 0, 0, 1),      // bpf_map_lookup_elem
        instruction(0x15, 0x00, 7, 0),   // if r0 == 0, skip the rest
        instruction(0xbf, 0x07, 0, 0),   // r7 = r0, the listener
        instruction(0xbf, 0x61, 0, 0),   // r1 = the context
        instruction(0xbf, 0x72, 0, 0),   // r2 = the listener
        instruction(0xb7, 0x03, 0, 0),   // r3 = no flags
        instruction(0x85, 0, 0, 124),    // bpf_sk_assign
        instruction(0xbf, 0x71, 0, 0),   // r1 = the listener
        instruction(0x85, 0, 0, 86),     // bpf_sk_release
        instruction(0xb7, 0x00, 0, 1),   // return SK_PASS
        instruction(0x95, 0, 0, 0),
    ]
}

impl SkLookup {
    /// Attaches it to a namespace.
    pub(crate) fn attach(namespace: &Namespace, listener: &SockRef<'_>) -> io::Result<Self> {
        let (key, socket) = (0_u32, listener.as_raw_fd() as u64);
        // map_type, key_size, value_size, max_entries.
        let map = descriptor(bpf(BPF_MAP_CREATE, &[pair(BPF_MAP_TYPE_SOCKMAP, 4), pair(8, 1)])?);
        let map_fd = map.as_raw_fd();
        let element = [pair(map_fd as u32, 0), address(&key), address(&socket), 0];
        bpf(BPF_MAP_UPDATE_ELEM, &element)?;
        let instructions = program(map_fd);
        let count = instructions.len() as u32;
        let mut load = [0; 9];
        load[0] = pair(BPF_PROG_TYPE_SK_LOOKUP, count);
        load[1] = address(&instructions);
        load[2] = c"GPL".as_ptr() as u64;
        // expected_attach_type, after log_level, log_size, log_buf, kern_version, prog_flags, the name
        // and prog_ifindex.
        load[8] = pair(0, BPF_SK_LOOKUP);
        let program = descriptor(bpf(BPF_PROG_LOAD, &load)?);
        let file = namespace.within(|| std::fs::File::open("/proc/thread-self/ns/net"))?;
        let link =
            [pair(program.as_raw_fd() as u32, file.as_raw_fd() as u32), pair(BPF_SK_LOOKUP, 0)];
        Ok(Self { _link: descriptor(bpf(BPF_LINK_CREATE, &link)?) })
    }
}

/// Two neighbouring 32-bit fields.
fn pair(first: u32, second: u32) -> u64 {
    let [a, b] = [first, second].map(u32::to_ne_bytes);
    u64::from_ne_bytes([a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]])
}

fn address<T>(of: &T) -> u64 {
    ptr::from_ref(of) as u64
}

fn descriptor(number: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor.
    unsafe { OwnedFd::from_raw_fd(number as i32) }
}

/// bpf(2).
fn bpf(command: libc::c_long, attributes: &[u64]) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are initialized, and what they point to outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
