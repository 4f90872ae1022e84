//! Pseudonyms of addresses, names and numbers. A key determines the pseudonym of each value. Without
//! the key, nobody can reverse a pseudonym or test guesses against it. Addresses keep shared prefixes,
//! by Crypto-PAn's construction over keyed BLAKE3.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
};

/// Limit of each cache. A pseudonym takes some microseconds to compute.
const CACHE_LIMIT: usize = 1 << 17;

/// Bits of the largest process id (`PID_MAX_LIMIT`, `linux/threads.h`).
const PROCESS_BITS: u32 = 22;

/// Rounds of the Feistel network, as many as in FF1 (NIST SP 800-38G).
const ROUNDS: u8 = 10;

/// Networks that keep their prefix, because it has the same meaning on every host. Other addresses keep
/// the bits that they share with one of these prefixes: otherwise they could be mapped into it.
const KEPT: [KeptPrefix; 7] = [
    KeptPrefix::new(Ipv6Addr::UNSPECIFIED, 128),
    KeptPrefix::new(Ipv6Addr::LOCALHOST, 128),
    KeptPrefix::new(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 128),
    KeptPrefix {
        whole: true,
        ..KeptPrefix::new(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x7f00, 0), 104)
    },
    // Multicast, so that a unicast address never becomes one.
    KeptPrefix::new(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xe000, 0), 100),
    KeptPrefix::new(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
    KeptPrefix::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
];

struct KeptPrefix {
    network: u128,
    length: u32,
    /// Whether the bits after the prefix are kept as well.
    whole: bool,
}

impl KeptPrefix {
    const fn new(network: Ipv6Addr, length: u32) -> Self {
        Self { network: network.to_bits(), length, whole: false }
    }

    /// Whether the bit after this prefix of an address is kept.
    fn keeps_bit(&self, prefix: u128, length: u32) -> bool {
        let is_before = length < self.length && prefix == prefix_of(self.network, length);
        let is_within = length >= self.length && prefix_of(prefix, self.length) == self.network;
        is_before || self.whole && is_within
    }
}

/// The key that determines all pseudonyms.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// A key of random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key derived from a secret of any length. The secret must be hard to guess.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self(blake3::derive_key("synfin 2026-11-23 anonymized recordings", secret))
    }

    fn hash(&self, kind: &str, value: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        // The separator keeps any kind from being a prefix of another.
        hasher.update(kind.as_bytes()).update(&[0]).update(value);
        *hasher.finalize().as_bytes()
    }

    /// 64 bits of the keyed hash of a value.
    fn number(&self, kind: &str, value: &[u8]) -> u64 {
        let [word, ..]: [u64; 4] = zerocopy::transmute!(self.hash(kind, value));
        u64::from_le(word)
    }
}

/// Kinds of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum NumberKind {
    Socket,
    Process,
    Namespace,
    Cgroup,
}

/// Kinds of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameKind {
    Host,
    Process,
    Namespace,
    Cgroup,
    Container,
    Pod,
}

/// Maps values to pseudonyms, and caches those of addresses and numbers.
pub(super) struct Mapping {
    key: Key,
    addresses: Cache<u128, u128>,
    numbers: Cache<(NumberKind, u64), u64>,
}

impl Mapping {
    pub(super) fn new(key: Key) -> Self {
        Self { key, addresses: Cache::default(), numbers: Cache::default() }
    }

    /// The pseudonym of an address. The pseudonyms of two addresses share as many leading bits as the
    /// addresses (Crypto-PAn: Xu, Fan, Ammar, Moon 2002), so that networks stay networks.
    pub(super) fn address(&mut self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(self.bits(v6.to_bits()))),
            // IPv4-mapped, so that both forms have the same pseudonym.
            IpAddr::V4(v4) => {
                Ipv6Addr::from_bits(self.bits(v4.to_ipv6_mapped().to_bits())).to_canonical()
            }
        }
    }

    fn bits(&mut self, address: u128) -> u128 {
        let key = &self.key;
        self.addresses.get(address, || {
            let flips = (0..)
                .zip(address.to_be_bytes())
                .map(|(index, byte)| flips(key, address, index, byte));
            let mut octets = [0; 16];
            octets.iter_mut().zip(flips).for_each(|(octet, flips)| *octet = flips);
            address ^ u128::from_be_bytes(octets)
        })
    }

    /// The pseudonym of a number, different for each number. 0 means none and is kept.
    pub(super) fn number(&mut self, kind: NumberKind, value: u64) -> u64 {
        let key = &self.key;
        let (label, bits, minimum) = match kind {
            NumberKind::Socket => ("socket", 64, 1),
            NumberKind::Cgroup => ("cgroup", 64, 1),
            NumberKind::Namespace => ("namespace", 32, 1),
            NumberKind::Process if value >> PROCESS_BITS == 0 => ("process", PROCESS_BITS, 1),
            // No kernel has these, but a damaged recording may.
            NumberKind::Process => ("large process", 32, 1 << PROCESS_BITS),
        };
        if value == 0 {
            return 0;
        }
        self.numbers.get((kind, value), || {
            // Applying the permutation again (cycle walking) keeps the mapping one to one.
            let mut mapped = permute(key, label, bits, value);
            while mapped < minimum {
                mapped = permute(key, label, bits, mapped);
            }
            mapped
        })
    }

    /// The pseudonym of a number of 32 bits.
    #[expect(clippy::cast_possible_truncation, reason = "numbers of 32 bits map to 32 bits")]
    pub(super) fn number_u32(&mut self, kind: NumberKind, value: u32) -> u32 {
        self.number(kind, value.into()) as u32
    }

    /// The pseudonym of a name, as long as the longest process name. The empty name is kept.
    pub(super) fn name(&self, kind: NameKind, name: &[u8]) -> String {
        let (label, letter) = match kind {
            NameKind::Host => ("host name", 'h'),
            NameKind::Process => ("process name", 'p'),
            NameKind::Namespace => ("namespace name", 'n'),
            NameKind::Cgroup => ("cgroup name", 'g'),
            NameKind::Container => ("container name", 'c'),
            NameKind::Pod => ("pod name", 'k'),
        };
        if name.is_empty() {
            return String::new();
        }
        // 52 bits: with one name for each possible row, two collide in one of 10⁸ recordings.
        format!("{letter}-{:013x}", self.key.number(label, name) >> 12)
    }

    /// The pseudonym of a path: each component has its own, which keeps the hierarchy.
    pub(super) fn path(&self, kind: NameKind, path: &str) -> String {
        let parts: Vec<_> = path.split('/').map(|part| self.name(kind, part.as_bytes())).collect();
        parts.join("/")
    }
}

/// The bits to flip in one byte of an address. Whether a bit flips depends on all bits before it.
fn flips(key: &Key, address: u128, index: u8, byte: u8) -> u8 {
    let first_bit = u32::from(index) * 8;
    // One hash provides a bit for each prefix that ends within this byte.
    let mut hash = None;
    (0..8).fold(0, |flips, depth| {
        let length = first_bit + depth;
        let prefix = prefix_of(address, length);
        if KEPT.iter().any(|kept| kept.keeps_bit(prefix, length)) {
            return flips;
        }
        let hash = hash.get_or_insert_with(|| {
            let mut input = [index; 17];
            input[..16].copy_from_slice(&prefix_of(address, first_bit).to_be_bytes());
            key.hash("address", &input)
        });
        // Prefixes are numbered like the nodes of a binary heap: 1, then 2 and 3, then 4 to 7.
        let node = (0x100 | usize::from(byte)) >> (8 - depth);
        let flip = hash[node / 8] >> (node % 8) & 1;
        flips | flip << (7 - depth)
    })
}

/// A permutation of the numbers of `bits` bits: a Feistel network.
fn permute(key: &Key, kind: &str, bits: u32, value: u64) -> u64 {
    let half = bits / 2;
    let mask = (1 << half) - 1;
    let (mut left, mut right) = (value >> half, value & mask);
    for round in 0..ROUNDS {
        let mut input = [round; 9];
        input[..8].copy_from_slice(&right.to_le_bytes());
        (left, right) = (right, left ^ key.number(kind, &input) & mask);
    }
    left << half | right
}

/// The first `length` bits of an address, then zeros.
fn prefix_of(address: u128, length: u32) -> u128 {
    let rest = u128::BITS - length;
    address.checked_shr(rest).and_then(|bits| bits.checked_shl(rest)).unwrap_or(0)
}

/// A cache of pseudonyms, cleared when it reaches [`CACHE_LIMIT`].
struct Cache<K, V>(HashMap<K, V>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V: Copy> Cache<K, V> {
    fn get(&mut self, key: K, compute: impl FnOnce() -> V) -> V {
        if self.0.len() >= CACHE_LIMIT {
            self.0.clear();
        }
        *self.0.entry(key).or_insert_with(compute)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn mapping(secret: &str) -> Mapping {
        Mapping::new(Key::from_secret(secret.as_bytes()))
    }

    fn shared(one: u128, other: u128) -> u32 {
        (one ^ other).leading_zeros()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pseudonyms_share_prefixes_like_addresses(one: u128, other: u128, share in 0_u32..=128) {
            let other = prefix_of(one, share) | (other & !prefix_of(u128::MAX, share));
            let mut mapping = mapping("a");
            let mapped = [one, other].map(|bits| mapping.bits(bits));
            prop_assert_eq!(shared(mapped[0], mapped[1]), shared(one, other));
        }

        #[test]
        fn pseudonyms_of_ipv4_share_prefixes_like_addresses(one: u32, other: u32, share in 0_u32..=32) {
            let host_bits = u32::MAX.checked_shr(share).unwrap_or(0);
            let other = one & !host_bits | other & host_bits;
            let mut mapping = mapping("a");
            let [first, second] = [one, other].map(|bits| {
                match mapping.address(Ipv4Addr::from_bits(bits).into()) {
                    IpAddr::V4(v4) => v4.to_bits(),
                    IpAddr::V6(v6) => panic!("{v6}"),
                }
            });
            prop_assert_eq!((first ^ second).leading_zeros(), (one ^ other).leading_zeros());
        }

        #[test]
        fn both_forms_of_an_address_have_the_same_pseudonym(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let mut mapping = mapping("a");
            let mapped = mapping.address(v4.to_ipv6_mapped().into());
            prop_assert!(matches!(mapped, IpAddr::V6(_)));
            prop_assert_eq!(mapped.to_canonical(), mapping.address(v4.into()));
        }
    }

    #[test]
    fn numbers_have_distinct_pseudonyms() {
        for (kind, bits) in [
            (NumberKind::Socket, 64),
            (NumberKind::Cgroup, 64),
            (NumberKind::Namespace, 32),
            (NumberKind::Process, PROCESS_BITS),
        ] {
            let mut mapping = mapping("a");
            let mapped: HashSet<_> = (0..20_000).map(|value| mapping.number(kind, value)).collect();
            assert_eq!(mapped.len(), 20_000, "{kind:?}");
            assert!(mapped.contains(&0) && mapping.number(kind, 0) == 0, "{kind:?}");
            assert!(bits == 64 || mapped.iter().all(|&value| value >> bits == 0), "{kind:?}");
        }
        let large = mapping("a").number(NumberKind::Process, 1 << PROCESS_BITS);
        assert!(large >> PROCESS_BITS != 0 && large >> 32 == 0, "{large}");
    }

    #[test]
    fn permutation_is_one_to_one() {
        let key = Key::from_secret(b"a");
        let mapped: HashSet<_> = (0..1 << 12).map(|value| permute(&key, "", 12, value)).collect();
        assert_eq!(mapped.len(), 1 << 12);
        assert!(mapped.iter().all(|value| value >> 12 == 0));
    }

    #[test]
    fn key_determines_pseudonyms() {
        let all = |secret: &str| {
            let mut mapping = mapping(secret);
            let addresses = ["192.0.2.1", "2001:db8::1"].map(|text| mapping.address(address(text)));
            (
                addresses,
                mapping.number(NumberKind::Socket, 7),
                mapping.name(NameKind::Process, b"nginx"),
            )
        };
        assert_eq!(all("a"), all("a"));
        let (one, other) = (all("a"), all("b"));
        assert!(one.0[0] != other.0[0] && one.0[1] != other.0[1]);
        assert!(one.1 != other.1 && one.2 != other.2);
    }

    #[test]
    fn well_known_addresses_are_kept() {
        for secret in 0..20 {
            let mut mapping = mapping(&secret.to_string());
            for same in ["0.0.0.0", "::", "::1", "127.0.0.1", "127.1.2.3", "::ffff:0.0.0.0"] {
                assert_eq!(mapping.address(address(same)), address(same));
            }
            let mut mapped = |text| mapping.address(address(text));
            assert!(mapped("224.0.0.251").is_multicast() && mapped("ff02::1").is_multicast());
            assert!(
                !mapped("239.255.255.250").is_loopback() && !mapped("203.0.113.9").is_multicast()
            );
            assert_ne!(mapped("192.168.1.1"), address("192.168.1.1"));
            let IpAddr::V6(local) = mapped("fe80::a:b:c") else { panic!() };
            assert!(local.is_unicast_link_local() && local != address("fe80::a:b:c"));
        }
    }

    #[test]
    fn names_fit_a_comm_and_paths_keep_their_hierarchy() {
        let mapping = mapping("a");
        let name = mapping.name(NameKind::Process, b"\x1b[2J\xff");
        assert_eq!(name.len(), 15);
        assert_ne!(name[1..], mapping.name(NameKind::Host, b"\x1b[2J\xff")[1..]);
        assert_eq!(mapping.path(NameKind::Cgroup, ""), "");
        let [slice, unit] = ["a.slice", "b.service"].map(|n| mapping.path(NameKind::Cgroup, n));
        assert_eq!(mapping.path(NameKind::Cgroup, "a.slice/b.service"), format!("{slice}/{unit}"));
    }

    #[test]
    fn cache_limit_does_not_change_values() {
        let mut cache = Cache::default();
        for number in 0..CACHE_LIMIT + 2 {
            assert_eq!(cache.get(number, || number + 1), number + 1);
        }
        assert!(cache.0.len() <= CACHE_LIMIT);
    }
}
