//! The traffic of open connections, beside what `ss -i` shows of them.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use crate::lab::{self, Link, Namespace, Synfin, eventually};

const PORT: u16 = 7361;

/// What `ss -i` prints of each connection, by local and remote port.
fn of_ss(namespace: &Namespace) -> BTreeMap<(u16, u16), Vec<String>> {
    let port = |end: &str| -> u16 {
        let (_, port) = end.rsplit_once(':').expect("a port");
        port.parse().expect("a number")
    };
    let of = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        ((port(&words[3]), port(&words[4])), words)
    };
    namespace.run("ss -tniOH").lines().map(of).collect()
}

/// The value after `name:`; without it, `ss` has omitted a zero.
fn value<'a>(words: &'a [String], name: &str) -> &'a str {
    let value = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or("0")
}

fn count(words: &[String], name: &str) -> u64 {
    let value = value(words, name);
    // `retrans:NOW/ALL`
    let value = value.rsplit_once('/').map_or(value, |(_, all)| all);
    value.parse().unwrap_or_else(|_| panic!("{name} is {value}"))
}

/// Microseconds, of which `ss` prints milliseconds (of `rtt:MEAN/DEVIATION` the mean).
fn micros(words: &[String], name: &str) -> f64 {
    let value = value(words, name);
    let value = value.split_once('/').map_or(value, |(mean, _)| mean);
    value.parse::<f64>().unwrap_or_else(|_| panic!("{name} is {value}")) * 1000.0
}

#[test]
fn open_connections_show_the_traffic_that_ss_shows() {
    let _lab = lab::enter();
    let at = SocketAddr::from((Link::FAR, PORT));
    let link = Link::new(Duration::from_millis(30), &[]);
    let listener = link.far.listen(at);
    let mut pairs = [(); 3].map(|()| link.near.pair_with(&listener, at));
    let one_in_eight = format!("tcp dport {PORT} meta length > 300 numgen inc mod 8 0 drop");
    link.far.filter("losses", &one_in_eight);
    for pair in &mut pairs {
        (0..8).for_each(|_| pair.send(&[0; 500]));
        pair.answer(b"answer");
    }
    let shown = link.both().map(|namespace| {
        eventually("all data is acknowledged", || {
            let shown = of_ss(namespace);
            let waits = |words: &Vec<String>| words.iter().any(|it| it.starts_with("unacked:"));
            (!shown.values().any(waits)).then_some(shown)
        })
    });
    let [near, far] = &shown;
    let ids = lab::ids(link.both());
    let open = Synfin::run(["connections", "--open", "-o", "json", "-N", &ids]).json_lines();
    assert_eq!(open.len(), 6, "{open:#?}");
    let mut retransmits = 0;
    for line in &open {
        let port = |name: &str| line[name].as_u64().expect("a port") as u16;
        let is_client = line["role"] == "client";
        let of_ss = if is_client { near } else { far };
        let words = &of_ss[&(port("local_port"), port("remote_port"))];
        // `ss` counts the SYN of a client.
        let sent = count(words, "bytes_acked") - u64::from(is_client);
        assert_eq!(line["bytes_sent"], sent, "{line} {words:?}");
        assert_eq!(line["bytes_received"], count(words, "bytes_received"), "{line} {words:?}");
        assert_eq!(line["retransmits"], count(words, "retrans"), "{line} {words:?}");
        retransmits += line["retransmits"].as_u64().expect("a count");
        for (column, name) in [("rtt_us", "rtt"), ("min_rtt_us", "minrtt")] {
            let us = line[column].as_f64().expect("a duration");
            let difference = (us - micros(words, name)).abs();
            assert!(difference <= us / 100.0, "{column}: {line} {words:?}");
        }
        assert_eq!([&line["sent_per_s"], &line["received_per_s"]], [&Value::Null; 2], "one scan");
    }
    assert!(retransmits >= 3, "{retransmits} of 24 segments were retransmitted");

    let report = Synfin::run(["report", "--once", "-o", "json", "-N", &ids]).report();
    let client = report.rows().iter().find(|row| row["role"] == "client").expect("a row");
    assert_eq!([&client["open"], &client["preexisting"]], [&json!(3); 2]);
    let most = open.iter().filter(|line| line["role"] == "client").map(|line| &line["rtt_us"]);
    let most = most.filter_map(Value::as_u64).max().expect("a duration");
    let p99 = client["rtt"]["open_p99_us"].as_u64().expect("a duration");
    assert!((most..=most + most / 50).contains(&p99), "{p99} of at most {most}");
    drop(pairs);
}
