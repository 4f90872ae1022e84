//! The lower bound for a program that streams transitions: it reads the clock and submits 48 bytes,
//! on the same tracepoint.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use aya::{
    Btf, Ebpf, include_bytes_aligned,
    maps::{MapData, RingBuf},
    programs::BtfTracePoint,
};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("SYNFIN_EBPF_DIR"), "/floor.bpf.o"));

/// The name of its program.
pub(crate) const NAME: &str = "floor";

/// The minimal program, and a thread that reads its records.
pub(crate) struct Floor {
    _ebpf: Ebpf,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Floor {
    pub(crate) fn attach() -> Result<Self> {
        let mut ebpf = Ebpf::load(OBJECT)?;
        let ring = ebpf.take_map("EVENTS").context("the object has no map EVENTS")?.try_into()?;
        let program: &mut BtfTracePoint =
            ebpf.program_mut(NAME).context("the object has no such program")?.try_into()?;
        program.load("inet_sock_set_state", &Btf::from_sys_fs()?)?;
        program.attach()?;
        let over = Arc::new(AtomicBool::new(false));
        let reader = thread::spawn({
            let over = over.clone();
            move || drain(ring, &over)
        });
        Ok(Self { _ebpf: ebpf, over, reader: Some(reader) })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // The thread does not panic; an error could not be handled here.
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

fn drain(mut ring: RingBuf<MapData>, over: &AtomicBool) {
    while !over.load(Ordering::Acquire) {
        while ring.next().is_some() {}
        thread::sleep(Duration::from_millis(20));
    }
}
