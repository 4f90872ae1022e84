//! Finds the running kernel's type information and verifies that it belongs to this kernel.
//!
//! Another kernel's offsets would silently give wrong values. So the contents of a file are
//! compared with the kernel's own type information, byte for byte where the kernel provides it.

use std::{
    fmt::Display,
    fs::{self, File},
    io::{self, Read, Seek},
    path::{Path, PathBuf},
};

use object::{Object, ObjectSection, read::ReadCache};
use thiserror::Error;

use super::{
    bpf_syscall,
    parse::{Btf, BtfError},
};

/// The file in which a kernel exposes its own type information.
pub const BTF_FILE: &str = "/sys/kernel/btf/vmlinux";

/// An upper limit: the type information of a kernel takes 4 to 12 MiB.
const MAX_BYTES: u64 = 64 << 20;

/// The kernel's type information and its source.
pub(crate) struct Types {
    btf: Btf,
    source: Source,
}

enum Source {
    /// [`BTF_FILE`].
    Sysfs,
    /// The kernel provided the types through bpf(2).
    BpfSyscall,
    /// A file with the same contents as the kernel's own type information.
    Same(PathBuf),
    /// A file of the same size as the kernel's own type information.
    SameSize(PathBuf),
}

/// Why the kernel's type information cannot be used.
#[derive(Debug, Error)]
pub(crate) enum TypesError {
    /// The kernel does not provide its type information.
    #[error("cannot read {BTF_FILE}")]
    Missing(#[source] io::Error),
    /// The file given by `--btf` does not contain the kernel's type information.
    #[error("{} is not taken for the kernel's type information: {error}", .path.display())]
    File { path: PathBuf, error: FileError },
    /// The type information cannot be parsed.
    #[error("the kernel's type information is not understood: {0}")]
    Malformed(String),
    /// The kernel's structures lack these required fields.
    #[error("the kernel's type information lacks {}", .0.join(", "))]
    MissingFields(Vec<&'static str>),
}

impl TypesError {
    pub(crate) fn malformed(error: impl Display) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Why a file is not accepted as the kernel's type information.
#[derive(Debug, Error)]
pub(crate) enum FileError {
    /// The file cannot be read.
    #[error("{}", crate::message::failure::describe(.0))]
    Io(#[from] io::Error),
    /// The file is empty.
    #[error("it is empty")]
    Empty,
    /// The file is larger than any kernel's type information.
    #[error("it is larger than the type information of any kernel")]
    TooLarge,
    /// The file is ELF, as vmlinux is, but damaged.
    #[error("it is an ELF file that cannot be read: {0}")]
    DamagedElf(object::Error),
    /// The file is ELF without type information, such as a vmlinux built without it or another
    /// program.
    #[error("it is ELF without a section .BTF")]
    NoSection,
    /// The contents cannot be parsed.
    #[error("{0}")]
    Strange(#[from] BtfError),
    /// The type information belongs to another kernel.
    #[error("it is not this kernel's: {0}")]
    Foreign(String),
    /// The type information cannot be compared with the kernel's.
    #[error(
        "cannot verify that it is this kernel's: the kernel shows its own types neither in {BTF_FILE} nor through bpf(2), and their size is not in /proc/kallsyms"
    )]
    Unproven,
}

impl Types {
    /// Finds the running kernel's types, or reads them from `file` and verifies that they are this
    /// kernel's.
    pub(crate) fn find(file: Option<&Path>) -> Result<Self, TypesError> {
        match file {
            Some(path) => Self::from_file(path)
                .map_err(|error| TypesError::File { path: path.to_owned(), error }),
            None => {
                let (bytes, source) = match fs::read(BTF_FILE) {
                    Ok(bytes) => (bytes, Source::Sysfs),
                    Err(error) => match bpf_syscall::ask() {
                        Some(bytes) => (bytes, Source::BpfSyscall),
                        None => return Err(TypesError::Missing(error)),
                    },
                };
                Ok(Self { btf: Btf::parse(bytes).map_err(TypesError::malformed)?, source })
            }
        }
    }

    fn from_file(path: &Path) -> Result<Self, FileError> {
        let btf = Btf::parse(read(File::open(path)?)?)?;
        // bpf(2) comes first because a mount cannot hide it.
        let own = bpf_syscall::ask().or_else(|| fs::read(BTF_FILE).ok());
        let source = verify(btf.bytes(), own.as_deref(), bpf_syscall::size)?;
        Ok(Self { btf, source: source(path.to_owned()) })
    }

    pub(crate) fn btf(&self) -> &Btf {
        &self.btf
    }

    /// Describes the source and size of the types.
    pub(crate) fn describe(&self) -> String {
        self.source.describe(self.btf.bytes().len())
    }

    /// A warning if the types could not be fully verified.
    pub(crate) fn caveat(&self) -> Option<String> {
        match &self.source {
            Source::Sysfs | Source::BpfSyscall | Source::Same(_) => None,
            Source::SameSize(path) => Some(format!(
                "{} is exactly as large as the kernel's own type information, but could not be compared with it: results are right only if it belongs to exactly this build",
                path.display()
            )),
        }
    }
}

impl Source {
    fn describe(&self, bytes: usize) -> String {
        let size = bytes / 1024;
        match self {
            Source::Sysfs => format!("{BTF_FILE}, {size} KiB"),
            Source::BpfSyscall => {
                format!("from the kernel by bpf(2), {size} KiB, as {BTF_FILE} is not there")
            }
            Source::Same(path) => {
                format!("{}, {size} KiB, the same as the kernel's own", path.display())
            }
            Source::SameSize(path) => {
                format!("{}, {size} KiB, exactly as large as the kernel's own", path.display())
            }
        }
    }
}

/// Compares the `bytes` of a file with the kernel's own types if the kernel provides them, and
/// otherwise with their size.
fn verify(
    bytes: &[u8],
    own: Option<&[u8]>,
    size: impl FnOnce() -> Option<u64>,
) -> Result<fn(PathBuf) -> Source, FileError> {
    let (large, differs) = (bytes.len() as u64, |own: u64| {
        FileError::Foreign(format!("its BTF has {} bytes, the kernel's has {own}", bytes.len()))
    });
    match own {
        Some(own) if own == bytes => return Ok(Source::Same),
        Some(own) if own.len() == bytes.len() => {
            return Err(FileError::Foreign(
                "its BTF has the size of the running kernel's but different contents".into(),
            ));
        }
        Some(own) => return Err(differs(own.len() as u64)),
        None => {}
    }
    match size() {
        Some(own) if own == large => Ok(Source::SameSize),
        Some(own) => Err(differs(own)),
        None => Err(FileError::Unproven),
    }
}

/// Reads the types in a file that is either plain BTF or ELF with a section `.BTF`.
fn read(mut file: impl Read + Seek) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.by_ref().take(4).read_to_end(&mut bytes)?;
    match bytes.as_slice() {
        [] => return Err(FileError::Empty),
        b"\x7fELF" => return section(file),
        _ => {}
    }
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES { Err(FileError::TooLarge) } else { Ok(bytes) }
}

/// Reads only the necessary parts, as a vmlinux may have a gigabyte.
fn section(file: impl Read + Seek) -> Result<Vec<u8>, FileError> {
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).map_err(FileError::DamagedElf)?;
    let section = elf.section_by_name(".BTF").ok_or(FileError::NoSection)?;
    if section.size() > MAX_BYTES {
        return Err(FileError::TooLarge);
    }
    let bytes = section.data().map_err(FileError::DamagedElf)?;
    if bytes.is_empty() { Err(FileError::NoSection) } else { Ok(bytes.to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use object::write;

    use super::*;

    fn error_of(result: Result<Vec<u8>, FileError>) -> String {
        result.expect_err("an error").to_string()
    }

    #[test]
    fn a_file_is_accepted_unless_it_is_another_kernels() {
        let not_called = || panic!("the types themselves are known");
        let result = |own: Option<&[u8]>, size| match verify(b"types", own, || size) {
            Ok(source) => source("it".into()).describe(5),
            Err(error) => error.to_string(),
        };
        assert!(verify(b"types", Some(b"types"), not_called).is_ok());
        for (own, size, message) in [
            (Some(&b"types"[..]), None, "the same as the kernel's own"),
            (Some(b"others"), Some(5), "its BTF has 5 bytes, the kernel's has 6"),
            (Some(b"typed"), Some(5), "different contents"),
            (None, Some(5), "exactly as large as"),
            (None, Some(7), "its BTF has 5 bytes, the kernel's has 7"),
            (None, None, "cannot verify"),
        ] {
            let result = result(own, size);
            assert!(result.contains(message), "no {message:?} in {result}");
        }
    }

    #[test]
    fn types_are_read_alone_and_out_of_elf() {
        let of = |bytes: &[u8]| read(Cursor::new(bytes.to_owned()));
        assert_eq!(of(b"\x9f\xebtypes").expect("types"), b"\x9f\xebtypes");
        assert_eq!(error_of(of(b"")), "it is empty");

        let mut elf = write::Object::new(
            object::BinaryFormat::Elf,
            object::Architecture::X86_64,
            object::Endianness::Little,
        );
        let bare = elf.write().expect("ELF");
        assert_eq!(error_of(of(&bare)), "it is ELF without a section .BTF");
        let section =
            elf.add_section(Vec::new(), b".BTF".to_vec(), object::SectionKind::ReadOnlyData);
        elf.append_section_data(section, b"types", 1);
        let whole = elf.write().expect("ELF");
        assert_eq!(of(&whole).expect("types"), b"types");
        // Damaged data gives either types or an error, never a panic.
        for end in 4..whole.len() {
            let _ = of(&whole[..end]);
        }
        for position in 4..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 0xff;
            let _ = of(&damaged);
        }
        assert!(error_of(of(&whole[..20])).starts_with("it is an ELF file"));
    }

    #[test]
    fn oversized_files_are_not_read_to_the_end() {
        assert!(matches!(read(Zeros), Err(FileError::TooLarge)));
    }

    /// A reader of endless zeros.
    struct Zeros;

    impl Read for Zeros {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(0);
            Ok(buffer.len())
        }
    }

    impl Seek for Zeros {
        fn seek(&mut self, _: io::SeekFrom) -> io::Result<u64> {
            Ok(0)
        }
    }
}
