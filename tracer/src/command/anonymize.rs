//! `anonymize`: copies a recording, or all files of a flight recorder, without addresses and names, so that
//! they can be shared.

use std::{
    fs::{self, File},
    io::{self, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};

use anyhow::Result;
use same_file::Handle;

use crate::{
    cli::commands::AnonymizeArgs,
    message::{
        exit::Exit,
        failure::{Failure, describe},
        stderr::warn,
    },
    record::{
        destination::record_to,
        errors,
        flight::files_in,
        owner_only::{self, Existing},
    },
    trace::{
        anonymize::{Anonymizer, Key},
        recording::{Frame, Reader, RecordingError},
    },
};

/// Minimum length of a secret in bytes: a shorter one can be guessed.
const MIN_SECRET: usize = 16;

/// Maximum length of a secret in bytes. It rejects devices, which yield endless bytes that differ
/// at each read.
const MAX_SECRET: u64 = 1 << 20;

/// Makes an anonymizer with the key in `key_file`; `None`: with a random key.
///
/// # Errors
///
/// The key file cannot be read or is too short or long, or no random bytes are available.
pub(crate) fn anonymizer(key_file: Option<&Path>) -> Result<Anonymizer, Failure> {
    let key = match key_file {
        Some(path) => key_in(path)?,
        None => {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|error| {
                let remedy = "give a key with --key-file";
                Failure::cannot_run("cannot make a random key", error.to_string(), remedy)
            })?;
            Key::from_random(bytes)
        }
    };
    Ok(Anonymizer::new(key))
}

fn key_in(path: &Path) -> Result<Key, Failure> {
    let unusable = |why: String| {
        let what = format!("cannot read the key from {}", path.display());
        Failure::usage(what, why, "create one: (umask 077; head -c 32 /dev/urandom > FILE)")
    };
    let mut secret = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SECRET + 1).read_to_end(&mut secret))
        .map_err(|error| unusable(describe(&error)))?;
    if secret.len() as u64 > MAX_SECRET {
        return Err(unusable(format!("it has more than {MAX_SECRET} bytes")));
    }
    // An editor may have appended a newline.
    let secret = secret.trim_ascii_end();
    if secret.len() < MIN_SECRET {
        return Err(unusable(format!("a key of {} bytes can be guessed", secret.len())));
    }
    Ok(Key::from_secret(secret))
}

/// Writes an anonymized copy of a recording, or of each file of a flight recorder.
///
/// # Errors
///
/// The input cannot be read or the output cannot be written. If the input is damaged, the copy has
/// every frame before the damage.
pub(crate) fn run(args: &AnonymizeArgs) -> Result<Exit> {
    let mut anonymizer = anonymizer(args.key_file.as_deref())?;
    if fs::metadata(&args.from).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(copy_directory(args, &mut anonymizer)?);
    }
    let (from, to) = (&args.from, &args.to);
    let copied = copy(from, to, Existing::unless_forced(args.force), &mut anonymizer)?;
    let frames = copied.frames;
    if let Some(failure) = copied.failure(from, to) {
        return Err(failure.into());
    }
    warn(&format!("anonymized {frames} frames of {} to {}", from.display(), to.display()));
    Ok(Exit::Done)
}

/// Copies each file of a flight recorder's directory into a new one, under its name, which tells nothing
/// but the time.
fn copy_directory(args: &AnonymizeArgs, anonymizer: &mut Anonymizer) -> Result<Exit, Failure> {
    let (from, to) = (&args.from, &args.to);
    let files =
        recorded_files(from).map_err(|error| errors::unreadable(from, &error.into(), false))?;
    if same_file::is_same_file(from, to).unwrap_or(false) {
        return Err(into_itself(from));
    }
    create_directory(to, args.force).map_err(|error| errors::unusable_directory(to, &error))?;
    let (mut frames, mut failure) = (0, None);
    for file in &files {
        let Some(name) = file.file_name() else { continue };
        let to = to.join(name);
        let copied = copy(file, &to, Existing::unless_forced(args.force), anonymizer)?;
        frames += copied.frames;
        // The other files can be read without this one.
        failure = failure.or(copied.failure(file, &to));
    }
    let (count, from, to) = (files.len(), from.display(), to.display());
    warn(&format!("anonymized {frames} frames in {count} files of {from} to {to}"));
    failure.map_or(Ok(Exit::Done), Err)
}

/// The files of a flight recorder in a directory, oldest first.
fn recorded_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let files = files_in(directory)?.into_iter().map(|(_, path)| path);
    // The flight recorder may have been killed before it wrote anything to its last file.
    let is_empty = |path: &PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0);
    let files: Vec<_> = files.filter(|path| !is_empty(path)).collect();
    if files.is_empty() {
        let why = "this is a directory without a flight recorder's files";
        return Err(io::Error::new(ErrorKind::IsADirectory, why));
    }
    Ok(files)
}

/// Creates a directory. One that exists may be empty, or with `force` have other files.
fn create_directory(path: &Path, force: bool) -> io::Result<()> {
    let is_empty = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    match owner_only::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && (force || is_empty()) => Ok(()),
        result => result,
    }
}

/// What could be copied of a recording.
struct Copied {
    frames: u64,
    /// Why the rest could not be read.
    damage: Option<anyhow::Error>,
}

impl Copied {
    /// The failure if it is not the whole recording.
    fn failure(self, from: &Path, to: &Path) -> Option<Failure> {
        let failure = errors::unreadable(from, &self.damage?, false);
        Some(match self.frames {
            0 => failure,
            frames => salvaged(failure, from, to, frames),
        })
    }
}

/// Writes an anonymized copy of one recording, up to its first damage. If not even its beginning can be
/// read, no file is created and none is overwritten.
///
/// # Errors
///
/// The copy cannot be written, or would overwrite the recording.
fn copy(
    from: &Path,
    to: &Path,
    existing: Existing,
    anonymizer: &mut Anonymizer,
) -> Result<Copied, Failure> {
    let unreadable = |error: anyhow::Error| Ok(Copied { frames: 0, damage: Some(error) });
    let input = match File::open(from) {
        Ok(input) => input,
        Err(error) => return unreadable(error.into()),
    };
    if are_the_same(&input, to) {
        return Err(into_itself(from));
    }
    let mut input = match Reader::new(BufReader::new(input)) {
        Ok(input) => input,
        Err(error) => return unreadable(error.into()),
    };
    let session = match input.next() {
        Some(Ok(session @ Frame::Session(_))) => session,
        Some(Err(error)) => return unreadable(error.into()),
        _ => return unreadable(RecordingError::no_session().into()),
    };
    let mut recorder = record_to(to, existing)?;
    let mut copied = Copied { frames: 0, damage: None };
    let write = || -> io::Result<()> {
        recorder.write(&anonymizer.frame(&session))?;
        copied.frames += 1;
        for frame in input {
            match frame {
                Ok(frame) => recorder.write(&anonymizer.frame(&frame))?,
                Err(error) => {
                    copied.damage = Some(error.into());
                    break;
                }
            }
            copied.frames += 1;
        }
        recorder.flush()
    };
    if let Err(error) = write() {
        drop(recorder);
        return Err(errors::cut_short(to, &error));
    }
    Ok(copied)
}

fn into_itself(from: &Path) -> Failure {
    let what = format!("cannot anonymize {} into itself", from.display());
    let why = "it would be overwritten before it is read";
    Failure::usage(what, why, "name another file or directory to write")
}

fn salvaged(failure: Failure, from: &Path, to: &Path, count: u64) -> Failure {
    let remedy = format!(
        "{} contains the {count} frames before that and can be read; {}",
        to.display(),
        failure.remedy
    );
    let what = format!("the recording {} can be read only in part", from.display());
    Failure { what, remedy, ..failure }
}

/// Whether both are the same file, even under different paths.
fn are_the_same(input: &File, to: &Path) -> bool {
    // Writing to a device overwrites nothing.
    if !fs::metadata(to).is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let handles =
        || io::Result::Ok((Handle::from_file(input.try_clone()?)?, Handle::from_path(to)?));
    handles().is_ok_and(|(input, to)| input == to)
}
