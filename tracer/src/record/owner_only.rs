//! Files and directories that only their owner may read, because a recording shows who communicates
//! with whom.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    path::Path,
};

/// Creates a file for writing. An existing file is emptied and restricted to its owner.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    permissions::of_file(options.write(true).create(true).truncate(true));
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
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
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
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
