//! Files and directories that only their owner may read, because a recording shows who communicates
//! with whom.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    path::Path,
};

/// Whether a file that exists may be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Overwrite,
    Keep,
}

impl Existing {
    /// Keeps it unless `--force` is given.
    pub(crate) fn unless_forced(force: bool) -> Self {
        if force { Self::Overwrite } else { Self::Keep }
    }
}

/// Creates a file for writing. An existing file is restricted to its owner and emptied, or kept: then it
/// is an error unless it is empty. A device or a pipe is opened.
pub(super) fn create(path: &Path, existing: Existing) -> io::Result<File> {
    let exists = match create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => error,
        result => return result,
    };
    let file = OpenOptions::new().write(true).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        if existing == Existing::Keep && metadata.len() > 0 {
            return Err(exists);
        }
        file.set_len(0)?;
        permissions::restrict(&file)?;
    }
    Ok(file)
}

/// Creates a file for writing. Fails if it exists.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    permissions::of_file(options.write(true).create_new(true));
    options.open(path)
}

/// Creates a directory. Fails if it exists.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    permissions::of_directory(&mut builder);
    builder.create(path)
}

#[cfg(unix)]
mod permissions {
    use std::{
        fs::{DirBuilder, File, OpenOptions, Permissions},
        io,
        os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    };

    pub(super) fn of_file(options: &mut OpenOptions) {
        options.mode(0o600);
    }

    pub(super) fn of_directory(builder: &mut DirBuilder) {
        builder.mode(0o700);
    }

    pub(super) fn restrict(file: &File) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(0o600))
    }
}

/// On other systems files inherit their permissions from the directory, such as a user's home on
/// Windows.
#[cfg(not(unix))]
mod permissions {
    use std::{
        fs::{DirBuilder, File, OpenOptions},
        io,
    };

    pub(super) fn of_file(_: &mut OpenOptions) {}

    pub(super) fn of_directory(_: &mut DirBuilder) {}

    #[expect(clippy::unnecessary_wraps, reason = "the signature is that of Unix")]
    pub(super) fn restrict(_: &File) -> io::Result<()> {
        Ok(())
    }
}
