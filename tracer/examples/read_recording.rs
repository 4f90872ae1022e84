//! Reads a recording with the library and prints a line per role and service port:
//!
//! ```text
//! cargo run -p synfin --example read_recording -- docs/samples/shop.rec
//! ```

use std::{env, error::Error, fs::File, io::BufReader};

use synfin::{
    tcp::group_by::By,
    trace::{
        decode::decode,
        recording::{Frame, Reader},
    },
    tracker::{Common, Limits, Tracker},
};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: read_recording FILE")?;
    // The reader checks the checksum of each frame.
    let mut frames = Reader::new(BufReader::new(File::open(path)?))?;

    // The first frame describes the trace: its host, kernel, hooks and clock.
    let Some(Frame::Session(session)) = frames.next().transpose()? else {
        return Err("the recording does not begin with a session".into());
    };
    println!("recorded on {} with Linux {}", session.host, session.kernel);

    // The tracker has no clock and does no I/O: its time starts with the session and advances
    // with the frames, so every replay gives the same figures.
    let mut tracker = Tracker::new(Limits::default(), session.clock.monotonic_ns)
        .with_filters(vec![session.filter]);
    for frame in frames {
        // A frame holds many records. Single transitions, handshakes and closes come from
        // `drain_changes`, if `with_changes` enabled them.
        decode(&frame?, |input| tracker.apply(&input));
    }
    tracker.finish();

    // This snapshot covers the whole recording. Snapshots after each tick would cover intervals.
    for row in tracker.take_snapshot().rows(By::Port) {
        let counters = &row.stats.counters;
        let port = match row.identity.port {
            Common::One(port) => port.to_string(),
            Common::Unknown | Common::Several(_) => "other".to_owned(),
        };
        let p99 = counters.clean.quantile(0.99);
        let handshake = p99.map_or("-".to_owned(), |us| format!("{us} us"));
        println!(
            "{:6} {port:>5}: {} established, {} failed, {} bad; 99 % of handshakes within {handshake}",
            row.identity.role.name(),
            counters.established,
            counters.failed(),
            row.bad(),
        );
    }
    Ok(())
}
