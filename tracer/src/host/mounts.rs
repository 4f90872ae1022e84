//! Parses the mounts that `/proc/self/mountinfo` lists.

use std::{ffi::OsString, fs, io, os::unix::ffi::OsStringExt, path::PathBuf};

/// A mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount<'a> {
    /// The directory of the file system that is the root of this mount.
    pub(crate) root: &'a [u8],
    /// The mount point.
    pub(crate) point: PathBuf,
    /// The file system type.
    pub(crate) kind: &'a [u8],
}

/// Reads the mounts of this process, for [`parse`]. Paths may contain any bytes.
pub(crate) fn read() -> io::Result<Vec<u8>> {
    fs::read("/proc/self/mountinfo")
}

/// Parses `mountinfo` and yields its mounts in order.
pub(crate) fn parse(mountinfo: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        // A hyphen ends the optional fields.
        fields.find(|field| field == b"-")?;
        let point = OsString::from_vec(unescape(point)).into();
        Some(Mount { root, point, kind: fields.next()? })
    })
}

/// Undoes the escaping of `mountinfo`: white space and backslashes are three octal digits.
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
