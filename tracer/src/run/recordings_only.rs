//! Replaces `live.rs` in a build that only reads recordings.

#![expect(
    clippy::unnecessary_wraps,
    clippy::unused_async,
    reason = "the signatures are those of live.rs"
)]

use std::ffi::OsString;

use anyhow::Result;

use crate::{
    cli::{live::LiveArgs, select::FilterArgs},
    message::{exit::Exit, failure::Failure},
    source::Source,
};

/// Fails, because this build has no eBPF programs to attach.
///
/// # Errors
///
/// Always, as wrong usage.
pub(super) fn attach(_: LiveArgs, _: &FilterArgs, _: u8) -> Result<Box<dyn Source>> {
    let why = "this build of synfin reads recordings only";
    let remedy = "read a recording with --from; `synfin record` on a Linux host creates one";
    Err(Failure::usage("cannot trace this host", why, remedy).into())
}

pub(super) fn begin() {}

/// Never constructed: signals keep their default action, and commands are run only while this host
/// is traced.
pub(super) enum Interrupts {}

impl Interrupts {
    pub(super) fn listen(_: bool) -> Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn start(&mut self, _: &[OsString]) -> Result<()> {
        match *self {}
    }

    pub(super) async fn end_command(&mut self) -> Result<Exit> {
        match *self {}
    }

    pub(super) async fn is_signal(&mut self) -> Result<bool> {
        match *self {}
    }
}
