//! The machines' file system: an archive that the kernel unpacks into memory. Written here, as
//! the format is a header a file, and so needs neither cpio nor root to make a device file.
//! Format "newc": the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::{fs, path::Path};

use anyhow::Context as _;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

#[derive(Default)]
pub(super) struct Initramfs {
    archive: Vec<u8>,
    entries: u32,
}

impl Initramfs {
    pub(super) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, (0, 0), &[]);
    }

    pub(super) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, (0, 0), content);
    }

    /// `/dev/console`, which init has as its standard output before it can mount `/dev`.
    pub(super) fn console(&mut self) {
        self.entry("/dev/console", CHARACTER_DEVICE, (5, 1), &[]);
    }

    pub(super) fn write(mut self, path: &Path) -> anyhow::Result<()> {
        self.entry("/TRAILER!!!", 0, (0, 0), &[]);
        fs::write(path, &self.archive).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A folder must come before what is in it.
    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        let name = path.trim_start_matches('/');
        let size = u32::try_from(content.len()).expect("no program has 4 GB");
        self.entries += 1;
        self.archive.extend(b"070701");
        let (inode, links, name_size) = (self.entries, 1, name.len() as u32 + 1);
        // Owner, group, time, the device that holds the file and the checksum are zero.
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        for field in fields {
            self.archive.extend(format!("{field:08x}").bytes());
        }
        self.archive.extend(name.bytes());
        self.archive.push(0);
        self.align();
        self.archive.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_newc() {
        let mut initramfs = Initramfs::default();
        initramfs.folder("/dev");
        initramfs.console();
        initramfs.program("/init", b"hello");
        let text = String::from_utf8(initramfs.archive).unwrap();
        let folder = "07070100000001000041ed00000000000000000000000100000000\
            00000000000000000000000000000000000000000000000400000000dev\0\0\0";
        let console = "070701000000020000218000000000000000000000000100000000\
            00000000000000000000000000000005000000010000000c00000000dev/console\0\0\0";
        let init = "07070100000003000081ed00000000000000000000000100000000\
            00000005000000000000000000000000000000000000000500000000init\0\0hello\0\0\0";
        assert_eq!(text, [folder, console, init].concat());
    }
}
