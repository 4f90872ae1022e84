//! Reads the layout of kernel structures from BTF, the kernel's type information.
//!
//! This is a parser of our own because published ones either do not expose members (aya-obj) or
//! have a copyleft licence, and only the byte offsets of named members are needed. Format: the
//! kernel's `Documentation/bpf/btf.rst`.

use std::collections::{HashMap, HashSet};

use rustc_hash::FxBuildHasher;
use thiserror::Error;

/// Why BTF could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// The data is not BTF in this machine's byte order.
    #[error("not BTF: the magic number is missing")]
    NoMagic,
    /// A section or a type extends past the end.
    #[error("BTF is cut short at byte {0}")]
    Truncated(usize),
    /// The kind of a type is unknown, and so is its size.
    #[error("BTF contains a type of unknown kind {0}")]
    UnknownKind(u32),
}

const MAGIC: u16 = 0xeb9f;

/// A size or a count within BTF, which has 32 bits for them.
fn size(size: usize) -> Result<u32, BtfError> {
    u32::try_from(size).map_err(|_| BtfError::Truncated(size))
}
const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_FLOAT: u32 = 16;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Position of a member in the structure that its path begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Offset in bits.
    pub bit_offset: u32,
    /// Size in bits of a bit field, or `None` for any other member.
    pub bits: Option<u32>,
}

impl Member {
    /// The position of the same member relative to an outer structure that starts `bits` earlier.
    /// `None` if the sum overflows, which means that the type information is damaged.
    fn within(self, bits: u32) -> Option<Self> {
        Some(Self { bit_offset: self.bit_offset.checked_add(bits)?, ..self })
    }
}

/// The parsed types of a kernel.
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Byte position of the type with id i + 1.
    types: Vec<u32>,
    /// Named structures, unions and enumerations.
    tags: HashMap<Vec<u8>, u32, FxBuildHasher>,
    typedefs: HashMap<Vec<u8>, u32, FxBuildHasher>,
}

/// The signature of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Number of parameters.
    pub parameters: u32,
    /// Whether the function returns a value.
    pub returns_value: bool,
}

impl Btf {
    /// Parses the contents of `/sys/kernel/btf/vmlinux` or of a file in the same format.
    ///
    /// # Errors
    ///
    /// The data is malformed.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        if data.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(BtfError::NoMagic);
        }
        let header = |at| u32_at(&data, at).map(|value| value as usize);
        let add = |a: usize, b: usize| a.checked_add(b).ok_or(BtfError::Truncated(data.len()));
        let header_len = header(4)?;
        let start = add(header_len, header(8)?)?;
        let end = add(start, header(12)?)?;
        let strings = add(header_len, header(16)?)?;
        if data.len() < end || data.len() < strings {
            return Err(BtfError::Truncated(data.len()));
        }
        let mut btf = Self {
            data,
            strings,
            types: Vec::new(),
            tags: HashMap::default(),
            typedefs: HashMap::default(),
        };
        let mut at = start;
        while at < end {
            let id = size(btf.types.len())? + 1;
            let info = btf.u32(at + 4)?;
            let (kind, count) = ((info >> 24) & 0x1f, info & 0xffff);
            if matches!(kind, KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_TYPEDEF) {
                let name = btf.string(btf.u32(at)?)?.to_vec();
                let names = if kind == KIND_TYPEDEF { &mut btf.typedefs } else { &mut btf.tags };
                if !name.is_empty() {
                    names.entry(name).or_insert(id);
                }
            }
            btf.types.push(u32::try_from(at).map_err(|_| BtfError::Truncated(at))?);
            at += 12 + extra_bytes(kind, count)?;
        }
        if at > end {
            return Err(BtfError::Truncated(end));
        }
        Ok(btf)
    }

    /// The bytes that were parsed.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Finds `structure.member.member…`. Members of anonymous structures and unions belong to their
    /// parent, as in C. Returns `None` if the kernel has no such member.
    pub fn member(&self, path: &str) -> Option<Member> {
        let mut parts = path.split('.');
        let mut id = *self.tags.get(parts.next()?.as_bytes())?;
        let mut found = Member { bit_offset: 0, bits: None };
        for part in parts {
            let (member, next) = self.find(id, part.as_bytes(), 0)?;
            found = member.within(found.bit_offset)?;
            id = next;
        }
        Some(found)
    }

    /// The value of the enumerator `name` of `enum enumeration`, or `None` if the kernel has no
    /// such enumerator.
    pub fn enumerator(&self, enumeration: &str, name: &str) -> Option<u32> {
        let at = self.at(*self.tags.get(enumeration.as_bytes())?).ok()?;
        let info = self.u32(at + 4).ok()?;
        if (info >> 24) & 0x1f != KIND_ENUM {
            return None;
        }
        (0..(info & 0xffff) as usize).find_map(|index| {
            let enumerator = at + 12 + index * 8;
            let is_it = self.string(self.u32(enumerator).ok()?).ok()? == name.as_bytes();
            if is_it { self.u32(enumerator + 4).ok() } else { None }
        })
    }

    /// The number of parameters of a typedef of a function pointer, or `None` if the kernel has no
    /// such typedef.
    pub fn parameters(&self, typedef: &str) -> Option<u32> {
        let pointer = self.resolve(*self.typedefs.get(typedef.as_bytes())?)?;
        if self.kind(pointer).ok()? != KIND_PTR {
            return None;
        }
        Some(self.prototype(self.u32(self.at(pointer).ok()? + 8).ok()?)?.parameters)
    }

    /// The signature of the kernel function `name`. Returns `None` if the kernel has no such
    /// function or has inlined it everywhere.
    pub fn function(&self, name: &str) -> Option<Function> {
        let function = self.at(self.function_number(name)?).ok()?;
        self.prototype(self.u32(function + 8).ok()?)
    }

    /// The BTF id of the kernel function `name`, or `None` if there is no such function.
    pub fn function_number(&self, name: &str) -> Option<u32> {
        // The kernel has tens of thousands of functions and callers ask for a few, so an index
        // would cost more than it saves.
        let mut types = self.types.iter().map(|&at| at as usize);
        let is_it = |at| self.is_function(at, name.as_bytes()).unwrap_or(false);
        // Type id 0 is void.
        size(types.position(is_it)?).ok().map(|index| index + 1)
    }

    /// Returns BTF that has only the typedefs and functions of these names, each under its original
    /// id. The loader allocates a value for each of a kernel's 130,000 types and searches them
    /// linearly for each name.
    ///
    /// # Errors
    ///
    /// A type is malformed.
    pub fn only(&self, names: &HashSet<&[u8]>) -> Result<Vec<u8>, BtfError> {
        let mut types = Vec::with_capacity(self.types.len() * 12);
        let mut strings = vec![0];
        for &at in &self.types {
            let at = at as usize;
            let info = self.u32(at + 4)?;
            let mut kept = [0, KIND_FWD << 24, 0];
            if matches!((info >> 24) & 0x1f, KIND_TYPEDEF | KIND_FUNC) {
                let name = self.string(self.u32(at)?)?;
                if names.contains(name) {
                    kept = [size(strings.len())?, info, self.u32(at + 8)?];
                    strings.extend_from_slice(name);
                    strings.push(0);
                }
            }
            kept.iter().for_each(|word| types.extend_from_slice(&word.to_ne_bytes()));
        }
        let (types_len, strings_len) = (size(types.len())?, size(strings.len())?);
        let mut data = Vec::with_capacity(24 + types.len() + strings.len());
        data.extend_from_slice(&MAGIC.to_ne_bytes());
        data.extend_from_slice(&[1, 0]);
        for word in [24, 0, types_len, types_len, strings_len] {
            data.extend_from_slice(&word.to_ne_bytes());
        }
        data.append(&mut types);
        data.append(&mut strings);
        Ok(data)
    }

    /// The BTF id of the structure `name`, or `None` if the kernel has no such structure.
    pub fn structure_number(&self, name: &str) -> Option<u32> {
        self.tags.get(name.as_bytes()).copied()
    }

    fn is_function(&self, at: usize, name: &[u8]) -> Result<bool, BtfError> {
        let is_function = (self.u32(at + 4)? >> 24) & 0x1f == KIND_FUNC;
        Ok(is_function && self.string(self.u32(at)?)? == name)
    }

    fn prototype(&self, id: u32) -> Option<Function> {
        let at = self.at(self.resolve(id)?).ok()?;
        let info = self.u32(at + 4).ok()?;
        let is_one = (info >> 24) & 0x1f == KIND_FUNC_PROTO;
        // Type id 0 is void.
        let returns_value = self.u32(at + 8).ok()? != 0;
        is_one.then_some(Function { parameters: info & 0xffff, returns_value })
    }

    /// Finds the member `name` of the structure `id`, and the member's type, which may be of any
    /// kind.
    fn find(&self, id: u32, name: &[u8], depth: u32) -> Option<(Member, u32)> {
        // The kernel nests anonymous structures two or three deep; deeper nesting means damage.
        if depth > 8 {
            return None;
        }
        let id = self.resolve(id)?;
        let at = self.at(id).ok()?;
        let info = self.u32(at + 4).ok()?;
        let has_bit_fields = info >> 31 == 1;
        if !matches!((info >> 24) & 0x1f, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for index in 0..(info & 0xffff) as usize {
            let member = at + 12 + index * 12;
            let (name_at, member_type, offset) =
                (self.u32(member).ok()?, self.u32(member + 4).ok()?, self.u32(member + 8).ok()?);
            let (bit_offset, bits) = match (has_bit_fields, offset >> 24) {
                (true, 0) => (offset & 0xff_ffff, None),
                (true, bits) => (offset & 0xff_ffff, Some(bits)),
                (false, _) => (offset, None),
            };
            let member_name = self.string(name_at).ok()?;
            if member_name == name {
                return Some((Member { bit_offset, bits }, member_type));
            }
            if member_name.is_empty()
                && let Some((inner, found)) = self.find(member_type, name, depth + 1)
            {
                return Some((inner.within(bit_offset)?, found));
            }
        }
        None
    }

    /// Follows typedefs and qualifiers to the underlying type.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..16 {
            match self.kind(id).ok()? {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = self.u32(self.at(id).ok()? + 8).ok()?;
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn at(&self, id: u32) -> Result<usize, BtfError> {
        let index = (id as usize).checked_sub(1).ok_or(BtfError::Truncated(0))?;
        let at = self.types.get(index).ok_or(BtfError::Truncated(self.data.len()))?;
        Ok(*at as usize)
    }

    fn kind(&self, id: u32) -> Result<u32, BtfError> {
        Ok((self.u32(self.at(id)? + 4)? >> 24) & 0x1f)
    }

    fn string(&self, offset: u32) -> Result<&[u8], BtfError> {
        let start = self.strings.checked_add(offset as usize);
        let start = start.ok_or(BtfError::Truncated(self.data.len()))?;
        let rest = self.data.get(start..).ok_or(BtfError::Truncated(start))?;
        let end = rest.iter().position(|&byte| byte == 0).ok_or(BtfError::Truncated(start))?;
        Ok(&rest[..end])
    }

    fn u32(&self, at: usize) -> Result<u32, BtfError> {
        u32_at(&self.data, at)
    }
}

fn u32_at(data: &[u8], at: usize) -> Result<u32, BtfError> {
    let bytes = data.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_ne_bytes(*bytes.ok_or(BtfError::Truncated(at))?))
}

/// Number of bytes that follow the twelve-byte header of a type.
fn extra_bytes(kind: u32, count: u32) -> Result<usize, BtfError> {
    let count = count as usize;
    Ok(match kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
        KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
        KIND_PTR | KIND_FWD | KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT
        | KIND_FUNC | KIND_FLOAT | KIND_TYPE_TAG => 0,
        unknown => return Err(BtfError::UnknownKind(unknown)),
    })
}

#[cfg(test)]
mod tests;
