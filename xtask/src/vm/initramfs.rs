//! The machines' file system: an archive that the kernel unpacks into memory. Written here, as
//! the format is a header a file, and so needs neither cpio nor root to make a device file.
//! Several of them, one after the other in one file, are unpacked one over the other.
//! Format "newc": the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::{
    collections::HashSet,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
};

use anyhow::Context as _;

const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

#[derive(Default)]
pub(super) struct Initramfs {
    archive: Vec<u8>,
    entries: u32,
    /// Folders that are in it.
    folders: HashSet<String>,
}

impl Initramfs {
    /// A folder, and those that it is in.
    pub(super) fn folder(&mut self, path: &str) {
        let path = path.trim_start_matches('/');
        if path.is_empty() || self.folders.contains(path) {
            return;
        }
        self.folder_of(path);
        self.folders.insert(path.to_owned());
        self.entry(path, FOLDER, (0, 0), &[]);
    }

    pub(super) fn program(&mut self, path: &str, content: &[u8]) {
        self.folder_of(path);
        self.entry(path, PROGRAM, (0, 0), content);
    }

    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.folder_of(path);
        self.entry(path, FILE, (0, 0), content);
    }

    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.folder_of(path);
        self.entry(path, LINK, (0, 0), target.as_bytes());
    }

    /// `/dev/console`, which init has as its standard output before it can mount `/dev`.
    pub(super) fn console(&mut self) {
        self.folder("/dev");
        self.entry("/dev/console", CHARACTER_DEVICE, (5, 1), &[]);
    }

    /// What is below a folder of this machine, as far as it is `wanted` by its path there.
    pub(super) fn tree(
        &mut self,
        path: &str,
        folder: &Path,
        wanted: &impl Fn(&Path) -> bool,
    ) -> anyhow::Result<()> {
        self.below(path, folder, folder, wanted)
            .with_context(|| format!("cannot read {}", folder.display()))
    }

    fn below(
        &mut self,
        to: &str,
        root: &Path,
        folder: &Path,
        wanted: &impl Fn(&Path) -> bool,
    ) -> anyhow::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for path in entries.into_iter().map(|entry| entry.path()) {
            let below = path.strip_prefix(root)?;
            if !wanted(below) {
                continue;
            }
            let name = format!("{to}/{}", below.display());
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                self.folder(&name);
                self.below(to, root, &path, wanted)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path)?;
                self.entry(&name, LINK, (0, 0), target.as_os_str().as_bytes());
            } else {
                self.entry(&name, metadata.mode(), (0, 0), &fs::read(&path)?);
            }
        }
        Ok(())
    }

    pub(super) fn write(mut self, path: &Path) -> anyhow::Result<()> {
        self.entry("/TRAILER!!!", 0, (0, 0), &[]);
        fs::write(path, &self.archive).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A folder must come before what is in it.
    fn folder_of(&mut self, path: &str) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
    }

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

    #[test]
    fn folders_come_before_what_is_in_them_and_once() {
        let mut initramfs = Initramfs::default();
        initramfs.file("/a/b/one", b"");
        initramfs.link("/a/b/two", "one");
        let text = String::from_utf8(initramfs.archive).unwrap();
        let places: Vec<_> =
            ["a\0", "a/b\0", "a/b/one\0", "a/b/two\0"].map(|name| text.find(name).unwrap()).into();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(text.matches("070701").count(), 4);
    }
}
