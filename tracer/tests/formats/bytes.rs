//! Decoding of records and recordings, from valid and arbitrary bytes.
//! `PROPTEST_CASES` sets the number of cases of each test.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use synfin::{
    tcp::coverage::{Coverage, OptionalHook},
    trace::{
        accept_queue::AcceptQueue,
        counters::{Counters, KERNEL_COUNTERS, KernelCounters, NetnsCounters, PortCount, Tick},
        decode::decode,
        event::{
            Accepted, Closing, Input, Opening, ParentListener, Reset, ResetDirection,
            TimeWaitChange, TimeWaitEntry, TimeWaitKind, Transition,
        },
        filter::Filter,
        ids::{ListenerId, MptcpId},
        names::{CgroupName, Container, Names},
        recording::{Frame, MAGIC, Reader, RecordingError},
        scan::{
            EphemeralPorts, NamespaceList, ScanBegin, ScanEnd, ScannedSocket, ScannedTimeWait,
            TimeWaitReuse, Transfer,
        },
        session::Session,
        time::ClockAnchor,
    },
};
use synfin_common::{
    event::{self as wire, Flags, Kind},
    reset::ResetReason,
    state::TcpState,
};
use synfin_testkit::{
    encode::{batch, scan, sized},
    recorded,
};
use zerocopy::IntoBytes;

/// The number of cases from the environment, or 1,000.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: 1_000, ..config },
    }
}

fn decoded(frame: &Frame) -> Vec<Input> {
    let mut inputs = Vec::new();
    decode(frame, |input| inputs.push(input));
    inputs
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_decode_to_input(bytes in any_bytes()) {
        for frame in [Frame::Events(bytes.clone()), Frame::Scanned(bytes.clone())] {
            prop_assert_eq!(decoded(&frame).is_empty(), bytes.is_empty());
        }
    }

    #[test]
    fn almost_valid_records_decode_to_input(record in nearly_a_record(), len in 0..200u32) {
        let mut batch = len.to_le_bytes().to_vec();
        batch.extend(&record);
        prop_assert!(!decoded(&Frame::Events(batch.into())).is_empty());
        prop_assert!(!decoded(&Frame::Scanned(record.into())).is_empty());
    }

    #[test]
    fn records_are_decoded_as_they_were_encoded(inputs in vec(record(), 0..8)) {
        prop_assert_eq!(decoded(&Frame::Events(batch(&inputs).into())), inputs);
    }

    #[test]
    fn scans_are_decoded_as_they_were_encoded(inputs in vec(found_by_scan(), 0..8)) {
        prop_assert_eq!(decoded(&Frame::Scanned(scan(&inputs).into())), inputs);
    }

    #[test]
    fn an_unreadable_record_does_not_hide_the_next(bytes in vec(any::<u8>(), 0..200), next in record()) {
        let batch = [sized(&bytes), batch([&next])].concat();
        prop_assert_eq!(decoded(&Frame::Events(batch.into())).pop(), Some(next));
    }

    #[test]
    fn a_recording_is_read_as_it_was_written(frames in vec(frame(), 0..8)) {
        let read: Result<Vec<_>, _> = Reader::new(&recorded(&frames)[..])?.collect();
        prop_assert_eq!(read?, frames);
    }

    #[test]
    fn reading_any_bytes_as_a_recording_ends(bytes in any_bytes()) {
        match Reader::new(&bytes[..]) {
            Err(RecordingError::NotARecording | RecordingError::Version(_)) => {}
            Err(other) => prop_assert!(false, "{}", other),
            Ok(reader) => read_to_the_end(reader, &bytes)?,
        }
        let with_magic = [&MAGIC[..], &bytes].concat();
        read_to_the_end(Reader::new(&with_magic[..])?, &with_magic)?;
    }

    #[test]
    fn a_damaged_recording_is_read_up_to_the_damage(
        frames in vec(frame(), 1..6),
        place in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
    ) {
        let mut file = recorded(&frames);
        let place = MAGIC.len() + place.index(file.len() - MAGIC.len());
        file[place] ^= flip;
        let reader = Reader::new(&file[..])?;
        let good: Vec<_> = reader.map_while(Result::ok).collect();
        prop_assert!(good.len() < frames.len());
        prop_assert_eq!(&good, &frames[..good.len()]);
        read_to_the_end(Reader::new(&file[..])?, &file)?;
    }

    #[test]
    fn reading_frames_with_any_payload_ends(
        payload in vec(any::<u8>(), 0..64),
        kind in 0..9u8,
    ) {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[kind]);
        hasher.update(&payload);
        let mut file = MAGIC.to_vec();
        file.push(kind);
        file.extend((payload.len() as u32).to_le_bytes());
        file.extend(hasher.finalize().to_le_bytes());
        file.extend(payload);
        read_to_the_end(Reader::new(&file[..])?, &file)?;
    }
}

/// Reads on after the end, and checks the errors.
fn read_to_the_end(mut reader: Reader<&[u8]>, file: &[u8]) -> Result<(), TestCaseError> {
    let mut failed = false;
    for frame in reader.by_ref() {
        prop_assert!(!failed, "a frame after an error");
        match frame {
            Ok(frame) => drop(decoded(&frame)),
            Err(RecordingError::Truncated(offset) | RecordingError::Damaged { offset, .. }) => {
                prop_assert!((MAGIC.len() as u64..file.len() as u64).contains(&offset));
                failed = true;
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
    prop_assert!(reader.next().is_none());
    Ok(())
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

/// Bytes that begin like a record, and may have the length of one.
fn nearly_a_record() -> impl Strategy<Value = Vec<u8>> {
    let len = prop::sample::select(vec![1usize, 24, 32, 48, 56, 80, 96, 104, 112, 113]);
    (0..Kind::COUNT as u8, len).prop_flat_map(|(kind, len)| {
        vec(prop_oneof![0..14u8, any::<u8>()], len).prop_map(move |mut bytes| {
            bytes[0] = kind;
            bytes
        })
    })
}

fn state() -> impl Strategy<Value = TcpState> {
    prop::sample::select(&TcpState::ALL[..])
}

/// Two endpoints of one family. (An IPv4-mapped address is decoded as IPv4, so it would differ.)
fn endpoints() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let ports = any::<(u16, u16)>();
    let ip = prop_oneof![
        any::<[[u8; 4]; 2]>().prop_map(|ips| ips.map(IpAddr::from)),
        any::<[[u8; 16]; 2]>().prop_map(|ips| ips.map(|mut ip| {
            ip[0] = 0x20;
            IpAddr::from(ip)
        })),
    ];
    (ip, ports).prop_map(|([local, remote], (local_port, remote_port))| {
        (SocketAddr::new(local, local_port), SocketAddr::new(remote, remote_port))
    })
}

/// Flags that match the addresses and the PID.
fn flags(any: u32, endpoints: (SocketAddr, SocketAddr), by_owner: bool) -> Flags {
    let facts = [(Flags::IPV6, endpoints.0.is_ipv6()), (Flags::BY_OWNER, by_owner)];
    let flags = facts.iter().fold(
        any,
        |flags, (flag, is_so)| {
            if *is_so { flags | flag.0 } else { flags & !flag.0 }
        },
    );
    Flags(flags)
}

fn port_range() -> impl Strategy<Value = Option<(u16, u16)>> {
    prop::option::of((1..=u16::MAX, any::<u16>()))
}

fn milliseconds() -> impl Strategy<Value = Option<u32>> {
    prop::option::of(0..u32::MAX)
}

/// What only the first or the last transition of a connection carries.
fn details() -> impl Strategy<Value = (Option<Opening>, Option<Closing>, Option<MptcpId>)> {
    let opening = (any::<(u64, u64, u32, u32)>(), any::<(u32, u32)>(), vec(1..=u8::MAX, 0..=16));
    let opening = (opening, port_range()).prop_map(
        |(((cgroup, mptcp, netns_inode, drops), (depth, limit), comm), port_range)| {
            let accept_queue = AcceptQueue { depth, limit };
            let comm = (&comm).into();
            let listener = None;
            let opening =
                Opening { cgroup, netns_inode, accept_queue, drops, port_range, listener, comm };
            (Some(opening), None, MptcpId::new(mptcp))
        },
    );
    let times = [(); 4].map(|()| milliseconds());
    let closing = (any::<(u64, u64)>(), any::<(u32, u32, u32)>(), times).prop_map(
        |((bytes_acked, bytes_received), (unread, drops, segments_sent), times)| {
            let [idle_ms, min_rtt_us, window_limited_ms, buffer_limited_ms] = times;
            let closing = Closing {
                bytes_acked,
                bytes_received,
                unread,
                idle_ms,
                drops,
                min_rtt_us,
                segments_sent,
                window_limited_ms,
                buffer_limited_ms,
            };
            (None, Some(closing), None)
        },
    );
    prop_oneof![Just((None, None, None)), opening, closing]
}

/// Any record of a hook.
fn record() -> impl Strategy<Value = Input> {
    let who = (any::<(u64, u64, u32, u32)>(), any::<Option<u32>>(), endpoints());
    let what = (state(), state(), any::<[u8; 4]>(), any::<(u32, u32)>());
    let listener = prop::option::of((1..=u64::MAX, any::<u16>()).prop_map(|(sock, port)| {
        ParentListener { sock: ListenerId::new(sock).expect("not 0"), port }
    }));
    let transition = (who, what, details(), listener).prop_map(
        |(
            ((time, sock, netns, bits), pid, (local, remote)),
            (old, new, [err, err_soft, retransmits, probes], (rtt_us, total_retransmits)),
            (mut opening, closing, mut mptcp),
            listener,
        )| {
            if let Some(opening) = &mut opening {
                let is_child = (old, new) == (TcpState::Listen, TcpState::SynRecv);
                opening.listener = listener.filter(|_| is_child);
                mptcp = mptcp.filter(|_| new == TcpState::SynSent);
            }
            Input::Transition(Transition {
                time,
                sock,
                netns,
                old,
                new,
                local,
                remote,
                flags: flags(bits, (local, remote), pid.is_some()),
                err,
                err_soft,
                pid,
                rtt_us,
                retransmits,
                probes,
                total_retransmits,
                mptcp,
                opening,
                closing,
            })
        },
    );
    let way = (prop::sample::select(ResetReason::ALL), any::<bool>());
    let way = prop::option::of(way).prop_map(|sent| {
        sent.map_or(ResetDirection::Received, |(reason, answer)| ResetDirection::Sent {
            reason,
            answer,
        })
    });
    let reset = (any::<(u64, u64)>(), way)
        .prop_map(|((time, sock), direction)| Input::Reset(Reset { time, sock, direction }));
    let kind = prop::sample::select(
        &[TimeWaitKind::TimeWait, TimeWaitKind::FinWait2, TimeWaitKind::Nothing][..],
    );
    let entry = (any::<(u64, u64)>(), kind)
        .prop_map(|((time, sock), kind)| Input::TimeWaitEntry(TimeWaitEntry { time, sock, kind }));
    let change = (any::<(u64, u32)>(), endpoints(), any::<bool>()).prop_map(
        |((time, netns), (local, remote), is_gone)| {
            Input::TimeWaitChange(TimeWaitChange { time, netns, local, remote, is_gone })
        },
    );
    let accepted =
        any::<(u64, u64)>().prop_map(|(time, sock)| Input::Accepted(Accepted { time, sock }));
    prop_oneof![8 => transition, 1 => reset, 1 => entry, 2 => change, 1 => accepted]
}

/// Any result of a scan.
fn found_by_scan() -> impl Strategy<Value = Input> {
    let what = (any::<(u64, u64, u64)>(), state(), endpoints(), any::<Option<bool>>());
    let figures = (any::<[u32; 4]>(), any::<(u8, u32)>(), milliseconds());
    let more = (any::<u64>(), milliseconds(), milliseconds(), port_range());
    let transfer = (milliseconds(), any::<(u32, u64, u64)>()).prop_map(|(again, counts)| {
        let (segments_sent, bytes_acked, bytes_received) = counts;
        again.map(|total_retransmits| Transfer {
            total_retransmits,
            segments_sent,
            bytes_acked,
            bytes_received,
        })
    });
    let socket = (what, figures, more, (milliseconds(), transfer)).prop_map(
        |(
            ((time, sock, cgroup), state, (local, remote), port_by_connect),
            ([rtt_us, waiting, limit, drops], (retransmits, bits), idle_ms),
            (mptcp, data_received_ms, data_sent_ms, port_range),
            (min_rtt_us, transfer),
        )| {
            Input::ScannedSocket(ScannedSocket {
                time,
                sock,
                state,
                local,
                remote,
                flags: flags(bits, (local, remote), false),
                port_by_connect,
                retransmits,
                rtt_us,
                accept_queue: AcceptQueue { depth: waiting, limit },
                drops,
                idle_ms,
                cgroup,
                mptcp: MptcpId::new(mptcp),
                data_received_ms,
                data_sent_ms,
                port_range,
                min_rtt_us,
                transfer,
            })
        },
    );
    let time_wait = (any::<bool>(), any::<Option<bool>>(), endpoints(), any::<u32>()).prop_map(
        |(fin_wait2, port_by_connect, (local, remote), remaining_ms)| {
            Input::ScannedTimeWait(ScannedTimeWait {
                fin_wait2,
                port_by_connect,
                local,
                remote,
                remaining_ms,
            })
        },
    );
    prop_oneof![socket, time_wait]
}

#[expect(clippy::too_many_lines, reason = "it is a table of frames")]
fn frame() -> impl Strategy<Value = Frame> {
    let text = || ".{0,20}";
    let clock = any::<(u64, u64)>()
        .prop_map(|(monotonic_ns, realtime_ns)| ClockAnchor { monotonic_ns, realtime_ns });
    let sysctls = prop::collection::btree_map(text(), text(), 0..3);
    let namespaces = || prop::collection::btree_map(any::<u32>(), text(), 0..3);
    let filter = vec(any::<u32>(), 0..3).prop_map(|pids| Filter { pids, ..Filter::default() });
    let session = (
        text(),
        text(),
        text(),
        clock,
        vec(text(), 0..3),
        vec(text(), 0..3),
        any::<u32>(),
        (sysctls, filter, namespaces(), vec(any::<bool>(), 4)),
    )
        .prop_map(|(synfin, host, kernel, clock, hooks, limitations, ring_bytes, more)| {
            let (sysctls, filter, namespaces, shown) = more;
            let hooks_of = OptionalHook::ALL.iter().zip(shown).filter(|(_, is_shown)| *is_shown);
            let shown: Vec<_> = hooks_of.map(|(hook, _)| hook.name()).collect();
            Session {
                synfin,
                host,
                kernel,
                clock,
                hooks,
                limitations,
                ring_bytes,
                sysctls,
                filter,
                namespaces,
                inodes: [(1, ring_bytes)].into(),
                coverage: Coverage::from_names(&shown),
            }
        });
    let container = (text(), prop::option::of(text())).prop_map(|(id, pod)| Container { id, pod });
    let cgroup = (text(), prop::option::of(container))
        .prop_map(|(path, container)| CgroupName { path, container });
    let cgroups = prop::collection::btree_map(any::<u64>(), cgroup, 0..3);
    let inodes = prop::collection::btree_map(any::<u32>(), any::<u32>(), 0..3);
    let names = (cgroups, namespaces(), inodes).prop_map(|(cgroups, namespaces, inodes)| {
        Frame::Names(Names { cgroups, namespaces, inodes })
    });
    let scan_begin =
        any::<(u32, u64)>().prop_map(|(netns, time)| Frame::ScanBegin(ScanBegin { netns, time }));
    let reuse = prop::sample::select(
        &[TimeWaitReuse::Never, TimeWaitReuse::Loopback, TimeWaitReuse::Always][..],
    );
    let ephemeral_ports = (any::<[u16; 3]>(), reuse, any::<u32>()).prop_map(
        |([first, last, reserved], reuse, reuse_after_ms)| EphemeralPorts {
            first,
            last,
            reserved,
            reuse,
            reuse_after_ms,
        },
    );
    let kernel_counters = || {
        any::<(u64, [u64; KERNEL_COUNTERS.len()])>()
            .prop_map(|(time, counts)| KernelCounters { time, counts })
    };
    let facts = (prop::option::of(ephemeral_ports), prop::option::of(kernel_counters()));
    let what = (prop::option::of(text()), facts);
    let scan_end = (any::<(u32, u64, u64)>(), what).prop_map(
        |((netns, started, ended), (error, (ephemeral_ports, counters)))| {
            Frame::ScanEnd(ScanEnd { netns, started, ended, error, ephemeral_ports, counters })
        },
    );
    let port_count = any::<(u32, u16, u16, u64)>()
        .prop_map(|(netns, port, counted, count)| PortCount { netns, port, counted, count });
    let counts = any::<(u64, [[u64; Kind::COUNT]; 3], [u64; 4])>();
    let tick = (counts, prop::collection::vec(port_count, 0..3), any::<bool>()).prop_map(
        |((time, kinds, [refused, missed, skipped, recovered]), ports, awaits_scans)| {
            let [seen, lost, filtered] = kinds;
            let counters = Counters { seen, lost, filtered, refused, missed, skipped, recovered };
            Frame::Tick(Tick { time, counters, ports, awaits_scans })
        },
    );
    let counters = (any::<u32>(), kernel_counters())
        .prop_map(|(netns, counters)| Frame::Counters(NetnsCounters { netns, counters }));
    prop_oneof![
        session.prop_map(|session| Frame::Session(Box::new(session))),
        any_bytes().prop_map(Frame::Events),
        scan_begin,
        any_bytes().prop_map(Frame::Scanned),
        scan_end,
        tick,
        any_bytes().prop_map(Frame::SocketHolders),
        any_bytes().prop_map(Frame::ListenerHolders),
        names,
        (any::<u64>(), vec(any::<u32>(), 0..3)).prop_map(|(time, namespaces)| {
            Frame::Namespaces(NamespaceList { time, namespaces })
        }),
        counters,
    ]
}

/// A recording with one tick that has these counters.
fn recorded_tick(counters: serde_json::Value) -> Vec<u8> {
    let tick = Tick { time: 7, ..Tick::default() };
    let (empty, file) = (recorded(&[]), recorded(&[Frame::Tick(tick)]));
    let kind = file[empty.len()];
    let payload = serde_json::json!({ "time": 7, "counters": counters }).to_string();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload.as_bytes());
    let len = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&empty[..], &[kind], &len, &hasher.finalize().to_le_bytes(), payload.as_bytes()].concat()
}

#[test]
fn recordings_with_fewer_kinds_of_records_are_read() {
    let counts = |length: usize| serde_json::json!(vec![3u64; length]);
    let with = |seen, lost| {
        let counters = serde_json::json!({ "seen": seen, "lost": lost, "missed": 1 });
        Reader::new(&recorded_tick(counters)[..]).unwrap().next().unwrap()
    };
    // The number of kinds before TIME_WAITs were reported.
    let Ok(Frame::Tick(tick)) = with(counts(5), counts(5)) else {
        panic!("an older recording cannot be read");
    };
    assert_eq!(tick.counters.seen, std::array::from_fn(|kind| if kind < 5 { 3 } else { 0 }));
    assert_eq!(tick.counters.totals(), [15, 15, 0]);
    // A newer one has another version, which this version cannot read.
    assert!(with(counts(Kind::COUNT), counts(Kind::COUNT)).is_ok());
    for (seen, lost) in [(Kind::COUNT + 1, 5), (5, Kind::COUNT + 1)] {
        match with(counts(seen), counts(lost)) {
            Err(RecordingError::Damaged { offset, .. }) => assert_eq!(offset, MAGIC.len() as u64),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn time_wait_records_are_decoded_strictly() {
    let entry = |substate| {
        let kind = Kind::TimeWaitEntry as u8;
        let entry = wire::TimeWaitEntry { kind, substate, time: 5, sock: 9, ..Default::default() };
        decoded(&Frame::Events(sized(entry.as_bytes()).into()))
    };
    for state in TcpState::ALL {
        let understood = matches!(state, TcpState::TimeWait | TcpState::FinWait2);
        let input = &entry(state.number())[..];
        assert_eq!(matches!(input, [Input::TimeWaitEntry(_)]), understood, "{state:?}: {input:?}");
    }
    let nothing = TimeWaitEntry { time: 5, sock: 9, kind: TimeWaitKind::Nothing };
    assert_eq!(entry(0), [Input::TimeWaitEntry(nothing)]);
    // Too short for the addresses, or too long.
    for len in 0..=24 {
        let change = wire::TimeWaitChange { kind: Kind::TimeWaitExit as u8, ..Default::default() };
        let record = [change.as_bytes(), &vec![1; len]].concat();
        let input = decoded(&Frame::Events(sized(&record).into()));
        assert_eq!(matches!(input[..], [Input::TimeWaitChange(_)]), len == 8, "{len}: {input:?}");
    }
}

#[test]
fn ipv4_mapped_addresses_are_ipv4() {
    let mapped = "::ffff:192.0.2.1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let step = wire::Step {
        kind: Kind::Step as u8,
        old: TcpState::SynSent.number(),
        new: TcpState::Established.number(),
        flags: Flags::IPV6,
        ..wire::Step::default()
    };
    let ends = wire::AddressesV6 { local: mapped, remote: mapped };
    let record = [step.as_bytes(), ends.as_bytes()].concat();
    match &decoded(&Frame::Events(sized(&record).into()))[..] {
        [Input::Transition(transition)] => {
            assert_eq!(transition.local.ip().to_string(), "192.0.2.1");
            assert_eq!(transition.remote.ip().to_string(), "192.0.2.1");
        }
        other => panic!("{other:?}"),
    }
}
