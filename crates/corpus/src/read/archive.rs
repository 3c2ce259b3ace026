//! Tar and zip archives: their members are read as files of a folder would be. Nothing is ever written to
//! disk; members whose names or links lead out of the archive are quarantined all the same, since nobody
//! means well by them.

use std::cell::Cell;
use std::io::{self, Read};

use store::fs::FsReader;
use tar::EntryType;

use super::outcome::{Failure, Level, Outcome, Readable, unusable};
use super::sink::Sink;
use super::unpack::{Guard, claims_a_bomb, damage};
use crate::Result;
use crate::kind::Kind;

/// Archives within archives are read so deep.
const DEEPEST: u32 = 3;
/// A longer target of a link is none.
const LONGEST_TARGET_BYTES: u64 = 4096;
/// Longer paths are opened by no system.
const LONGEST_NAME_BYTES: usize = 4096;
/// Headers of one member of a tar archive, long names and extended attributes among them: they are held
/// whole.
const MOST_HEADER_BYTES: u64 = 1 << 20;

/// Reads a tar archive as it streams by.
pub fn tar(bytes: &mut dyn Read, name: &str, level: &Level, sink: &mut Sink<'_>) -> Outcome<Readable> {
    if let Some(reason) = too_deep(level) {
        return unusable(reason);
    }
    let next_body = Cell::new(MOST_HEADER_BYTES);
    let mut archive = tar::Archive::new(Headers { inner: bytes, at: 0, end: &next_body });
    for (number, entry) in archive.entries()?.enumerate() {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) if number > 0 => {
                sink.pass_over(name, format!("the archive ends after {number} members: {error}"))?;
                break;
            }
            Err(error) => return Err(error.into()),
        };
        let kind = entry.header().entry_type();
        // Holes are not in the archive, and so in the member's size alone.
        let size = if kind == EntryType::GNUSparse { entry.header().entry_size()? } else { entry.size() };
        let body_end = entry.raw_file_position().saturating_add(size);
        next_body.set(body_end.saturating_add(MOST_HEADER_BYTES));
        let member = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let place = place(name, &member);
        let reason = match kind {
            EntryType::Regular | EntryType::Continuous => escapes(&member),
            EntryType::GNUSparse => {
                let holes =
                    "is stored as a sparse file, which is not supported: create the archive without --sparse";
                escapes(&member).or_else(|| wanted(&member).map(|_| holes))
            }
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                escapes(&member).or_else(|| link_escapes(&String::from_utf8_lossy(&target)))
            }
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            _ => Some("is a device or a pipe"),
        };
        if let Some(reason) = reason {
            sink.pass_over(&place, reason)?;
        } else if let Some(kind) = wanted(&member).filter(|_| entry.header().entry_type().is_file()) {
            let left = entry.size();
            read_member(kind, &mut Whole { inner: &mut entry, left }, &place, level, sink)?;
        } else {
            sink.counts.ignored_files += 1;
        }
    }
    Ok(Ok(()))
}

/// Reads a zip archive by its directory.
pub fn zip(file: Box<dyn FsReader>, name: &str, level: &Level, sink: &mut Sink<'_>) -> Outcome<Readable> {
    if let Some(reason) = too_deep(level) {
        return unusable(reason);
    }
    let mut archive = match zip::ZipArchive::new(file) {
        Ok(archive) => archive,
        Err(error) => return unusable(format!("is not a zip archive, or is damaged: {error}")),
    };
    for index in 0..archive.len() {
        let member = archive.name_for_index(index).and_then(std::result::Result::ok);
        let shown = place(name, &member.unwrap_or_default());
        let mut entry = match archive.by_index(index) {
            Ok(entry) => entry,
            Err(error) => {
                sink.pass_over(&shown, format!("cannot be decompressed: {error}"))?;
                continue;
            }
        };
        let member = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if entry.is_dir() {
            continue;
        }
        let place = place(name, &member);
        let mut reason = escapes(&member).map(ToOwned::to_owned);
        if entry.is_symlink() {
            let mut target = Vec::new();
            // What cannot be read leads nowhere.
            let _ = entry.by_ref().take(LONGEST_TARGET_BYTES).read_to_end(&mut target);
            reason =
                reason.or_else(|| link_escapes(&String::from_utf8_lossy(&target)).map(ToOwned::to_owned));
        }
        let (packed, unpacked, is_file) = (entry.compressed_size(), entry.size(), entry.is_file());
        let kind = wanted(&member).filter(|_| is_file && !entry.is_symlink());
        if kind.is_some() {
            reason = reason.or_else(|| claims_a_bomb(packed, unpacked));
        }
        match (reason, kind) {
            (Some(reason), _) => sink.pass_over(&place, reason)?,
            (None, Some(kind)) => {
                let mut guarded = Guard::new(Box::new(entry), packed, &level.budget);
                read_member(kind, &mut guarded, &place, level, sink)?;
            }
            (None, None) => sink.counts.ignored_files += 1,
        }
    }
    Ok(Ok(()))
}

/// A member up to the size its header tells: where the archive is cut off, it is no shorter member but a
/// broken one.
struct Whole<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

fn too_deep(level: &Level) -> Option<String> {
    (level.depth >= DEEPEST).then(|| format!("is an archive nested in {DEEPEST} others: unpack them first"))
}

/// A member that fails is quarantined, and the next one read.
fn read_member(
    kind: Kind,
    bytes: &mut dyn Read,
    place: &str,
    level: &Level,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let before = sink.documents;
    let below = Level { depth: level.depth + 1, ..level.clone() };
    let reason = match (level.read_member)(kind, bytes, place, &below, sink) {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(unusable)) => unusable.0,
        Err(Failure::Ours(error)) => return Err(error),
        Err(Failure::Io(error)) => damage(&error, sink.documents - before),
    };
    sink.pass_over(place, reason)
}

/// The member's kind, where it is one that would be read from a folder.
fn wanted(member: &str) -> Option<Kind> {
    let mut parts = member.split('/').filter(|&part| part != ".");
    if parts.any(|part| part.starts_with('.') || part == "__MACOSX") {
        return None;
    }
    Kind::of_name_beside_others(member.rsplit('/').next()?)
}

/// Why a member's name is not to be trusted.
fn escapes(member: &str) -> Option<&'static str> {
    if member.len() > LONGEST_NAME_BYTES {
        return Some("has a name that is too long");
    }
    let is_absolute = member.starts_with(['/', '\\']) || member.as_bytes().get(1) == Some(&b':');
    if member.contains('\0') {
        Some("has a NUL in its name")
    } else if is_absolute {
        Some("has an absolute path")
    } else if member.split(['/', '\\']).any(|part| part == "..") {
        Some("has a path that leads out of the archive (`..`)")
    } else {
        None
    }
}

/// Links within an archive lead to members that are read anyway.
fn link_escapes(target: &str) -> Option<&'static str> {
    escapes(target).map(|_| "is a link that leads out of the archive")
}

/// Bytes of a tar archive, up to where the headers before the next member's body end at the latest.
struct Headers<'a> {
    inner: &'a mut dyn Read,
    at: u64,
    end: &'a Cell<u64>,
}

impl Read for Headers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.end.get() && !buffer.is_empty() {
            let reason = format!("the headers of a member are larger than {} MB", MOST_HEADER_BYTES >> 20);
            return Err(io::Error::other(reason));
        }
        let read = self.inner.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A member's name as it is told: control characters would spoil a terminal.
fn place(archive: &str, member: &str) -> String {
    let member = &member[..member.floor_char_boundary(LONGEST_NAME_BYTES)];
    let shown: String = member.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    format!("{archive}/{shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_are_known() {
        for bad in ["../a.txt", "a/../../b.txt", "/etc/passwd", "C:\\a.txt", "a\\..\\b.txt", "a\0.txt", "\\x"]
        {
            assert!(escapes(bad).is_some(), "{bad:?}");
        }
        for good in ["a.txt", "./a/b.txt", "a..b/c...txt", "..a/b.txt"] {
            assert_eq!(escapes(good), None, "{good}");
        }
        assert!(wanted("a/.git/x.txt").is_none() && wanted("./a/x.txt").is_some());
        assert_eq!(place("a.zip", "b\n\0c"), "a.zip/b\u{fffd}\u{fffd}c");
    }
}
