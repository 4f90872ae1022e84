//! Connections whose data is not acknowledged.

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use serde_json::Value;

use super::{column_of, watch};
use crate::lab::{self, Wire};

#[test]
fn a_connection_is_stalled_until_its_data_is_acknowledged() {
    const TEXT: &[u8] = b"delayed data";
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, 9261));
    let wire = Wire::new();
    let synfin = watch(&[&wire.near, &wire.far], &["1"]);
    let listener = wire.far.listen(at);
    let mut stalled = wire.near.pair_with(&listener, at);
    let mut other = wire.near.pair_with(&listener, at);
    let wait_for = |what: &str, column: &str, count: u64| {
        synfin.wait_for_printed(what, |report| {
            count_of(report, "client", at.port(), column) == Some(count)
        });
    };
    wait_for("both connections", "open", 2);
    // Before the connection stalls, the namespace has no event for a whole interval.
    wait_for("both connections again", "open_start", 2);
    let port = stalled.client.local_addr().expect("its address").port();
    wire.far.filter("silence", &format!("tcp sport {port} counter drop"));
    stalled.client.write_all(TEXT).expect("the data is sent");
    other.send(TEXT);
    wait_for("the stalled one", "stalled", 1);
    wire.far.unfilter("silence");
    let mut text = [0; TEXT.len()];
    stalled.server.read_exact(&mut text).expect("the data arrives late");
    wait_for("no stalled connection", "stalled", 0);
    let reports = synfin.finish().json_lines();

    let counts = |role| {
        let counts =
            reports.iter().filter_map(|report| count_of(report, role, at.port(), "stalled"));
        let mut counts: Vec<_> = counts.collect();
        counts.dedup();
        counts
    };
    assert_eq!(counts("client"), [0, 1, 0]);
    assert_eq!(counts("server"), [0]);
}

/// A count in a row of a report; `None` without such a row.
fn count_of(report: &Value, role: &str, port: u16, column: &str) -> Option<u64> {
    let mut rows = report["ports"].as_array().expect("ports").iter();
    let row = rows.find(|row| row["role"] == role && row["port"] == port)?;
    Some(column_of(row, column).as_u64().expect("a count"))
}
