//! Descriptors that one process sends to another (SCM_RIGHTS).

use std::{
    io::IoSlice,
    mem,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    ptr,
};

use nix::libc;
use socket2::{MsgHdr, SockRef};

/// A message with one descriptor.
#[repr(C)]
struct Control {
    head: libc::cmsghdr,
    descriptor: i32,
    padding: i32,
}

/// Sends a byte and a descriptor.
pub(super) fn send(to: &UnixDatagram, what: u8, descriptor: &OwnedFd) {
    let numbers = [libc::SOL_SOCKET, libc::SCM_RIGHTS, descriptor.as_raw_fd()];
    let length = size_of::<libc::cmsghdr>() + size_of::<i32>();
    let numbers = numbers.iter().flat_map(|number| number.to_ne_bytes());
    let control: Vec<u8> = length.to_ne_bytes().into_iter().chain(numbers).collect();
    let (what, message) = ([what], MsgHdr::new().with_control(&control));
    let parts = [IoSlice::new(&what)];
    SockRef::from(to).sendmsg(&message.with_buffers(&parts), 0).expect("it is sent");
}

/// Receives a byte and a descriptor.
pub(super) fn receive(from: &UnixDatagram) -> (u8, OwnedFd) {
    let mut what = 0_u8;
    // SAFETY: all fields of both structures may be zero.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { mem::zeroed() };
    let mut part = libc::iovec { iov_base: ptr::from_mut(&mut what).cast(), iov_len: 1 };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: the message refers to the buffers above.
    let received =
        unsafe { libc::recvmsg(from.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    assert_eq!((received, control.head.cmsg_type), (1, libc::SCM_RIGHTS), "a descriptor");
    // SAFETY: the kernel has just made this descriptor.
    (what, unsafe { OwnedFd::from_raw_fd(control.descriptor) })
}
