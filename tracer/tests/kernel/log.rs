//! The log of the eBPF programs.

use crate::lab::{self, Synfin, Wire, accept, wait_for_end};

const PORT: u16 = 7451;

#[test]
fn ebpf_programs_log_more_with_vv() {
    let _lab = lab::enter();
    let wire = Wire::new();
    let listener = wire.far.listen((Wire::FAR4, PORT));
    let printed = |args: &[&str]| {
        let synfin = Synfin::watch([&["report"], args].concat());
        // The handshake's last ACK is lost, so that the SYN-ACK is retransmitted.
        let rule = format!("tcp dport {PORT} tcp flags & (syn | ack) == ack counter drop");
        wire.far.filter("acks", &rule);
        let client = wire.near.connect((Wire::FAR4, PORT)).expect("a connection");
        wire.far.wait_for_filtered("acks", 1);
        wire.far.unfilter("acks");
        let server = accept(&listener);
        drop(client);
        wait_for_end(server);
        synfin.finish().stderr
    };
    let line = format!("synfin: kernel side: SYN-ACK retransmitted from port {PORT} to port ");
    assert!(printed(&["-vv"]).contains(&line));
    assert!(!printed(&["-v"]).contains("kernel side"));
}
