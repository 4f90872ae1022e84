//! Descriptors that one process sends to another (SCM_RIGHTS).

use std::{
    io::{IoSlice, IoSliceMut},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixDatagram,
    },
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};

/// Sends a byte and a descriptor.
pub(super) fn send(to: &UnixDatagram, what: u8, descriptor: &OwnedFd) {
    let (what, descriptors) = ([what], [descriptor.as_raw_fd()]);
    let (parts, rights) = ([IoSlice::new(&what)], [ControlMessage::ScmRights(&descriptors)]);
    sendmsg::<()>(to.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).expect("it is sent");
}

/// Receives a byte and a descriptor.
pub(super) fn receive(from: &UnixDatagram) -> (u8, OwnedFd) {
    let (mut what, mut room) = ([0], cmsg_space!(RawFd));
    let mut parts = [IoSliceMut::new(&mut what)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut room), flags);
    let message = message.expect("a message");
    let rights = message.cmsgs().expect("room for a descriptor").next();
    let Some(ControlMessageOwned::ScmRights(descriptors)) = rights else { panic!("no descriptor") };
    // SAFETY: the kernel has just made this descriptor.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptors[0]) };
    (what[0], descriptor)
}
