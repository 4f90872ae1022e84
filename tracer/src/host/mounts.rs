//! What is mounted where, as `/proc/self/mountinfo` lists it.

use std::{fs, io, path::PathBuf};

/// A mount.
#[derive(Debug)]
pub(crate) struct Mount<'a> {
    /// The part of the file system that it shows.
    pub(crate) root: &'a str,
    /// Where.
    pub(crate) point: PathBuf,
    /// The type of the file system.
    pub(crate) kind: &'a str,
}

/// The list of this process's mounts, to be [parsed](parse).
pub(crate) fn read() -> io::Result<String> {
    fs::read_to_string("/proc/self/mountinfo")
}

/// The mounts of a list, in its order.
pub(crate) fn parse(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        Some(Mount { root, point: unescape(point).into(), kind: file_system.split(' ').next()? })
    })
}

/// `mountinfo` writes white space and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 4);
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte.into());
                rest = &rest[at + 4..];
            }
            None => {
                plain.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    plain + rest
}
