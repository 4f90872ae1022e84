//! `anonymize`: copies a recording without addresses and names, so that it can be shared.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::Path,
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
    record::{destination::record_to, errors, owner_only::Existing},
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

/// Writes an anonymized copy of a recording.
///
/// # Errors
///
/// The input cannot be read or the output cannot be written. If the input is damaged, the copy has
/// every frame before the damage.
pub(crate) fn run(args: &AnonymizeArgs) -> Result<Exit> {
    let (from, to) = (&args.from, &args.to);
    let mut anonymizer = anonymizer(args.key_file.as_deref())?;
    let unreadable = |error| errors::unreadable(from, &error, false);
    let input = File::open(from).map_err(|error| unreadable(error.into()))?;
    if are_the_same(&input, to) {
        let what = format!("cannot anonymize {} into itself", from.display());
        let why = "it would be overwritten before it is read";
        return Err(Failure::usage(what, why, "name another file to write").into());
    }
    let mut frames =
        Reader::new(BufReader::new(input)).map_err(|error| unreadable(error.into()))?;
    let session = match frames.next() {
        Some(Ok(session @ Frame::Session(_))) => session,
        Some(Err(error)) => return Err(unreadable(error.into()).into()),
        _ => return Err(unreadable(RecordingError::no_session().into()).into()),
    };
    // Created after reading the session, so that a bad input creates no file and overwrites none.
    let mut recorder = record_to(to, Existing::unless_forced(args.force))?;
    let mut count = 0_u64;
    let mut damage = None;
    let write = || -> io::Result<()> {
        recorder.write(&anonymizer.frame(&session))?;
        count += 1;
        for frame in frames {
            match frame {
                Ok(frame) => recorder.write(&anonymizer.frame(&frame))?,
                Err(error) => {
                    damage = Some(error);
                    break;
                }
            }
            count += 1;
        }
        recorder.flush()
    };
    if let Err(error) = write() {
        drop(recorder);
        return Err(errors::cut_short(to, &error).into());
    }
    if let Some(error) = damage {
        return Err(salvaged(unreadable(error.into()), from, to, count).into());
    }
    warn(&format!("anonymized {count} frames of {} to {}", from.display(), to.display()));
    Ok(Exit::Done)
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
