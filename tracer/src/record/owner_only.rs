//! Files and directories that only their owner may read: a recording tells who talked to whom.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    path::Path,
};

/// Creates a file for writing; what is there already is emptied, and closed to others.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    permissions::of_file(options.write(true).create(true).truncate(true));
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        permissions::restrict(&file)?;
    }
    Ok(file)
}

/// Creates a file for writing; an error if it is there already.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    permissions::of_file(options.write(true).create_new(true));
    options.open(path)
}

/// Creates a directory; an error if it is there already.
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

/// Elsewhere a file inherits who may read it from its directory, as a user's own directory does
/// on Windows.
#[cfg(not(unix))]
mod permissions {
    use std::{
        fs::{DirBuilder, File, OpenOptions},
        io,
    };

    pub(super) fn of_file(_: &mut OpenOptions) {}

    pub(super) fn of_directory(_: &mut DirBuilder) {}

    pub(super) fn restrict(_: &File) -> io::Result<()> {
        Ok(())
    }
}
