//! Opens files in folders that may come from someone else.
//!
//! A name that the program writes to may exist as a symbolic link to a file of the user, as a named pipe that
//! blocks, or as a device. Files opened for writing here are regular files of that name or new; files opened
//! for reading may be links (model folders in caches contain many), but opening never blocks. Links to
//! *folders* on the path are followed: `runs/` may be on another disk. Non-goal: a folder that others change
//! while the program runs.

use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::path::Path;

/// Opens `path` with `options` if it is a regular file or does not exist; a link as the last component is not
/// followed. A new file is as private as its folder.
///
/// # Errors
/// System errors, and `InvalidInput` with the type and the remedy for anything but a regular file.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    as_private_as_its_folder(options, path);
    #[cfg(unix)]
    custom(options, rustix::fs::OFlags::NOFOLLOW);
    #[cfg(not(unix))]
    if let Some(there) = kind_of(path).filter(|there| !there.is_file()) {
        return Err(refusal(there));
    }
    checked(options.open(path), || kind_of(path))
}

/// Opens a regular file, or a link to one, for reading. A pipe or a device is refused at once.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    custom(&mut options, rustix::fs::OFlags::empty());
    checked(options.open(path), || fs::metadata(path).ok().map(|metadata| metadata.file_type()))
}

/// Creates or truncates a file that only its owner can read and write.
///
/// # Errors
/// As [`open`].
pub fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, PRIVATE_FILE);
    open(&mut options, path)
}

/// Opens a file for appending, creating it if missing.
///
/// # Errors
/// As [`open`].
pub fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    open(&mut options, path)
}

/// Creates or truncates a file.
///
/// # Errors
/// As [`open`].
pub fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    open(&mut options, path)
}

/// Creates a new file; a leftover or a link of that name is removed first.
///
/// # Errors
/// System errors, for example for a folder of that name.
pub fn replace(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    as_private_as_its_folder(&mut options, path);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path).map_err(|error| kind_of(path).map_or(error, refusal))?;
            options.open(path)
        }
        opened => opened,
    }
}

/// Removes a link, a pipe or a device at a path where another program, which would follow it, is about to
/// write.
///
/// # Errors
/// System errors, for example for a folder of that name.
pub fn clear_the_way(path: &Path) -> io::Result<()> {
    match kind_of(path) {
        Some(there) if !there.is_file() => fs::remove_file(path).map_err(|_| refusal(there)),
        _ => Ok(()),
    }
}

/// Creates a folder and its missing parents, accessible to their owner only. An existing folder is not
/// changed.
///
/// # Errors
/// System errors.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(unix)]
const PRIVATE_FILE: u32 = 0o600;

/// Removes permissions of others if the folder gives others none: files of a run's folder can be moved or
/// packed, and take their permissions along.
fn as_private_as_its_folder(options: &mut OpenOptions, path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if fs::metadata(folder).is_ok_and(|folder| folder.permissions().mode() & 0o077 == 0) {
            options.mode(PRIVATE_FILE);
        }
    }
    #[cfg(not(unix))]
    let _ = (options, path);
}

/// Does not block on a pipe, and does not acquire a controlling terminal.
#[cfg(unix)]
fn custom(options: &mut OpenOptions, flags: rustix::fs::OFlags) {
    use rustix::fs::OFlags;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags.bits().cast_signed());
}

/// Checks that an opened file is regular; `there` is the type of the path if it could not be opened.
fn checked(opened: io::Result<File>, there: impl FnOnce() -> Option<FileType>) -> io::Result<File> {
    let opened = opened.map_err(|error| match there() {
        Some(there) if !there.is_file() => refusal(there),
        _ => error,
    })?;
    let there = opened.metadata()?.file_type();
    if there.is_file() { Ok(opened) } else { Err(refusal(there)) }
}

/// The type of `path`, without following links; `None` if unknown.
fn kind_of(path: &Path) -> Option<FileType> {
    fs::symlink_metadata(path).ok().map(|metadata| metadata.file_type())
}

fn refusal(there: FileType) -> io::Error {
    let what = match () {
        () if there.is_symlink() => "a symbolic link",
        () if there.is_dir() => "a folder",
        () if is_pipe(there) => "a named pipe",
        () => "a device or a socket",
    };
    let message = format!(
        "it is {what}, not a regular file, and was not created by this program. Move it away and run the \
         same command again"
    );
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(unix)]
fn is_pipe(there: FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&there)
}

#[cfg(not(unix))]
fn is_pipe(_: FileType) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    type Open = fn(&Path) -> io::Result<File>;

    fn read_write(path: &Path) -> io::Result<File> {
        open(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)
    }

    fn read_only(path: &Path) -> io::Result<File> {
        open(OpenOptions::new().read(true), path)
    }

    /// Where nothing else may be opened, each way to open is refused at once, with a remedy.
    #[test]
    fn only_regular_files_are_opened_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let path = folder.path().join("planted");
        let plants: [(&str, &dyn Fn()); 5] = [
            ("a symbolic link", &|| symlink(&victim, &path).unwrap()),
            ("a symbolic link", &|| symlink("/dev/full", &path).unwrap()),
            ("a symbolic link", &|| symlink("nowhere", &path).unwrap()),
            ("a named pipe", &|| assert!(Command::new("mkfifo").arg(&path).status().unwrap().success())),
            ("a folder", &|| fs::create_dir(&path).unwrap()),
        ];
        for (what, plant) in plants {
            plant();
            let ways: [Open; 5] = [append, create, create_private, read_write, read_only];
            for (index, way) in ways.into_iter().enumerate() {
                let error = way(&path).unwrap_err();
                let message = error.to_string();
                assert!(message.contains(what) && message.contains("Move it away"), "way {index}: {message}");
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "way {index}");
            }
            if what == "a folder" {
                assert!(replace(&path).unwrap_err().to_string().contains("a folder"));
                assert!(clear_the_way(&path).unwrap_err().to_string().contains("a folder"));
                fs::remove_dir(&path).unwrap();
            } else {
                replace(&path).unwrap();
                assert!(kind_of(&path).unwrap().is_file(), "a new file in place of {what}");
                fs::remove_file(&path).unwrap();
                plant();
                clear_the_way(&path).unwrap();
                assert_eq!(kind_of(&path), None);
            }
            assert!(!folder.path().join("nowhere").exists());
            assert_eq!(fs::read(&victim).unwrap(), b"precious");
        }
    }

    #[test]
    fn reading_follows_links_to_files_and_never_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "text").unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!(io::read_to_string(read(&link).unwrap()).unwrap(), "text");
        fs::remove_file(&file).unwrap();
        assert_eq!(read(&link).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        assert!(read(&link).unwrap_err().to_string().contains("a named pipe"));
        assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().contains("a device"));
        assert!(read(folder.path()).unwrap_err().to_string().contains("a folder"));
    }

    #[test]
    fn a_file_is_as_private_as_its_folder_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let (private, open) = (folder.path().join("a/b"), folder.path().join("open"));
        create_private_folder(&private).unwrap();
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&private), mode(&folder.path().join("a"))), (0o700, 0o700));
        for (name, way) in
            [("append", append as Open), ("create", create), ("replace", replace), ("open", read_write)]
        {
            way(&private.join(name)).unwrap();
            assert_eq!(mode(&private.join(name)), 0o600, "{name}");
            way(&open.join(name)).unwrap();
            // What others may is the umask's affair.
            fs::write(open.join("plain"), "").unwrap();
            assert_eq!(mode(&open.join(name)), mode(&open.join("plain")), "{name}");
        }
        create_private(&open.join("private")).unwrap();
        assert_eq!(mode(&open.join("private")), 0o600);
    }
}
