//! Remote entries of `data.paths`, on a hub or in object storage: listed for plans, downloaded for the
//! corpus.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cloud::hub::{Hub, Listing, Reference};
use cloud::storage::{Address, Object, ObjectCache, Storage};
use corpus::{CorpusOptions, Rank, RemoteEntry, RemoteFile};
use runs::report::{Phase, Reporter};
use store::fs::RealFs;

use crate::Result;

/// Whether an entry of `data.paths` is remote; an existing file of the same name takes precedence.
pub fn is_remote(entry: &str) -> bool {
    !matches!(Reference::parse(entry), Ok(None)) || !matches!(Address::parse(entry), Ok(None))
}

/// Number of parallel downloads of objects: for small ones the request takes longer than the transfer.
const AT_ONCE: usize = 8;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The options with remote entries resolved, and the objects among them.
pub(crate) struct Sources {
    pub options: CorpusOptions,
    objects: Vec<(Storage, Object)>,
}

/// Resolves remote entries from listings of the hub and the object storage; nothing else is downloaded.
pub(crate) fn looked_up(
    data: &CorpusOptions,
    base_dir: &Path,
    reporter: &mut dyn Reporter,
) -> Result<CorpusOptions> {
    let hub = Hub::from_environment();
    let mut data = data.clone();
    for (reference, listing) in listings(&hub, &data, base_dir, reporter)? {
        data.remote.push(entry(&hub, &reference, &listing));
    }
    objects(&mut data)?;
    Ok(data)
}

/// Downloads the hub's files, each verified. Objects are only listed: [`Sources::fetch`] downloads them,
/// except for those without an ETag, which are downloaded here too.
pub(crate) fn gathered(
    data: &CorpusOptions,
    base_dir: &Path,
    reporter: &mut dyn Reporter,
) -> Result<Sources> {
    let hub = Hub::from_environment();
    let mut data = data.clone();
    let listings = listings(&hub, &data, base_dir, reporter)?;
    let total = listings.iter().flat_map(|(_, listing)| &listing.files).map(|file| file.bytes).sum();
    let mut done = 0;
    for (reference, listing) in listings {
        for file in &listing.files {
            hub.fetch(&listing, file, &mut |bytes| {
                reporter.progress(Phase::Corpus, done + bytes, total, "bytes")
            })?;
            done += file.bytes;
        }
        data.remote.push(entry(&hub, &reference, &listing));
    }
    let objects = objects(&mut data)?;
    // An object without an ETag is identified by its bytes only, in every stage that checks inputs.
    let (objects, unnamed) = objects.into_iter().partition(|(_, object)| !object.etag.is_empty());
    let unnamed: Vec<(Storage, Object)> = unnamed;
    fetch_all(&unnamed.iter().collect::<Vec<_>>(), reporter)?;
    Ok(Sources { options: data, objects })
}

impl Sources {
    /// Whether there are objects that may not have been downloaded.
    pub fn has_objects(&self) -> bool {
        !self.objects.is_empty()
    }

    /// Downloads the objects that a rank reads.
    pub fn fetch(&self, base_dir: &Path, rank: Rank, reporter: &mut dyn Reporter) -> Result<()> {
        if self.objects.is_empty() {
            return Ok(());
        }
        let wanted: BTreeSet<String> =
            corpus::sources_of_rank(&RealFs, &self.options, base_dir, rank)?.into_iter().collect();
        let wanted: Vec<_> = self
            .objects
            .iter()
            .filter(|(storage, object)| wanted.contains(&storage.place(&object.key)))
            .collect();
        fetch_all(&wanted, reporter)
    }
}

/// Downloads objects in parallel.
fn fetch_all(wanted: &[&(Storage, Object)], reporter: &mut dyn Reporter) -> Result<()> {
    let total = wanted.iter().map(|(_, object)| object.bytes).sum();
    let (cache, next, done) = (ObjectCache::from_environment(), AtomicUsize::new(0), AtomicU64::new(0));
    let doubts = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        while let Some((storage, object)) = wanted.get(next.fetch_add(1, Relaxed)) {
            let mut told = 0;
            let mut progress = |bytes: u64| {
                done.fetch_add(bytes.saturating_sub(told), Relaxed);
                told = told.max(bytes);
            };
            match cache.fetch(storage, object, &mut progress) {
                Ok(fetched) => {
                    doubts.lock().unwrap_or_else(PoisonError::into_inner).extend(fetched.doubt);
                }
                Err(error) => {
                    // The other threads stop after their current object.
                    next.store(wanted.len(), Relaxed);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        // If a thread cannot be started, the work continues without it.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let workers: Vec<_> = (0..AT_ONCE.min(wanted.len())).map_while(start).collect();
        if workers.is_empty() {
            return work();
        }
        while !workers.iter().all(|worker| worker.is_finished()) {
            reporter.progress(Phase::Corpus, done.load(Relaxed).min(total), total, "bytes downloaded");
            std::thread::sleep(LOOK_EVERY);
        }
        let mut ended = workers.into_iter().map(|worker| worker.join());
        ended.try_for_each(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let doubts = doubts.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((first, others)) = doubts.split_first() {
        let more = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
        reporter.warning(Phase::Corpus, &format!("{first}{more}"));
    }
    Ok(())
}

fn listings(
    hub: &Hub,
    data: &CorpusOptions,
    base_dir: &Path,
    reporter: &mut dyn Reporter,
) -> Result<Vec<(Reference, Listing)>> {
    let mut found = Vec::new();
    for path in &data.paths {
        // A folder with the name of a short name is that folder.
        let Some(reference) = Reference::parse(path)?.filter(|_| !base_dir.join(path).exists()) else {
            continue;
        };
        let listing = hub.list(&reference, &mut |note| reporter.warning(Phase::Corpus, note))?;
        found.push((reference, listing));
    }
    Ok(found)
}

fn entry(hub: &Hub, reference: &Reference, listing: &Listing) -> RemoteEntry {
    let file = |file: &cloud::hub::RemoteFile| RemoteFile {
        // The name includes the commit, so the manifest records what was read, wherever the branch is later.
        name: format!("hf://{}@{}/{}", listing.id, listing.commit, file.path),
        path: hub.path(listing, file),
        bytes: file.bytes,
        identity: None,
    };
    RemoteEntry {
        entry: reference.entry.clone(),
        text_field: reference.column.clone(),
        rows_are_lines: reference.rows_are_lines,
        is_folder: false,
        files: listing.files.iter().map(file).collect(),
    }
}

/// Adds the objects of entries in object storage.
fn objects(data: &mut CorpusOptions) -> Result<Vec<(Storage, Object)>> {
    let (cache, mut all) = (ObjectCache::from_environment(), Vec::new());
    for path in &data.paths {
        let Some(address) = Address::parse(path)? else { continue };
        let storage = Storage::from_environment(&address.bucket)?;
        let found = address.sources(&storage)?;
        let file = |object: &Object| RemoteFile {
            name: storage.place(&object.key),
            path: cache.path(&storage, object),
            bytes: object.bytes,
            // Either an object with this ETag is downloaded, or none: so ranks can identify other ranks'
            // objects without reading them.
            identity: (!object.etag.is_empty()).then(|| format!("etag:{}:{}", object.etag, object.bytes)),
        };
        data.remote.push(RemoteEntry {
            entry: path.clone(),
            is_folder: found.is_folder,
            files: found.objects.iter().map(file).collect(),
            ..RemoteEntry::default()
        });
        all.extend(found.objects.into_iter().map(|object| (storage.clone(), object)));
    }
    Ok(all)
}
