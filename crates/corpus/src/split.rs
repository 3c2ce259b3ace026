//! Which documents are kept for validation.
//!
//! Each document is filtered by the hash of its text and the seed alone, so adding or removing others moves
//! none across. Of two or more documents at least one is on each side. A corpus of one document is cut in
//! two: the last `validation_fraction` of its characters is kept for validation, the cut at floor(n · (1 −
//! fraction)) characters, which is nanoGPT's.

use std::path::Path;

use store::fs::Fs;
use tokens::Split;

use crate::document::{JsonLinesWriter, documents, documents_file, read_documents};
use crate::{CorpusSummary, Document, Result, SplitCounts};

/// A document's place in [0, 1): below the fraction is validation.
pub fn place(seed: u64, document: &Document) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(document.hash.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // 53 bits, as many as f64 holds: 2⁶⁴ − 1 would round up to 1.
    (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64
}

/// The document of each split that is nearest to the other side.
#[derive(Default)]
pub struct Borderline {
    train: Option<(f64, u64)>,
    validation: Option<(f64, u64)>,
}

impl Borderline {
    /// Sees the `index`th document of `split`.
    pub fn see(&mut self, split: Split, place: f64, index: u64) {
        let (kept, nearer): (_, fn(f64, f64) -> bool) = match split {
            Split::Train => (&mut self.train, |new, old| new < old),
            Split::Validation => (&mut self.validation, |new, old| new > old),
        };
        if kept.is_none_or(|(old, _)| nearer(place, old)) {
            *kept = Some((place, index));
        }
    }
}

/// Moves a document, or cuts the only one, so that neither side is empty.
pub fn settle(
    fs: &dyn Fs,
    folder: &Path,
    fraction: f64,
    borderline: &Borderline,
    summary: &mut CorpusSummary,
) -> Result<()> {
    if fraction == 0.0 {
        return Ok(());
    }
    match (summary.train.documents, summary.validation.documents) {
        (1, 0) => cut_only(fs, folder, Split::Train, fraction, summary),
        (0, 1) => cut_only(fs, folder, Split::Validation, fraction, summary),
        (_, 0) => match borderline.train {
            Some((_, index)) => move_one(fs, folder, Split::Train, index, summary),
            None => Ok(()),
        },
        (0, _) => match borderline.validation {
            Some((_, index)) => move_one(fs, folder, Split::Validation, index, summary),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Position in bytes at which a single document is split; `None` if a side would be empty.
fn cut_at(text: &str, fraction: f64) -> Option<usize> {
    let characters = text.chars().count();
    let kept = (characters as f64 * (1.0 - fraction)) as usize;
    let at = text.char_indices().nth(kept)?.0;
    (at > 0).then_some(at)
}

fn cut_only(
    fs: &dyn Fs,
    folder: &Path,
    from: Split,
    fraction: f64,
    summary: &mut CorpusSummary,
) -> Result<()> {
    let Some(whole) = documents(fs, folder, from)?.next().transpose()? else { return Ok(()) };
    let Some(at) = cut_at(&whole.text, fraction) else { return Ok(()) };
    let (first, last) = whole.text.split_at(at);
    summary.train = SplitCounts::default();
    summary.validation = SplitCounts::default();
    for (split, text) in [(Split::Train, first), (Split::Validation, last)] {
        let source = format!("{} ({})", whole.source, split.name());
        let document = Document {
            domain: whole.domain.clone(),
            ..Document::new(text.to_owned(), source, whole.language.clone())
        };
        let mut writer = JsonLinesWriter::create(fs, &folder.join(documents_file(split)))?;
        writer.write(&document)?;
        writer.finish()?;
        counts(summary, split).add(&document);
    }
    Ok(())
}

fn move_one(fs: &dyn Fs, folder: &Path, from: Split, index: u64, summary: &mut CorpusSummary) -> Result<()> {
    let to = if from == Split::Train { Split::Validation } else { Split::Train };
    let path = folder.join(documents_file(from));
    let all = folder.join("all.tmp");
    fs.rename(&path, &all).map_err(store::Error::io("move", &path))?;
    let mut rest = JsonLinesWriter::create(fs, &path)?;
    let mut moved = JsonLinesWriter::create(fs, &folder.join(documents_file(to)))?;
    for (at, document) in (0..).zip(read_documents(fs, &all)?) {
        let document = document?;
        if at == index {
            counts(summary, from).remove(&document);
            counts(summary, to).add(&document);
            moved.write(&document)?;
        } else {
            rest.write(&document)?;
        }
    }
    rest.finish()?;
    moved.finish()?;
    Ok(fs.remove_file(&all).map_err(store::Error::io("remove", &all))?)
}

pub fn counts(summary: &mut CorpusSummary, split: Split) -> &mut SplitCounts {
    match split {
        Split::Train => &mut summary.train,
        Split::Validation => &mut summary.validation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_of_one_document_is_nanogpt_s() {
        assert_eq!(cut_at(&"a".repeat(1_115_394), 0.1), Some(1_003_854));
        assert_eq!(cut_at("éàé", 0.4), Some(2));
        assert_eq!(cut_at("a", 0.1), None);
        assert_eq!(cut_at("", 0.1), None);
        assert_eq!(cut_at("ab", 0.01), Some(1));
    }

    #[test]
    fn places_are_uniform_and_depend_on_the_seed() {
        let document = |i: u32| Document::new(i.to_string(), String::new(), None);
        let below = (0..2000).filter(|&i| place(7, &document(i)) < 0.25).count();
        assert!((420..580).contains(&below), "{below} of 2000");
        assert_ne!(place(1, &document(0)), place(2, &document(0)));
        assert_eq!(place(1, &document(0)), place(1, &document(0)));
    }
}
