//! Tests of the BTF parser, on hand-written type information.

#![allow(clippy::cast_possible_truncation, reason = "the made-up types are few and small")]

use super::*;

/// Hand-written BTF of `struct s { int a; union { struct { char b; int c : 3; }; }; }`, `enum e { X
/// = 1, Y = 7 }` and `typedef void (*f)(int, char)`.
fn sample() -> Vec<u8> {
    let strings = b"\0int\0s\0a\0b\0c\0char\0e\0X\0Y\0f\0";
    let name = |text: &[u8]| {
        let needle = [b"\0", text, b"\0"].concat();
        strings.windows(needle.len()).position(|w| w == needle).unwrap() as u32 + 1
    };
    let mut types = Vec::new();
    let mut word = |value: u32| types.extend_from_slice(&value.to_ne_bytes());
    let kind = |kind: u32, count: u32| kind << 24 | count;
    for value in [name(b"int"), kind(KIND_INT, 0), 4, 32] {
        word(value);
    }
    for value in [name(b"char"), kind(KIND_INT, 0), 1, 8] {
        word(value);
    }
    let inner =
        [0, 1 << 31 | kind(KIND_STRUCT, 2), 8, name(b"b"), 2, 0, name(b"c"), 1, 3 << 24 | 32];
    for value in inner {
        word(value);
    }
    for value in [0, kind(KIND_UNION, 1), 8, 0, 3, 0] {
        word(value);
    }
    for value in [name(b"s"), kind(KIND_STRUCT, 2), 12, name(b"a"), 1, 0, 0, 4, 32] {
        word(value);
    }
    for value in [name(b"e"), kind(KIND_ENUM, 2), 4, name(b"X"), 1, name(b"Y"), 7] {
        word(value);
    }
    for value in [name(b"f"), kind(KIND_TYPEDEF, 0), 8, 0, kind(KIND_PTR, 0), 9] {
        word(value);
    }
    for value in [0, kind(KIND_FUNC_PROTO, 2), 0, 0, 1, 0, 2] {
        word(value);
    }
    for value in [name(b"e"), kind(KIND_FUNC, 0), 9, name(b"f"), kind(KIND_FUNC, 0), 12] {
        word(value);
    }
    for value in [0, kind(KIND_FUNC_PROTO, 0), 1] {
        word(value);
    }
    let mut data = Vec::new();
    data.extend_from_slice(&MAGIC.to_ne_bytes());
    data.extend_from_slice(&[1, 0]);
    for value in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
        data.extend_from_slice(&value.to_ne_bytes());
    }
    data.extend_from_slice(&types);
    data.extend_from_slice(strings);
    data
}

fn touch(btf: &Btf) {
    let _ = (btf.member("s.c"), btf.enumerator("e", "Y"), btf.parameters("f"));
    let _ = (btf.function("e"), btf.function("f"));
}

#[test]
fn members_of_anonymous_parts_are_found() {
    let btf = Btf::parse(sample()).unwrap();
    assert_eq!(btf.member("s.a"), Some(Member { bit_offset: 0, bits: None }));
    assert_eq!(btf.member("s.b"), Some(Member { bit_offset: 32, bits: None }));
    assert_eq!(btf.member("s.c"), Some(Member { bit_offset: 64, bits: Some(3) }));
    assert_eq!(btf.member("s.d"), None);
    assert_eq!(btf.member("t.a"), None);
}

#[test]
fn enumerators_and_parameters_are_found() {
    let btf = Btf::parse(sample()).unwrap();
    let enumerators = ["X", "Y", "Z"].map(|name| btf.enumerator("e", name));
    assert_eq!(enumerators, [Some(1), Some(7), None]);
    assert_eq!(btf.enumerator("s", "a"), None);
    assert_eq!((btf.parameters("f"), btf.parameters("g")), (Some(2), None));
    let procedure = Function { parameters: 2, returns_value: false };
    assert_eq!(btf.function("e"), Some(procedure));
    assert_eq!(btf.function("f"), Some(Function { parameters: 0, returns_value: true }));
    assert_eq!(btf.function("s"), None);
}

#[test]
fn kept_types_keep_their_ids() {
    let whole = Btf::parse(sample()).unwrap();
    let few = Btf::parse(whole.only(&HashSet::from([&b"f"[..]])).unwrap()).unwrap();
    assert_eq!(few.function_number("f"), whole.function_number("f"));
    assert_eq!(few.typedefs, whole.typedefs);
    assert_eq!((few.function_number("e"), few.tags.len()), (None, 0));
}

/// The sample with `new` in place of the words `old`, which occur in it once.
fn sample_with(old: &[u32], new: &[u32]) -> Vec<u8> {
    let bytes = |words: &[u32]| words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<_>>();
    let (mut data, old) = (sample(), bytes(old));
    let mut places = (0..data.len()).filter(|&at| data[at..].starts_with(&old));
    let (at, None) = (places.next().unwrap(), places.next()) else { panic!("more than one") };
    data[at..at + old.len()].copy_from_slice(&bytes(new));
    data
}

#[test]
fn offsets_beyond_any_structure_are_no_members() {
    // The anonymous union is 32 bits after the start of its parent.
    let far = Btf::parse(sample_with(&[0, 4, 32], &[0, 4, u32::MAX])).unwrap();
    assert_eq!(far.member("s.a"), Some(Member { bit_offset: 0, bits: None }));
    // The union's first member adds nothing to the offset, the second one does.
    assert_eq!(far.member("s.b"), Some(Member { bit_offset: u32::MAX, bits: None }));
    assert_eq!(far.member("s.c"), None);
    // A named structure within a structure.
    let nested = sample_with(&[1, 0, 0, 4, 32], &[5, u32::MAX, 0, 4, 32]);
    let nested = Btf::parse(nested).unwrap();
    assert_eq!(nested.member("s.a"), Some(Member { bit_offset: u32::MAX, bits: None }));
    assert_eq!(nested.member("s.a.b"), None);
}

#[test]
fn sections_beyond_the_end_are_an_error() {
    let whole = sample();
    // Set each length and offset of the header to its maximum.
    for at in (4..24).step_by(4) {
        let mut damaged = whole.clone();
        damaged[at..at + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
        let is_error = Btf::parse(damaged).is_err();
        // The parser ignores the length of the string section, as each string ends with a zero.
        assert_eq!(is_error, at != 20, "byte {at}");
    }
    // The last type does not fit into the type section.
    let mut damaged = whole.clone();
    let length = u32_at(&whole, 12).unwrap() - 4;
    damaged[12..16].copy_from_slice(&length.to_ne_bytes());
    assert_eq!(Btf::parse(damaged).err(), Some(BtfError::Truncated(24 + length as usize)));
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let whole = sample();
    for len in 0..whole.len() {
        if let Ok(btf) = Btf::parse(whole[..len].to_vec()) {
            touch(&btf);
        }
    }
    for position in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[position] ^= 0xff;
        if let Ok(btf) = Btf::parse(damaged) {
            touch(&btf);
        }
    }
}
