//! What is mounted where, as `/proc/self/mountinfo` lists it.

use std::{ffi::OsString, fs, io, os::unix::ffi::OsStringExt, path::PathBuf};

/// A mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount<'a> {
    /// The part of the file system that it shows.
    pub(crate) root: &'a [u8],
    /// Where.
    pub(crate) point: PathBuf,
    /// The type of the file system.
    pub(crate) kind: &'a [u8],
}

/// The list of this process's mounts, to be [parsed](parse). Paths may be any bytes.
pub(crate) fn read() -> io::Result<Vec<u8>> {
    fs::read("/proc/self/mountinfo")
}

/// The mounts of a list, in its order.
pub(crate) fn parse(mountinfo: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        // Optional fields end with a hyphen.
        fields.find(|field| field == b"-")?;
        let point = OsString::from_vec(unescape(point)).into();
        Some(Mount { root, point, kind: fields.next()? })
    })
}

/// `mountinfo` writes white space and backslashes as three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if byte == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        plain.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;

    #[test]
    fn a_mount_point_may_be_any_bytes() {
        let text = b"1 0 0:1 / / rw - ext4 /dev/vda rw\n\
            2 1 0:4 / /mnt/caf\xe9\\040\\134\\9 rw shared:2 master:1 - nfs server:/a\xff rw\n\
            damaged\n\
            3 1 0:4 net:[4026532241] /run/netns/blue rw - nsfs nsfs rw\n";
        let mount = |root, point: &'static [u8], kind| Mount {
            root,
            point: OsStr::from_bytes(point).into(),
            kind,
        };
        let found: Vec<_> = parse(text).collect();
        assert_eq!(
            found,
            [
                mount(&b"/"[..], b"/", &b"ext4"[..]),
                mount(b"/", b"/mnt/caf\xe9 \\\\9", b"nfs"),
                mount(b"net:[4026532241]", b"/run/netns/blue", b"nsfs"),
            ]
        );
    }
}
