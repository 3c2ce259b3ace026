//! Entries of `data.paths` that lie on a hub: looked up for plans, fetched for the corpus.

use std::path::Path;

use cloud::hub::{Hub, Listing, Reference};
use corpus::{CorpusOptions, RemoteEntry, RemoteFile};
use store::report::{Phase, Reporter};

use crate::Result;

/// Whether an entry of `data.paths` is asked of a hub, where no file here is called like it.
pub fn is_remote(entry: &str) -> bool {
    !matches!(Reference::parse(entry), Ok(None))
}

/// The options with what the hub has of them; nothing is fetched but lists.
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
    Ok(data)
}

/// The options with the files of remote entries on this machine, each as the hub announced it.
pub(crate) fn fetched(
    data: &CorpusOptions,
    base_dir: &Path,
    reporter: &mut dyn Reporter,
) -> Result<CorpusOptions> {
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
    Ok(data)
}

fn listings(
    hub: &Hub,
    data: &CorpusOptions,
    base_dir: &Path,
    reporter: &mut dyn Reporter,
) -> Result<Vec<(Reference, Listing)>> {
    let mut found = Vec::new();
    for path in &data.paths {
        // A folder that happens to be called like a named set is that folder.
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
        // The commit in the name: a manifest then says what was read, whatever the branch is by now.
        name: format!("hf://{}@{}/{}", listing.id, listing.commit, file.path),
        path: hub.path(listing, file),
        bytes: file.bytes,
    };
    RemoteEntry {
        entry: reference.entry.clone(),
        text_field: reference.column.clone(),
        rows_are_lines: reference.rows_are_lines,
        files: listing.files.iter().map(file).collect(),
    }
}
