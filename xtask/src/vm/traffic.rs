//! The connections that are made in a machine, and what synfin must report of them.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

/// What is sent over each connection, from the end that closes first.
const DATA: &[u8] = b"data";

/// Makes the connections, one after the other. Each has a port of its own, so that what is wrong
/// in the report names its case.
pub(super) fn make() -> anyhow::Result<()> {
    let (client, server) = connect((Ipv4Addr::LOCALHOST, 7001).into())?;
    close_in_turn(client, server)?;
    let (client, server) = connect((Ipv6Addr::LOCALHOST, 7002).into())?;
    close_in_turn(server, client)?;
    let nobody_listens = SocketAddr::from((Ipv4Addr::LOCALHOST, 7003));
    let refused = TcpStream::connect(nobody_listens).map(drop).map_err(|error| error.kind());
    ensure!(refused == Err(ErrorKind::ConnectionRefused), "connecting to nobody: {refused:?}");
    Ok(())
}

/// What must be in the report after [`make`]; there is more in it.
fn expected() -> Value {
    let row = |role: &str, port: u16, figures: Value| {
        let mut row = json!({
            "role": role, "port": port, "owner": "init",
            "adopted": 0, "open": 0, "pending": 0, "abnormal": 0,
            "established": 1, "failed": 0, "closed": 1,
            "handshake": { "clean": { "count": 1 }, "unmeasured": { "count": 0 } },
        });
        merge(&mut row, figures);
        row
    };
    let first_to_close = json!({
        "closes": { "closed_by_us": 1 }, "time_wait": { "now": 1, "entered": 1 },
        "bytes_sent": DATA.len(), "bytes_received": 0,
    });
    let last_to_close = json!({
        "closes": { "closed_by_peer": 1 }, "time_wait": { "now": 0, "entered": 0 },
        "bytes_sent": 0, "bytes_received": DATA.len(),
    });
    let refused = json!({
        "failures": { "connect_refused_rst": 1 },
        "established": 0, "failed": 1, "closed": 0, "handshake": { "clean": { "count": 0 } },
    });
    json!({
        // Hooks that the kernel refused would be named here.
        "host": { "limitations": [] },
        "ports": [
            row("client", 7001, first_to_close.clone()),
            row("server", 7001, last_to_close.clone()),
            row("client", 7002, last_to_close),
            row("server", 7002, first_to_close),
            row("client", 7003, refused),
        ],
        // Nothing is lost on the way, whatever the number of records is.
        "events": {
            "lost": 0, "filtered": 0, "in_flight": 0, "missed": 0, "gaps": 0, "unreadable": 0,
        },
    })
}

fn connect(to: SocketAddr) -> anyhow::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(to).with_context(|| format!("cannot listen on {to}"))?;
    let client = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
    let (server, _) = listener.accept()?;
    Ok((client, server))
}

/// The second end closes only when the first one's FIN has arrived.
fn close_in_turn(mut first: TcpStream, mut second: TcpStream) -> anyhow::Result<()> {
    first.write_all(DATA)?;
    drop(first);
    let mut received = Vec::new();
    second.read_to_end(&mut received)?;
    ensure!(received == DATA, "received {received:?}");
    Ok(())
}

/// All that is not as it must be in synfin's report on `kernel`.
pub(super) fn check(stdout: &str, kernel: &str) -> Vec<String> {
    let report: Value = match serde_json::from_str(stdout) {
        Ok(report) => report,
        Err(error) => return vec![format!("the report is not one JSON object: {error}")],
    };
    let mut expected = expected();
    // The machine runs what it was to run.
    expected["host"]["kernel"] = kernel.into();
    expected["events"]["delivered"] = report["events"]["seen"].clone();
    let mut wrong = Vec::new();
    compare("", &expected, &report, &mut wrong);
    wrong
}

/// Objects may hold more than is expected; rows are found by role and port, in any order.
fn compare(path: &str, expected: &Value, found: &Value, wrong: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(members), Value::Object(_)) => {
            for (name, expected) in members {
                compare(&format!("{path}.{name}"), expected, &found[name], wrong);
            }
        }
        (Value::Array(rows), Value::Array(_)) if !rows.is_empty() => {
            for row in rows {
                let path = format!("{path}[{} {}]", row["role"], row["port"]).replace('"', "");
                match row_like(row, found) {
                    Some(found) => compare(&path, row, found, wrong),
                    None => wrong.push(format!("{} is missing", path.trim_start_matches('.'))),
                }
            }
        }
        _ if expected == found => {}
        _ => wrong.push(format!("{} is {found}, not {expected}", path.trim_start_matches('.'))),
    }
}

fn row_like<'a>(expected: &Value, rows: &'a Value) -> Option<&'a Value> {
    let is_it = |row: &&Value| ["role", "port"].iter().all(|key| row[key] == expected[key]);
    rows.as_array()?.iter().find(is_it)
}

/// Puts the members of `from` into `into`, objects into objects.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good_report() -> Value {
        let mut report = expected();
        report["host"]["kernel"] = "6.1".into();
        report["events"]["seen"] = 30.into();
        report["events"]["delivered"] = 30.into();
        report["ports"].as_array_mut().unwrap().reverse();
        report["ports"][0]["more"] = "than is expected".into();
        report
    }

    #[test]
    fn a_report_as_it_must_be_passes() {
        assert_eq!(check(&good_report().to_string(), "6.1"), [""; 0]);
    }

    #[test]
    fn all_that_is_wrong_is_named() {
        let mut report = good_report();
        report["host"]["limitations"] = json!(["no hook"]);
        report["events"]["delivered"] = 29.into();
        let rows = report["ports"].as_array_mut().unwrap();
        rows[0]["failures"] = json!({});
        rows.remove(1);
        let mut wrong = check(&report.to_string(), "5.10");
        wrong.sort();
        assert_eq!(
            wrong,
            [
                "events.delivered is 29, not 30",
                r#"host.kernel is "6.1", not "5.10""#,
                r#"host.limitations is ["no hook"], not []"#,
                "ports[client 7003].failures.connect_refused_rst is null, not 1",
                "ports[server 7002] is missing",
            ]
        );
    }

    #[test]
    fn what_is_no_report_does_not_pass() {
        for text in ["", "{}", "[]", "null", "{}{}"] {
            assert!(!check(text, "6.1").is_empty(), "{text:?}");
        }
    }
}
