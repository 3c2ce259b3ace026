//! An in-memory disk that fails and crashes on demand, for tests.
//!
//! It keeps two states: what a running program sees, and what a power failure is certain to leave. File bytes
//! become durable with a sync of the file, names with a sync of their folder; until then a crash keeps any
//! subset of the name changes and any prefix of a file's bytes. This is stricter than most journals, on
//! purpose.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Cursor, Write};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Entry, FileKind, Fs, FsFile, FsReader};

/// A fault at a selected call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with this error and does nothing.
    Error(io::ErrorKind),
    /// A write stores half of its bytes, then fails; any other call fails with `StorageFull`.
    ShortWrite,
    /// Power failure: this call and all later ones fail. See [`MemoryFs::after_crash`].
    Crash,
}

/// The disk; clones share it.
#[derive(Clone, Default)]
pub struct MemoryFs {
    state: Arc<Mutex<State>>,
}

enum Inode {
    File { bytes: Vec<u8>, synced: Vec<u8> },
    Folder { names: BTreeMap<String, usize>, synced: BTreeMap<String, usize> },
}

/// Name changes that are atomic together: (folder, name, what it now refers to).
type NameChange = Vec<(usize, String, Option<usize>)>;

struct State {
    inodes: Vec<Inode>,
    pending: Vec<NameChange>,
    calls: u64,
    fault: Option<(u64, Fault)>,
    crashed: bool,
    capacity: Option<u64>,
}

const ROOT: usize = 0;

impl Default for State {
    fn default() -> State {
        let root = Inode::Folder { names: BTreeMap::new(), synced: BTreeMap::new() };
        State {
            inodes: vec![root],
            pending: Vec::new(),
            calls: 0,
            fault: None,
            crashed: false,
            capacity: None,
        }
    }
}

impl MemoryFs {
    /// An empty disk of unlimited size.
    pub fn new() -> MemoryFs {
        MemoryFs::default()
    }

    /// The number of changing calls so far: the range for [`MemoryFs::fail_at`].
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Makes the changing call number `call` (counted from 0 since the disk was made) fail.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.lock().fault = Some((call, fault));
    }

    /// Limit on the total bytes of files; `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Total bytes of files.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes(ROOT)
    }

    /// Changes a file without the program's knowledge, like a decaying disk.
    pub fn mutate(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let id = state.find(path).expect("the file to mutate exists");
        if let Inode::File { bytes, synced } = &mut state.inodes[id] {
            change(bytes);
            synced.clone_from(bytes);
        }
    }

    /// The disk after a power failure now; `seed` selects among the legal states. 0: nothing that was not
    /// synced survives; 1: everything does.
    pub fn after_crash(&self, seed: u64) -> MemoryFs {
        let state = self.lock();
        let mut random = Random(seed);
        let mut keep = |_: ()| match seed {
            0 => 0,
            1 => 2,
            _ => random.next() % 3,
        };
        let mut folders: Vec<Option<BTreeMap<String, usize>>> = Vec::new();
        let mut inodes = Vec::new();
        for inode in &state.inodes {
            match inode {
                Inode::Folder { synced, .. } => {
                    folders.push(Some(synced.clone()));
                    inodes.push(Inode::Folder { names: BTreeMap::new(), synced: BTreeMap::new() });
                }
                Inode::File { bytes, synced } => {
                    folders.push(None);
                    let left = match keep(()) {
                        _ if bytes == synced => bytes.clone(),
                        0 => synced.clone(),
                        // Data synced before an append are kept.
                        1 if bytes.starts_with(synced) => bytes[..(synced.len() + bytes.len()) / 2].to_vec(),
                        1 => bytes[..bytes.len() / 2].to_vec(),
                        _ => bytes.clone(),
                    };
                    inodes.push(Inode::File { bytes: left.clone(), synced: left });
                }
            }
        }
        for change in &state.pending {
            if keep(()) != 0 {
                for (folder, name, target) in change {
                    let names = folders[*folder].as_mut().expect("names change in folders only");
                    match target {
                        Some(id) => names.insert(name.clone(), *id),
                        None => names.remove(name),
                    };
                }
            }
        }
        for (inode, left) in inodes.iter_mut().zip(folders) {
            if let (Inode::Folder { names, synced }, Some(left)) = (inode, left) {
                names.clone_from(&left);
                *synced = left;
            }
        }
        let state = State { inodes, capacity: state.capacity, ..State::default() };
        MemoryFs { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file or folder")
}

fn dead() -> io::Error {
    io::Error::other("the power is off")
}

impl State {
    /// Counts a changing call and triggers its fault.
    fn enter(&mut self) -> io::Result<Option<Fault>> {
        if self.crashed {
            return Err(dead());
        }
        let call = self.calls;
        self.calls += 1;
        match self.fault {
            Some((at, Fault::Error(kind))) if at == call => Err(io::Error::new(kind, "injected fault")),
            Some((at, Fault::Crash)) if at == call => {
                self.crashed = true;
                Err(dead())
            }
            Some((at, Fault::ShortWrite)) if at == call => Ok(Some(Fault::ShortWrite)),
            _ => Ok(None),
        }
    }

    /// For calls other than writes, for which a short write is a full disk.
    fn enter_whole(&mut self) -> io::Result<()> {
        match self.enter()? {
            None => Ok(()),
            Some(_) => Err(io::Error::new(io::ErrorKind::StorageFull, "injected fault")),
        }
    }

    fn names(&self, folder: usize) -> io::Result<&BTreeMap<String, usize>> {
        match &self.inodes[folder] {
            Inode::Folder { names, .. } => Ok(names),
            Inode::File { .. } => Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder")),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut at = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                at = *self.names(at)?.get(&*name.to_string_lossy()).ok_or_else(missing)?;
            }
        }
        Ok(at)
    }

    fn split(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().ok_or_else(missing)?.to_string_lossy().into_owned();
        Ok((self.find(path.parent().unwrap_or(Path::new("")))?, name))
    }

    fn change(&mut self, change: NameChange) {
        for (folder, name, target) in &change {
            if let Inode::Folder { names, .. } = &mut self.inodes[*folder] {
                match target {
                    Some(id) => names.insert(name.clone(), *id),
                    None => names.remove(name),
                };
            }
        }
        self.pending.push(change);
    }

    fn open_for_writing(&mut self, path: &Path, cut: bool) -> io::Result<usize> {
        let (folder, name) = self.split(path)?;
        if let Some(&id) = self.names(folder)?.get(&name) {
            match &mut self.inodes[id] {
                Inode::File { bytes, .. } if cut => bytes.clear(),
                Inode::File { .. } => {}
                Inode::Folder { .. } => {
                    return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder"));
                }
            }
            return Ok(id);
        }
        self.inodes.push(Inode::File { bytes: Vec::new(), synced: Vec::new() });
        let id = self.inodes.len() - 1;
        self.change(vec![(folder, name, Some(id))]);
        Ok(id)
    }

    fn used_bytes(&self, at: usize) -> u64 {
        match &self.inodes[at] {
            Inode::File { bytes, .. } => bytes.len() as u64,
            Inode::Folder { names, .. } => names.values().map(|&id| self.used_bytes(id)).sum(),
        }
    }

    fn sync_inode(&mut self, id: usize) {
        match &mut self.inodes[id] {
            Inode::File { bytes, synced } => synced.clone_from(bytes),
            Inode::Folder { .. } => {
                let pending = std::mem::take(&mut self.pending);
                for change in pending {
                    if !change.iter().any(|(folder, ..)| *folder == id) {
                        self.pending.push(change);
                        continue;
                    }
                    for (folder, name, target) in change {
                        if let Inode::Folder { synced, .. } = &mut self.inodes[folder] {
                            match target {
                                Some(id) => synced.insert(name, id),
                                None => synced.remove(&name),
                            };
                        }
                    }
                }
            }
        }
    }
}

struct MemoryFile {
    disk: MemoryFs,
    id: usize,
}

impl Write for MemoryFile {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.lock();
        let short = state.enter()?.is_some();
        let room = match state.capacity {
            Some(capacity) => capacity.saturating_sub(state.used_bytes(ROOT)),
            None => u64::MAX,
        };
        let mut count = chunk.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if short {
            count = count.min(chunk.len() / 2);
        }
        if let Inode::File { bytes, .. } = &mut state.inodes[self.id] {
            bytes.extend_from_slice(&chunk[..count]);
        }
        if short || (count == 0 && !chunk.is_empty()) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on the test disk"));
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for MemoryFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.enter_whole()?;
        state.sync_inode(self.id);
        Ok(())
    }
}

impl Fs for MemoryFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let mut state = self.lock();
        state.enter_whole()?;
        let id = state.open_for_writing(path, true)?;
        Ok(Box::new(MemoryFile { disk: self.clone(), id }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let mut state = self.lock();
        state.enter_whole()?;
        let id = state.open_for_writing(path, false)?;
        Ok(Box::new(MemoryFile { disk: self.clone(), id }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsReader>> {
        let state = self.lock();
        if state.crashed {
            return Err(dead());
        }
        match &state.inodes[state.find(path)?] {
            Inode::File { bytes, .. } => Ok(Box::new(Cursor::new(bytes.clone()))),
            Inode::Folder { .. } => Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder")),
        }
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.enter_whole()?;
        let id = state.find(path)?;
        state.sync_inode(id);
        Ok(())
    }

    fn set_len(&self, path: &Path, length: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.enter_whole()?;
        let id = state.find(path)?;
        if let Inode::File { bytes, .. } = &mut state.inodes[id] {
            bytes.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sync_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.enter_whole()?;
        let (from_folder, from_name) = state.split(from)?;
        let (to_folder, to_name) = state.split(to)?;
        let id = *state.names(from_folder)?.get(&from_name).ok_or_else(missing)?;
        if let Some(&there) = state.names(to_folder)?.get(&to_name)
            && let Inode::Folder { names, .. } = &state.inodes[there]
            && !names.is_empty()
        {
            return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "the folder is not empty"));
        }
        state.change(vec![(from_folder, from_name, None), (to_folder, to_name, Some(id))]);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.enter_whole()?;
        let mut at = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let name = name.to_string_lossy().into_owned();
            at = match state.names(at)?.get(&name) {
                Some(&id) => id,
                None => {
                    state.inodes.push(Inode::Folder { names: BTreeMap::new(), synced: BTreeMap::new() });
                    let id = state.inodes.len() - 1;
                    state.change(vec![(at, name, Some(id))]);
                    id
                }
            };
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.enter_whole()?;
        let (folder, name) = state.split(path)?;
        state.names(folder)?.get(&name).ok_or_else(missing)?;
        state.change(vec![(folder, name, None)]);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "the folder is not empty"));
        }
        self.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let entries = self.list(path)?;
        // Name by name, as the system does it: a crash may leave half of the folder.
        for entry in entries {
            let inside = path.join(&entry.name);
            if entry.is_dir { self.remove_dir_all(&inside)? } else { self.remove_file(&inside)? }
        }
        self.remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.lock();
        if state.crashed {
            return Err(dead());
        }
        let id = state.find(path)?;
        Ok(state
            .names(id)?
            .iter()
            .map(|(name, &id)| {
                let (is_dir, bytes) = match &state.inodes[id] {
                    Inode::File { bytes, .. } => (false, bytes.len() as u64),
                    Inode::Folder { .. } => (true, 0),
                };
                Entry { name: name.clone(), is_dir, bytes }
            })
            .collect())
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        let state = self.lock();
        if state.crashed {
            return Err(dead());
        }
        match &state.inodes[state.find(path)?] {
            Inode::File { bytes, .. } => Ok(bytes.len() as u64),
            Inode::Folder { .. } => Ok(0),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.lock();
        !state.crashed && state.find(path).is_ok()
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        let state = self.lock();
        let id = state.find(path).ok().filter(|_| !state.crashed)?;
        Some(match &state.inodes[id] {
            Inode::File { .. } => FileKind::File,
            Inode::Folder { .. } => FileKind::Folder,
        })
    }

    fn names(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
        let kind = |entry: &Entry| if entry.is_dir { FileKind::Folder } else { FileKind::File };
        Ok(self.list(path)?.into_iter().map(|entry| (OsString::from(&entry.name), kind(&entry))).collect())
    }

    fn free_space_bytes(&self, _path: &Path) -> io::Result<u64> {
        let state = self.lock();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used_bytes(ROOT))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_synced_may_go() {
        let disk = MemoryFs::new();
        let path = Path::new("/a");
        let mut file = disk.create(path).unwrap();
        file.write_all(b"one").unwrap();
        assert!(!disk.after_crash(0).exists(path));
        file.sync().unwrap();
        assert!(!disk.after_crash(0).exists(path), "the name needs a folder sync too");
        disk.sync_dir(Path::new("/")).unwrap();
        assert_eq!(disk.after_crash(0).read(path).unwrap(), b"one");

        file.write_all(b"+two").unwrap();
        assert_eq!(disk.after_crash(0).read(path).unwrap(), b"one");
        assert_eq!(disk.after_crash(1).read(path).unwrap(), b"one+two");
        let seen: std::collections::BTreeSet<Vec<u8>> =
            (2..40).map(|seed| disk.after_crash(seed).read(path).unwrap()).collect();
        assert_eq!(seen.len(), 3, "none, half and all of the second write are all legal");
    }

    #[test]
    fn a_rename_is_atomic_but_may_be_undone() {
        let disk = MemoryFs::new();
        let (a, b) = (Path::new("/d/a"), Path::new("/d/b"));
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.create(a).unwrap().write_all(b"x").unwrap();
        disk.sync_file(a).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.rename(a, b).unwrap();
        for seed in 0..20 {
            let left = disk.after_crash(seed);
            assert!(left.exists(a) != left.exists(b));
        }
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = MemoryFs::new();
        disk.set_capacity(Some(5));
        let mut file = disk.create(Path::new("/a")).unwrap();
        assert_eq!(file.write_all(b"1234567").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.used_bytes(), 5);
        disk.set_capacity(Some(9));
        file.write_all(b"89").unwrap();
    }
}
