//! Connections whose segments nobody acknowledges.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    thread,
    time::Duration,
};

use super::{figure_of, watch};
use crate::lab::{self, Wire};

#[test]
fn what_is_not_acknowledged_is_stalled_until_it_is() {
    const TEXT: &[u8] = b"is anybody there?";
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, 9261));
    let wire = Wire::new();
    let synfin = watch(&[&wire.near, &wire.far], &["1"]);
    let listener = wire.far.listen(at);
    let mut stalled = wire.near.pair_with(&listener, at);
    let mut other = wire.near.pair_with(&listener, at);
    // The whole namespace is quiet for long, and then it stalls without a record.
    thread::sleep(Duration::from_secs(2));
    let port = stalled.client.local_addr().expect("its address").port();
    wire.far.filter("silence", &format!("tcp sport {port} counter drop"));
    stalled.client.write_all(TEXT).expect("it is sent");
    other.send(TEXT);
    thread::sleep(Duration::from_secs(8));
    wire.far.unfilter("silence");
    let mut text = [0; TEXT.len()];
    stalled.server.read_exact(&mut text).expect("it arrives at last");
    thread::sleep(Duration::from_secs(3));
    let reports = synfin.finish().json_lines();

    let counts = |role: &str| -> Vec<_> {
        let rows = reports.iter().flat_map(|report| report["ports"].as_array().expect("ports"));
        let of_port = rows.filter(|row| row["role"] == role && row["port"] == at.port());
        of_port.map(|row| figure_of(row, "stalled").as_u64().expect("a count")).collect()
    };
    let mut client = counts("client");
    client.dedup();
    assert_eq!(client, [0, 1, 0]);
    let mut server = counts("server");
    server.dedup();
    assert_eq!(server, [0]);
}
