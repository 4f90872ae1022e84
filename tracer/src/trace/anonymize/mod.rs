//! Anonymization of recordings, frame by frame: pseudonyms replace addresses, names, process ids and
//! other identifiers. Ports, times, states, amounts, settings and the kernel release are kept, so a
//! replay gives the same figures.

pub(crate) mod pseudonyms;

use std::{collections::BTreeMap, net::IpAddr};

pub use pseudonyms::Key;
use pseudonyms::{Mapping, NameKind, NumberKind};
use zerocopy::IntoBytes;

use crate::trace::{
    counters::NetnsCounters,
    filter::Filter,
    ids::{HOST_NETNS, NetnsId},
    names::{CgroupName, Container, Names},
    recording::Frame,
    scan::NamespaceList,
    session::Session,
    wire::{
        self, Addresses, AddressesV4, AddressesV6, Flags, Record, ScanRecord, SocketHolder, Step,
    },
};

/// A record of an unknown kind. It replaces unreadable records, because these may contain anything.
const UNREADABLE_RECORD: &[u8] = &[u8::MAX];

/// A scan record of an unknown kind. It replaces the unreadable rest of a frame.
const UNREADABLE_SCAN: u8 = u8::MAX;

/// Anonymizes frames. Anonymizers with the same key use the same pseudonyms.
pub struct Anonymizer(Mapping);

impl Anonymizer {
    /// Creates an anonymizer with this key.
    pub fn new(key: Key) -> Self {
        Self(Mapping::new(key))
    }

    /// The anonymized form of a frame.
    pub fn frame(&mut self, frame: &Frame) -> Frame {
        match frame {
            Frame::Session(session) => Frame::Session(Box::new(self.session(session))),
            Frame::Events(batch) => Frame::Events(self.events(batch).into()),
            Frame::ScanBegin(begin) => {
                let mut begin = begin.clone();
                begin.netns = self.netns(begin.netns);
                Frame::ScanBegin(begin)
            }
            Frame::Scanned(found) => Frame::Scanned(self.scanned(found).into()),
            Frame::ScanEnd(end) => {
                let mut end = end.clone();
                end.netns = self.netns(end.netns);
                // The error contains the path of the namespace.
                end.error = end.error.map(|_| "the scan failed".to_owned());
                Frame::ScanEnd(end)
            }
            Frame::Tick(tick) => {
                let mut tick = tick.clone();
                for count in &mut tick.ports {
                    count.netns = self.netns(count.netns);
                }
                Frame::Tick(tick)
            }
            Frame::SocketHolders(held) => Frame::SocketHolders(self.socket_holders(held).into()),
            Frame::ListenerHolders(held) => {
                Frame::ListenerHolders(self.socket_holders(held).into())
            }
            Frame::Names(names) => Frame::Names(self.names(names)),
            Frame::Namespaces(list) => {
                let namespaces = list.namespaces.iter().map(|&id| self.netns(id)).collect();
                Frame::Namespaces(NamespaceList { time: list.time, namespaces })
            }
            Frame::Counters(read) => {
                let NetnsCounters { netns, counters } = *read;
                Frame::Counters(NetnsCounters { netns: self.netns(netns), counters })
            }
        }
    }

    fn session(&mut self, session: &Session) -> Session {
        let namespaces = session.namespaces.iter();
        // All fields are listed: a new field does not compile until it is handled here.
        Session {
            synfin: session.synfin.clone(),
            host: self.0.name(NameKind::Host, session.host.as_bytes()),
            kernel: session.kernel.clone(),
            clock: session.clock,
            hooks: session.hooks.clone(),
            coverage: session.coverage,
            limitations: session.limitations.iter().map(|text| without_paths(text)).collect(),
            ring_bytes: session.ring_bytes,
            sysctls: session.sysctls.clone(),
            filter: self.filter(&session.filter),
            namespaces: namespaces.map(|(&id, name)| self.namespace(id, name)).collect(),
            inodes: BTreeMap::new(),
        }
    }

    fn filter(&mut self, filter: &Filter) -> Filter {
        let mut filter = filter.clone();
        for pid in &mut filter.pids {
            *pid = self.process(*pid);
        }
        for netns in &mut filter.namespaces {
            *netns = self.netns(*netns);
        }
        for network in filter.local.iter_mut().chain(&mut filter.remote) {
            *network = network.with_address(|address| self.0.address(address));
        }
        if let Some(cgroup) = &mut filter.cgroup {
            cgroup.path = self.0.path(NameKind::Cgroup, &cgroup.path);
            if let Some(kernel) = &mut cgroup.kernel {
                kernel.id = self.cgroup(kernel.id);
            }
        }
        filter
    }

    fn names(&mut self, names: &Names) -> Names {
        let namespaces = names.namespaces.iter().map(|(&id, name)| self.namespace(id, name));
        let namespaces = namespaces.collect();
        let cgroups = names.cgroups.iter().map(|(&id, name)| {
            let container = name.container.as_ref().map(|container| Container {
                id: self.0.name(NameKind::Container, container.id.as_bytes()),
                pod: container.pod.as_ref().map(|pod| self.0.path(NameKind::Pod, pod)),
            });
            let path = self.0.path(NameKind::Cgroup, &name.path);
            (self.cgroup(id), CgroupName { path, container })
        });
        let cgroups = cgroups.collect();
        // A pseudonym replaces both numbers of a namespace.
        Names { cgroups, namespaces, inodes: BTreeMap::new() }
    }

    fn namespace(&mut self, id: NetnsId, name: &str) -> (NetnsId, String) {
        let name = match name {
            HOST_NETNS => name.to_owned(),
            _ => self.0.name(NameKind::Namespace, name.as_bytes()),
        };
        (self.netns(id), name)
    }

    fn events(&mut self, batch: &[u8]) -> Vec<u8> {
        let mut events = Vec::with_capacity(batch.len());
        for record in wire::records(batch) {
            match record.ok().and_then(Record::parse) {
                Some(record) => self.record(record).append_to(&mut events),
                None => wire::append(&mut events, UNREADABLE_RECORD),
            }
        }
        events
    }

    fn record(&mut self, record: Record) -> Record {
        match record {
            Record::Step(step, addresses) => {
                Record::Step(self.step(step), self.addresses(addresses))
            }
            Record::Opening(opening, addresses) => {
                let opening = wire::Opening {
                    step: self.step(opening.step),
                    cgroup: self.cgroup(opening.cgroup),
                    comm: self.comm(opening.comm),
                    parent: self.parent(opening.parent),
                    netns_inode: self.netns(opening.step.netns),
                    ..opening
                };
                Record::Opening(opening, self.addresses(addresses))
            }
            Record::Established(established, addresses) => {
                let established = wire::Established {
                    step: self.step(established.step),
                    mptcp: self.parent(established.mptcp),
                    ..established
                };
                Record::Established(established, self.addresses(addresses))
            }
            Record::Closing(closing, addresses) => {
                let closing = wire::Closing { step: self.step(closing.step), ..closing };
                Record::Closing(closing, self.addresses(addresses))
            }
            Record::ResetReceived(reset) => Record::ResetReceived(self.reset(reset)),
            Record::ResetSent(reset) => Record::ResetSent(self.reset(reset)),
            Record::TimeWaitEntry(entry) => Record::TimeWaitEntry(wire::TimeWaitEntry {
                sock: self.socket(entry.sock),
                reserved: [0; 6],
                ..entry
            }),
            Record::FinWait2ToTimeWait(change, addresses) => {
                Record::FinWait2ToTimeWait(self.time_wait_change(change), self.addresses(addresses))
            }
            Record::TimeWaitExit(change, addresses) => {
                Record::TimeWaitExit(self.time_wait_change(change), self.addresses(addresses))
            }
            Record::Accepted(accepted) => Record::Accepted(wire::Accepted {
                sock: self.socket(accepted.sock),
                reserved: [0; 7],
                ..accepted
            }),
        }
    }

    fn step(&mut self, step: Step) -> Step {
        Step {
            sock: self.socket(step.sock),
            netns: self.netns(step.netns),
            pid: self.process(step.pid),
            reserved: 0,
            ..step
        }
    }

    fn reset(&mut self, reset: wire::Reset) -> wire::Reset {
        wire::Reset { sock: self.socket(reset.sock), reserved: 0, ..reset }
    }

    fn time_wait_change(&mut self, change: wire::TimeWaitChange) -> wire::TimeWaitChange {
        wire::TimeWaitChange { netns: self.netns(change.netns), reserved: [0; 3], ..change }
    }

    fn addresses(&mut self, addresses: Addresses) -> Addresses {
        match addresses {
            Addresses::V4(AddressesV4 { local, remote }) => {
                let [local, remote] = [local, remote].map(|address| {
                    let [a, b, c, d, ..] = self.address(false, padded(address));
                    [a, b, c, d]
                });
                Addresses::V4(AddressesV4 { local, remote })
            }
            Addresses::V6(AddressesV6 { local, remote }) => {
                let [local, remote] = [local, remote].map(|address| self.address(true, address));
                Addresses::V6(AddressesV6 { local, remote })
            }
        }
    }

    fn scanned(&mut self, found: &[u8]) -> Vec<u8> {
        let mut scanned = Vec::with_capacity(found.len());
        for record in wire::scan_records(found) {
            match record {
                Ok(record) => scanned.extend_from_slice(self.scan_record(record).as_bytes()),
                Err(wire::Unreadable) => scanned.push(UNREADABLE_SCAN),
            }
        }
        scanned
    }

    fn scan_record(&mut self, record: ScanRecord) -> ScanRecord {
        match record {
            ScanRecord::Socket(mut socket) => {
                let ipv6 = socket.flags.contains(Flags::IPV6);
                socket.sock = self.socket(socket.sock);
                socket.cgroup = self.cgroup(socket.cgroup);
                socket.mptcp = self.parent(socket.mptcp);
                socket.local_addr = self.address(ipv6, socket.local_addr);
                socket.remote_addr = self.address(ipv6, socket.remote_addr);
                ScanRecord::Socket(socket)
            }
            ScanRecord::TimeWait(mut time_wait) => {
                let ipv6 = time_wait.ipv6 != 0;
                time_wait.local_addr = self.address(ipv6, time_wait.local_addr);
                time_wait.remote_addr = self.address(ipv6, time_wait.remote_addr);
                time_wait.reserved = 0;
                ScanRecord::TimeWait(time_wait)
            }
        }
    }

    fn socket_holders(&mut self, held: &[u8]) -> Vec<u8> {
        let mapped = wire::socket_holders(held).map(|holder| SocketHolder {
            sock: self.socket(holder.sock),
            time: holder.time,
            start_time: holder.start_time,
            cgroup: self.cgroup(holder.cgroup),
            pid: self.process(holder.pid),
            parent: self.process(holder.parent),
            comm: self.comm(holder.comm),
        });
        mapped.flat_map(|holder| holder.as_bytes().to_vec()).collect()
    }

    /// Maps 16 bytes of IPv6, or 4 of IPv4 and zeros.
    fn address(&mut self, ipv6: bool, bytes: [u8; 16]) -> [u8; 16] {
        let [a, b, c, d, ..] = bytes;
        let address = if ipv6 { IpAddr::from(bytes) } else { IpAddr::from([a, b, c, d]) };
        match self.0.address(address) {
            IpAddr::V6(mapped) => mapped.octets(),
            IpAddr::V4(mapped) => padded(mapped.octets()),
        }
    }

    fn comm(&self, comm: [u8; 16]) -> [u8; 16] {
        let name = comm.split(|&byte| byte == 0).next().unwrap_or_default();
        let mut mapped = [0; 16];
        let name = self.0.name(NameKind::Process, name);
        mapped.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        mapped
    }

    fn socket(&mut self, sock: u64) -> u64 {
        self.0.number(NumberKind::Socket, sock)
    }

    /// The address of an MPTCP socket or a listener, if there is one.
    fn parent(&mut self, sock: u64) -> u64 {
        if sock == 0 { 0 } else { self.socket(sock) }
    }

    fn cgroup(&mut self, id: u64) -> u64 {
        self.0.number(NumberKind::Cgroup, id)
    }

    fn netns(&mut self, id: NetnsId) -> NetnsId {
        self.0.number_u32(NumberKind::Namespace, id)
    }

    fn process(&mut self, pid: u32) -> u32 {
        self.0.number_u32(NumberKind::Process, pid)
    }
}

fn padded(ipv4: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&ipv4);
    bytes
}

/// A message of synfin, without the paths of the host that the message contains.
fn without_paths(text: &str) -> String {
    let words = text.split(' ').map(|word| if word.contains('/') { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{decode::decode, event::Input};

    fn anonymizer() -> Anonymizer {
        Anonymizer::new(Key::from_secret(b"a"))
    }

    #[test]
    fn unreadable_records_are_dropped_and_stay_unreadable() {
        let batches: [&[u8]; 5] = [
            b"\x06\0\0\0secret",
            b"\x07\0\0\0\0secret",
            b"secret",
            b"\x01\0\0\0\x03\xff\0\0\0secret",
            b"\x07\0\0\0\x03secret\x07\0\0\0\x05secret",
        ];
        let inputs = |frame: &Frame| {
            let mut inputs = Vec::new();
            decode(frame, |input| inputs.push(input));
            inputs
        };
        for bytes in batches {
            let frames: [fn(bytes::Bytes) -> Frame; 2] = [Frame::Events, Frame::Scanned];
            for frame in frames.map(|frame| frame(bytes::Bytes::from_static(bytes))) {
                let mapped = anonymizer().frame(&frame);
                assert_eq!(inputs(&mapped), inputs(&frame));
                let (Frame::Events(bytes) | Frame::Scanned(bytes)) = mapped else { panic!() };
                assert!(!bytes.windows(6).any(|window| window == b"secret"), "{bytes:?}");
            }
        }
        assert_eq!(
            anonymizer().frame(&Frame::SocketHolders(bytes::Bytes::from_static(b"secret"))),
            Frame::SocketHolders(bytes::Bytes::new())
        );
        assert_eq!(inputs(&Frame::Events(UNREADABLE_RECORD.into())), [Input::UnreadableRecord]);
    }

    #[test]
    fn messages_contain_no_paths() {
        assert_eq!(without_paths("no scan (/tmp/me: denied)"), "no scan … denied)");
    }
}
