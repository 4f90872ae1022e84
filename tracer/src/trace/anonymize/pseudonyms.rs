//! Pseudonyms of addresses, names and numbers. A key determines them: the same value has the same
//! pseudonym, and without the key a pseudonym can neither be reversed nor tested against guesses.
//! Addresses keep shared prefixes, by Crypto-PAn's construction over keyed BLAKE3.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
};

/// The limit of cached pseudonyms of a kind; each takes some microseconds to compute.
const CACHE_LIMIT: usize = 1 << 17;

/// No process id is larger (`PID_MAX_LIMIT`, `linux/threads.h`).
const PROCESS_BITS: u32 = 22;

/// Rounds of the Feistel network, as many as in FF1 (NIST SP 800-38G).
const ROUNDS: u8 = 10;

/// Networks that keep their prefix, as they mean the same on every host. Other addresses keep the
/// bits up to where they differ from one of them: otherwise they could be mapped into it.
const KEPT: [Kept; 7] = [
    Kept::prefix(Ipv6Addr::UNSPECIFIED, 128),
    Kept::prefix(Ipv6Addr::LOCALHOST, 128),
    Kept::prefix(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 128),
    Kept { whole: true, ..Kept::prefix(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x7f00, 0), 104) },
    // Multicast, so that a unicast address never becomes one.
    Kept::prefix(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xe000, 0), 100),
    Kept::prefix(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
    Kept::prefix(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
];

struct Kept {
    network: u128,
    length: u32,
    /// The bits behind the prefix stay as well.
    whole: bool,
}

impl Kept {
    const fn prefix(network: Ipv6Addr, length: u32) -> Self {
        Self { network: network.to_bits(), length, whole: false }
    }

    /// Whether the bit behind this prefix of an address stays.
    fn keeps_bit(&self, prefix: u128, length: u32) -> bool {
        let is_before = length < self.length && prefix == begin(self.network, length);
        let is_within = length >= self.length && begin(prefix, self.length) == self.network;
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

    /// A key derived from a secret of any length, which must not be guessable.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self(blake3::derive_key("synfin 2026-11-23 anonymized recordings", secret))
    }

    fn hash(&self, what: &str, value: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        // No kind is a prefix of another.
        hasher.update(what.as_bytes()).update(&[0]).update(value);
        *hasher.finalize().as_bytes()
    }

    /// A keyed hash of the value, separate for each kind.
    fn number(&self, what: &str, value: &[u8]) -> u64 {
        let [word, ..]: [u64; 4] = zerocopy::transmute!(self.hash(what, value));
        u64::from_le(word)
    }
}

/// Kinds of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Number {
    Socket,
    Process,
    Namespace,
    Cgroup,
}

/// Kinds of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Host,
    Process,
    Namespace,
    Cgroup,
    Container,
    Pod,
}

/// Maps values to pseudonyms, with a cache of those it has computed.
pub(super) struct Mapping {
    key: Key,
    addresses: Cache<u128, u128>,
    numbers: Cache<(Number, u64), u64>,
}

impl Mapping {
    /// Creates the mapping of this key.
    pub(super) fn new(key: Key) -> Self {
        Self { key, addresses: Cache::default(), numbers: Cache::default() }
    }

    /// The pseudonym of an address. Two addresses share as many leading bits after the mapping as
    /// before (Crypto-PAn: Xu, Fan, Ammar, Moon 2002), so that networks stay networks.
    pub(super) fn address(&mut self, address: IpAddr) -> IpAddr {
        let mapped = |v6: u128| Ipv6Addr::from_bits(v6);
        match address {
            IpAddr::V6(v6) => IpAddr::V6(mapped(self.bits(v6.to_bits()))),
            // As IPv4-mapped, so that both forms have one pseudonym.
            IpAddr::V4(v4) => mapped(self.bits(v4.to_ipv6_mapped().to_bits())).to_canonical(),
        }
    }

    fn bits(&mut self, address: u128) -> u128 {
        let key = &self.key;
        self.addresses.get(address, || {
            let flips =
                (0..).zip(address.to_be_bytes()).map(|(at, byte)| flips(key, address, at, byte));
            let mut octets = [0; 16];
            octets.iter_mut().zip(flips).for_each(|(octet, flips)| *octet = flips);
            address ^ u128::from_be_bytes(octets)
        })
    }

    /// The pseudonym of a number. No two numbers share one; 0 means none and stays.
    pub(super) fn number(&mut self, of: Number, value: u64) -> u64 {
        let key = &self.key;
        let (kind, bits, least) = match of {
            Number::Socket => ("socket", 64, 1),
            Number::Cgroup => ("cgroup", 64, 1),
            Number::Namespace => ("namespace", 32, 1),
            Number::Process if value >> PROCESS_BITS == 0 => ("process", PROCESS_BITS, 1),
            // No kernel has such numbers, but a damaged recording may.
            Number::Process => ("large process", 32, 1 << PROCESS_BITS),
        };
        if value == 0 {
            return 0;
        }
        self.numbers.get((of, value), || {
            // Applying the permutation again (cycle walking) keeps the mapping one to one.
            let mut mapped = permuted(key, kind, bits, value);
            while mapped < least {
                mapped = permuted(key, kind, bits, mapped);
            }
            mapped
        })
    }

    /// The pseudonym of a number of 32 bits.
    #[expect(clippy::cast_possible_truncation, reason = "numbers of 32 bits map to such")]
    pub(super) fn small(&mut self, of: Number, value: u32) -> u32 {
        self.number(of, value.into()) as u32
    }

    /// The pseudonym of a name, of at most 15 characters. The empty name stays empty.
    pub(super) fn name(&self, of: Name, name: &[u8]) -> String {
        let (kind, letter) = match of {
            Name::Host => ("host name", 'h'),
            Name::Process => ("process name", 'p'),
            Name::Namespace => ("namespace name", 'n'),
            Name::Cgroup => ("cgroup name", 'g'),
            Name::Container => ("container name", 'c'),
            Name::Pod => ("pod name", 'k'),
        };
        if name.is_empty() {
            return String::new();
        }
        // 52 bits: among as many names as there can be rows, two collide in one of 10⁸ recordings.
        format!("{letter}-{:013x}", self.key.number(kind, name) >> 12)
    }

    /// The pseudonym of a path, part by part, so that the hierarchy stays.
    pub(super) fn path(&self, of: Name, path: &str) -> String {
        let parts: Vec<_> = path.split('/').map(|part| self.name(of, part.as_bytes())).collect();
        parts.join("/")
    }
}

/// The bits to flip in one byte of an address. All bits before a bit decide whether it flips.
fn flips(key: &Key, address: u128, at: u8, byte: u8) -> u8 {
    let begun = u32::from(at) * 8;
    // One hash for the whole byte, with one bit for every prefix within the byte.
    let mut coins = None;
    (0..8).fold(0, |flips, depth| {
        let length = begun + depth;
        let prefix = begin(address, length);
        if KEPT.iter().any(|kept| kept.keeps_bit(prefix, length)) {
            return flips;
        }
        let coins = coins.get_or_insert_with(|| {
            let mut place = [at; 17];
            place[..16].copy_from_slice(&begin(address, begun).to_be_bytes());
            key.hash("address", &place)
        });
        // Numbered like the nodes of a binary heap: 1, then 2 and 3, then 4 to 7.
        let way = (0x100 | usize::from(byte)) >> (8 - depth);
        let flip = coins[way / 8] >> (way % 8) & 1;
        flips | flip << (7 - depth)
    })
}

/// A permutation of the numbers of `bits` bits: a Feistel network.
fn permuted(key: &Key, kind: &str, bits: u32, value: u64) -> u64 {
    let half = bits / 2;
    let mask = (1 << half) - 1;
    let (mut left, mut right) = (value >> half, value & mask);
    for round in 0..ROUNDS {
        let mut place = [round; 9];
        place[..8].copy_from_slice(&right.to_le_bytes());
        (left, right) = (right, left ^ key.number(kind, &place) & mask);
    }
    left << half | right
}

/// The first `length` bits of an address, then zeros.
fn begin(address: u128, length: u32) -> u128 {
    let rest = u128::BITS - length;
    address.checked_shr(rest).and_then(|bits| bits.checked_shl(rest)).unwrap_or(0)
}

/// A cache of computed pseudonyms, emptied when it has [`CACHE_LIMIT`].
struct Cache<K, V>(HashMap<K, V>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V: Copy> Cache<K, V> {
    fn get(&mut self, from: K, work_out: impl FnOnce() -> V) -> V {
        if self.0.len() >= CACHE_LIMIT {
            self.0.clear();
        }
        *self.0.entry(from).or_insert_with(work_out)
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
        fn prefixes_are_shared_as_before(one: u128, other: u128, share in 0_u32..=128) {
            let other = begin(one, share) | (other & !begin(u128::MAX, share));
            let mut mapping = mapping("a");
            let mapped = [one, other].map(|bits| mapping.bits(bits));
            prop_assert_eq!(shared(mapped[0], mapped[1]), shared(one, other));
        }

        #[test]
        fn prefixes_of_ipv4_are_shared_as_before(one: u32, other: u32, share in 0_u32..=32) {
            let behind = u32::MAX.checked_shr(share).unwrap_or(0);
            let other = one & !behind | other & behind;
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
        fn both_forms_of_an_address_become_the_same(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let mut mapping = mapping("a");
            let mapped = mapping.address(v4.to_ipv6_mapped().into());
            prop_assert!(matches!(mapped, IpAddr::V6(_)));
            prop_assert_eq!(mapped.to_canonical(), mapping.address(v4.into()));
        }
    }

    #[test]
    fn no_two_numbers_become_the_same() {
        for (of, bits) in [
            (Number::Socket, 64),
            (Number::Cgroup, 64),
            (Number::Namespace, 32),
            (Number::Process, PROCESS_BITS),
        ] {
            let mut mapping = mapping("a");
            let mapped: HashSet<_> = (0..20_000).map(|value| mapping.number(of, value)).collect();
            assert_eq!(mapped.len(), 20_000, "{of:?}");
            assert!(mapped.contains(&0) && mapping.number(of, 0) == 0, "{of:?}");
            assert!(bits == 64 || mapped.iter().all(|&value| value >> bits == 0), "{of:?}");
        }
        let large = mapping("a").number(Number::Process, 1 << PROCESS_BITS);
        assert!(large >> PROCESS_BITS != 0 && large >> 32 == 0, "{large}");
    }

    #[test]
    fn a_permutation_is_one_wholly() {
        let key = Key::from_secret(b"a");
        let mapped: HashSet<_> = (0..1 << 12).map(|value| permuted(&key, "", 12, value)).collect();
        assert_eq!(mapped.len(), 1 << 12);
        assert!(mapped.iter().all(|value| value >> 12 == 0));
    }

    #[test]
    fn the_key_decides() {
        let all = |secret: &str| {
            let mut mapping = mapping(secret);
            let addresses = ["192.0.2.1", "2001:db8::1"].map(|text| mapping.address(address(text)));
            (addresses, mapping.number(Number::Socket, 7), mapping.name(Name::Process, b"nginx"))
        };
        assert_eq!(all("a"), all("a"));
        let (one, other) = (all("a"), all("b"));
        assert!(one.0[0] != other.0[0] && one.0[1] != other.0[1]);
        assert!(one.1 != other.1 && one.2 != other.2);
    }

    #[test]
    fn what_means_the_same_everywhere_stays() {
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
    fn names_stay_as_short_as_a_process_name_and_paths_stay_paths() {
        let mapping = mapping("a");
        let name = mapping.name(Name::Process, b"\x1b[2J\xff");
        assert_eq!(name.len(), 15);
        assert_ne!(name[1..], mapping.name(Name::Host, b"\x1b[2J\xff")[1..]);
        assert_eq!(mapping.path(Name::Cgroup, ""), "");
        let [slice, unit] = ["a.slice", "b.service"].map(|n| mapping.path(Name::Cgroup, n));
        assert_eq!(mapping.path(Name::Cgroup, "a.slice/b.service"), format!("{slice}/{unit}"));
    }

    #[test]
    fn the_limit_of_what_is_kept_changes_nothing() {
        let mut known = Cache::default();
        for number in 0..CACHE_LIMIT + 2 {
            assert_eq!(known.get(number, || number + 1), number + 1);
        }
        assert!(known.0.len() <= CACHE_LIMIT);
    }
}
