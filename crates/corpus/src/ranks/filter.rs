//! The filter stage: a rank reads its part of the sources and writes its filter decisions.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use runs::report::{Phase, Reporter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::atomic;
use store::fs::Fs;
use store::stage::Stage;

use super::{Rank, Ranks, shares};
use crate::decisions::{FilterDecision, bytes_of, filter_sources};
use crate::dedup::DuplicateOptions;
use crate::document::{self, Documents, JsonLinesWriter, PASSING_LEVEL};
use crate::rules::{self, Rules};
use crate::sources::{self, Source};
use crate::{CorpusOptions, Error, Fault, Result};

/// The stage's name in its manifests.
pub const FILTER_STAGE: &str = "filter";

const DECISIONS_FILE: &str = "decisions.jsonl.zst";
const REPORT_FILE: &str = "report.json";
/// Raised when the same files and options give other decisions, or the same ones in another form.
const STAGE_VERSION: u32 = 4;

/// `report.json` of a rank.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSummary {
    /// Number of files in its share.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Documents processed.
    pub documents: u64,
    /// Whether it was already done and its folder still good.
    #[serde(skip)]
    pub reused: bool,
}

/// Inputs of decisions: BLAKE3 by source, and by file of the filters.
pub struct Inputs {
    pub sources: BTreeMap<String, String>,
    pub rules: BTreeMap<String, String>,
}

impl Inputs {
    /// Those of some sources, for a manifest.
    pub fn of(&self, sources: &[Source]) -> BTreeMap<String, String> {
        let hash = |source: &Source| Some((source.name.clone(), self.sources.get(&source.name)?.clone()));
        let rules = self.rules.iter().map(|(name, hash)| (name.clone(), hash.clone()));
        sources.iter().filter_map(hash).chain(rules).collect()
    }
}

/// Processes a rank's part of the sources in `options`. If its folder is up to date, it is left unchanged.
///
/// # Errors
/// Invalid options; a missing path; I/O errors. An unreadable file is recorded as a decision, not returned
/// as an error.
pub fn filter_rank(
    fs: &dyn Fs,
    options: &CorpusOptions,
    project: &Path,
    folder: &Path,
    rank: Rank,
    reporter: &mut dyn Reporter,
) -> Result<FilterSummary> {
    let share = &share(fs, options, project, rank)?;
    let stage = Stage { inputs: share_inputs(fs, options, project, share)?, ..filter_by(options, rank) };
    let out = Ranks { folder, of: rank.of() }.of_rank(FILTER_STAGE, rank.number());
    if stage.current(fs, &out)?.is_some() {
        let summary: FilterSummary = atomic::read_json(fs, &out.join(REPORT_FILE))?;
        return Ok(FilterSummary { reused: true, ..summary });
    }
    // What is stale must not be taken for done while this one works.
    store::stage::remove(fs, &out, FILTER_STAGE)?;

    let rules = Rules::open(fs, options, project)?;
    let staged = stage.begin(fs, &out)?;
    let mut writer = JsonLinesWriter::create_at(PASSING_LEVEL, fs, &staged.path().join(DECISIONS_FILE))?;
    let mut summary = FilterSummary::default();
    filter_sources(fs, share, &rules, reporter, &mut |decision| {
        match &decision {
            FilterDecision::Document(_) => summary.documents += 1,
            FilterDecision::PassedOver(_) => {}
            FilterDecision::End(end) => {
                summary.files += 1;
                summary.bytes += end.bytes;
            }
        }
        writer.write_line(&decision)
    })?;
    writer.finish()?;
    atomic::write_json(fs, &staged.path().join(REPORT_FILE), &summary)?;
    staged.commit(stage.manifest())?;
    Ok(summary)
}

/// The names of the sources that a rank reads.
///
/// # Errors
/// Invalid options; a missing path.
pub fn sources_of_rank(
    fs: &dyn Fs,
    options: &CorpusOptions,
    project: &Path,
    rank: Rank,
) -> Result<Vec<String>> {
    Ok(share(fs, options, project, rank)?.into_iter().map(|source| source.name).collect())
}

/// The stage of a rank's decisions with these options on the current files.
///
/// # Errors
/// Invalid options; a missing path; I/O errors.
pub fn filter_stage(fs: &dyn Fs, options: &CorpusOptions, project: &Path, rank: Rank) -> Result<Stage> {
    let share = share(fs, options, project, rank)?;
    Ok(Stage { inputs: share_inputs(fs, options, project, &share)?, ..filter_by(options, rank) })
}

/// The stage of a rank's decisions with these options, whatever the files.
pub fn filter_by(options: &CorpusOptions, rank: Rank) -> Stage {
    Stage { name: FILTER_STAGE, options: stage_options(options, rank), inputs: BTreeMap::new() }
}

fn share(fs: &dyn Fs, options: &CorpusOptions, project: &Path, rank: Rank) -> Result<Vec<Source>> {
    options.validate()?;
    let mut sources = sources::resolve(options, project)?.sources;
    let share = source_shares(fs, &sources, rank.of())[rank.number()].clone();
    Ok(sources.drain(share).collect())
}

fn share_inputs(
    fs: &dyn Fs,
    options: &CorpusOptions,
    project: &Path,
    share: &[Source],
) -> Result<BTreeMap<String, String>> {
    let inputs = Inputs { sources: sources::hashes(fs, share)?, rules: rules::hashes(fs, options, project)? };
    Ok(inputs.of(share))
}

/// Options that decisions depend on; the others are at their defaults.
fn stage_options(options: &CorpusOptions, rank: Rank) -> Value {
    let default = CorpusOptions::default();
    let data = CorpusOptions {
        quarantine_limit: default.quarantine_limit,
        mix: None,
        deduplicate: default.deduplicate,
        duplicate_spans: None,
        duplicate_lines: None,
        validation_fraction: default.validation_fraction,
        seed: default.seed,
        near_duplicates: options.near_duplicates.as_ref().map(DuplicateOptions::without_memory),
        ..options.clone()
    };
    json!({ "stage_version": STAGE_VERSION, "data": data, "rank": rank.number(), "of": rank.of() })
}

/// Which sources each rank reads. A file is never cut.
fn source_shares(fs: &dyn Fs, sources: &[Source], of: usize) -> Vec<Range<usize>> {
    let sizes: Vec<u64> = sources.iter().map(|source| bytes_of(fs, source)).collect();
    shares(&sizes, of)
}

/// The decisions of all ranks, for the current files and options.
pub struct FilteredRanks<'a> {
    ranks: &'a Ranks<'a>,
    sources: &'a [Source],
    shares: Vec<Range<usize>>,
}

impl<'a> FilteredRanks<'a> {
    /// Checks every byte of every rank.
    pub fn verify(
        fs: &dyn Fs,
        options: &CorpusOptions,
        ranks: &'a Ranks<'a>,
        sources: &'a [Source],
        inputs: &Inputs,
    ) -> Result<FilteredRanks<'a>> {
        let shares = source_shares(fs, sources, ranks.of);
        ranks.verify(fs, |rank| {
            let inputs = inputs.of(&sources[shares[rank.number()].clone()]);
            Stage { inputs, ..filter_by(options, rank) }
        })?;
        Ok(FilteredRanks { ranks, sources, shares })
    }

    /// Passes all decisions to `deliver`, in the order of the sources.
    pub fn read(
        &self,
        fs: &dyn Fs,
        reporter: &mut dyn Reporter,
        deliver: &mut dyn FnMut(FilterDecision) -> Result<()>,
    ) -> Result<()> {
        let total = self.sources.iter().map(|source| bytes_of(fs, source)).sum();
        let mut done = 0;
        for (number, share) in self.shares.iter().enumerate() {
            let path = self.ranks.of_rank(FILTER_STAGE, number).join(DECISIONS_FILE);
            let mut left = self.sources[share.clone()].iter();
            let decisions: Documents<FilterDecision> = document::open(fs, &path)?;
            for decision in decisions {
                let decision = decision?;
                if let FilterDecision::End(end) = &decision {
                    if left.next().is_none_or(|source| source.name != end.source) {
                        return Err(out_of_order(&path));
                    }
                    done += end.bytes;
                    reporter.progress(Phase::Corpus, done, total, "bytes");
                }
                deliver(decision)?;
            }
            if left.next().is_some() {
                return Err(out_of_order(&path));
            }
        }
        Ok(())
    }
}

fn out_of_order(path: &Path) -> Error {
    Error::corrupt(path, Fault::Decisions)
}
