//! The end of a trace, in the middle of a load.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::Duration,
};

use crate::lab::{self, Namespace, Synfin};

/// Ends the load of a test, even if it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// What had happened when synfin was told to end is in its report, and every event that the kernel
/// side has counted is accounted for, although programs run while their hooks are detached.
#[test]
fn a_trace_that_ends_under_load_has_all_events_before_its_end() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 7_240));
    let _lab = lab::enter_alone();
    let namespace = Namespace::new();
    let id = lab::ids([&namespace]);
    let listener = namespace.listen(address);
    let (closed, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                namespace.pair_with(&listener, address).close_by_client();
                closed.fetch_add(1, SeqCst);
            }
        });
        let _over = Over(&over);
        for _ in 0..lab::scaled(10, 3) {
            let (report, made) = lab::conclusive(|| {
                let synfin = Synfin::watch(["report", "-o", "json", "-N", &id]);
                let before = closed.load(SeqCst);
                thread::sleep(lab::slowed(Duration::from_millis(100)));
                let made = closed.load(SeqCst) - before;
                (synfin.finish().report(), made)
            });
            assert_eq!(report.event("in_flight"), 0);
            for role in ["client", "server"] {
                // One of them was open when the trace began.
                let closed = report.row(role, address.port()).count("closed") + 1;
                assert!(closed >= made && made > 0, "{role}: {closed} of {made}");
            }
        }
    });
}
