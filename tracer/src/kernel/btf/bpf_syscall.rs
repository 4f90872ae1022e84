//! The kernel's own type information without sysfs: through bpf(2), for which aya has no interface,
//! and its size from `/proc/kallsyms`.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, BufRead, BufReader},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use aya::{programs::ProgramType, sys::is_program_supported};
use nix::libc;

/// Commands of bpf(2), from `include/uapi/linux/bpf.h`.
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BTF_GET_FD_BY_ID: libc::c_long = 19;
const BTF_GET_NEXT_ID: libc::c_long = 23;

/// The kernel's name for its own type information, as opposed to that of modules and programs.
const NAME: &CStr = c"vmlinux";

/// The kernel's own type information through bpf(2). Returns `None` before Linux 5.11 or without
/// CAP_SYS_ADMIN.
pub(super) fn ask() -> Option<Vec<u8>> {
    // The kernel parses its types when it verifies the first program, and provides them only after
    // that.
    let _ = is_program_supported(ProgramType::SocketFilter);
    let mut id = 0;
    loop {
        id = next(id).ok()?;
        let Ok(types) = open(id) else {
            // The object was removed in the meantime.
            continue;
        };
        if let Some(size) = size_of_kernels(&types).ok()? {
            return read(&types, size).ok();
        }
    }
}

/// Size of the type information in bytes, from the addresses of its symbols. `None` if the
/// addresses are hidden.
pub(super) fn size() -> Option<u64> {
    size_between_symbols(BufReader::new(File::open("/proc/kallsyms").ok()?))
}

fn size_between_symbols(symbols: impl BufRead) -> Option<u64> {
    let (mut start, mut stop) = (None, None);
    for line in symbols.lines() {
        let line = line.ok()?;
        let symbol = match line.rsplit(' ').next()? {
            "__start_BTF" => &mut start,
            "__stop_BTF" => &mut stop,
            _ => continue,
        };
        let address = u64::from_str_radix(line.split(' ').next()?, 16).ok()?;
        // The kernel shows zero to processes that may not see addresses.
        *symbol = (address != 0).then_some(address);
        if let (Some(start), Some(stop)) = (start, stop) {
            return u64::checked_sub(stop, start);
        }
    }
    None
}

/// `union bpf_attr` for the commands that take an id.
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct ByFd {
    fd: u32,
    size: u32,
    info: u64,
}

/// `struct bpf_btf_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    types: u64,
    types_size: u32,
    id: u32,
    name: u64,
    name_size: u32,
    of_kernel: u32,
}

fn next(id: u32) -> io::Result<u32> {
    let mut request = ById { id, next: 0, flags: 0 };
    // SAFETY: `request` has the layout that this command reads and writes.
    unsafe { bpf(BTF_GET_NEXT_ID, &mut request) }?;
    Ok(request.next)
}

fn open(id: u32) -> io::Result<OwnedFd> {
    let mut request = ById { id, next: 0, flags: 0 };
    // SAFETY: `request` has the layout that this command reads.
    let fd = unsafe { bpf(BTF_GET_FD_BY_ID, &mut request) }?;
    // SAFETY: the kernel has just opened this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Size of the type information in bytes, or `None` if it belongs to a module or a program.
fn size_of_kernels(types: &OwnedFd) -> io::Result<Option<u32>> {
    // The kernel truncates longer names, which modules may have.
    const NAME_SIZE: u32 = 64;
    let mut name = [0u8; NAME_SIZE as usize];
    let mut info = Info { name: name.as_mut_ptr() as u64, name_size: NAME_SIZE, ..Info::default() };
    // SAFETY: the name buffer has the stated length and outlives the call; no types are requested.
    match unsafe { inform(types, &mut info) } {
        // The name was truncated, so it is not the kernel's.
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Ok(None),
        result => result?,
    }
    let is_kernels = info.of_kernel != 0 && CStr::from_bytes_until_nul(&name) == Ok(NAME);
    Ok(is_kernels.then_some(info.types_size))
}

fn read(types: &OwnedFd, size: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size as usize];
    let mut info = Info { types: bytes.as_mut_ptr() as u64, types_size: size, ..Info::default() };
    // SAFETY: the buffer has the stated length and outlives the call; no name is requested.
    unsafe { inform(types, &mut info) }?;
    Ok(bytes)
}

#[expect(clippy::cast_possible_truncation, reason = "it is a small structure")]
const INFO_SIZE: u32 = size_of::<Info>() as u32;

/// # Safety
///
/// The buffers that `info` points to must be valid for the lengths that it states.
unsafe fn inform(types: &OwnedFd, info: &mut Info) -> io::Result<()> {
    let fd = types.as_raw_fd().cast_unsigned();
    let mut request = ByFd { fd, size: INFO_SIZE, info: std::ptr::from_mut(info) as u64 };
    // SAFETY: `request` has the layout that this command reads; the caller guarantees its buffers.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut request) }?;
    Ok(())
}

/// # Safety
///
/// `request` must have the layout of the command, and its pointers must be valid for writes.
unsafe fn bpf<T>(command: libc::c_long, request: &mut T) -> io::Result<i32> {
    // SAFETY: the caller guarantees it.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(request), size_of::<T>())
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        i32::try_from(result).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_show_the_size_to_those_who_may_know() {
        let shown = "ffffffff828c5000 R __start_BTF\nffffffff82000000 T other\nffffffff82e0797e R __stop_BTF\n";
        assert_eq!(size_between_symbols(shown.as_bytes()), Some(5_515_646));
        let hidden = "0000000000000000 R __start_BTF\n0000000000000000 R __stop_BTF\n";
        assert_eq!(size_between_symbols(hidden.as_bytes()), None);
        let damaged = "ffffffff82e0797e R __start_BTF\nffffffff828c5000 R __stop_BTF\n";
        assert_eq!(size_between_symbols(damaged.as_bytes()), None);
        assert_eq!(size_between_symbols("strange".as_bytes()), None);
    }
}
