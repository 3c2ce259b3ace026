//! Renders examples and writes them as token shards with masks.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use runs::report::{Phase, Reporter};
use serde_json::{Value, json};
use store::atomic;
use store::fs::Fs;
use store::stage::Stage;
use tokenizer::Tokenizer;
use tokenizer::chat::{ChatError, ChatTemplate, Example, Format, Record, Renderer, builtin_for};
use tokens::{ShardWriter, Split, TOKENS_STAGE};

use super::options::FinetuneOptions;
use super::records::{Place, Records, is_spread};
use super::summary::{ExampleCounts, ExamplesSummary, Shown};
use crate::tokenize::{REPORT_FILE, SHARD_TOKENS, vocabulary};
use crate::{Error, Result};

/// Raised when the same inputs and options give other shards.
const STAGE_VERSION: u32 = 2;
/// Records that are rendered at a time.
const RENDERED_TOGETHER: usize = 512;
/// Records that are named when they cannot be used.
const NAMED: usize = 5;

/// The chat template of a Jinja file at `name`, relative to `base_dir`, or the built-in one of that name.
///
/// # Errors
/// A template that cannot be read; a name that is neither.
pub fn template(fs: &dyn Fs, name: &str, base_dir: &Path) -> Result<ChatTemplate> {
    let path = base_dir.join(name);
    if !fs.exists(&path) {
        return Ok(ChatTemplate::builtin(name)?);
    }
    let text = fs.read(&path).map_err(store::Error::io("read", &path))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(ChatTemplate::from_source(&text, &format!("`{}`", path.display()))?)
}

/// A renderer for a model's tokenizer: with the recipe's chat template, the model's own, or a built-in one
/// for the special tokens of its vocabulary. `own`: the model's.
///
/// # Errors
/// A template that cannot be read.
pub fn renderer(
    fs: &dyn Fs,
    options: &FinetuneOptions,
    base_dir: &Path,
    tokenizer: &Tokenizer,
    own: Option<ChatTemplate>,
) -> Result<Renderer> {
    let template = match &options.chat_template {
        Some(name) => Some(template(fs, name, base_dir)?),
        None => match own {
            Some(own) => Some(own),
            None => builtin_for(|token| tokenizer.token_id(token).is_some())
                .map(ChatTemplate::builtin)
                .transpose()?,
        },
    };
    Ok(Renderer::new(tokenizer, template)?)
}

/// Examples to be rendered, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Examples<'a> {
    /// Which examples.
    pub options: &'a FinetuneOptions,
    /// The folder that their paths start from.
    pub base_dir: &'a Path,
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// With the chat template.
    pub renderer: &'a Renderer,
    /// Longest example in tokens.
    pub sequence_length: usize,
}

impl Examples<'_> {
    /// Their shards, as the manifest has them.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn stage(&self, fs: &dyn Fs) -> Result<Stage> {
        let template = self.renderer.template();
        let sources = [false, true].map(|tools| template.map(|template| template.source(tools)));
        let tokenizer = self.tokenizer.hash().to_owned();
        let mut inputs = BTreeMap::from([("tokenizer".to_owned(), tokenizer)]);
        for entries in [&self.options.data, &self.options.validation] {
            for (name, path) in Records::find(fs, entries, self.base_dir)?.files() {
                inputs.insert(format!("examples {name}"), store::hash::hash_file(fs, path)?);
            }
        }
        let options = json!({
            "stage_version": STAGE_VERSION,
            "finetune": self.options,
            "sequence_length": self.sequence_length,
            "template": store::hash::hash_bytes(json!(sources).to_string().as_bytes()),
        });
        Ok(Stage { name: TOKENS_STAGE, options, inputs })
    }

    /// Renders them into `out`, unless they are there.
    ///
    /// # Errors
    /// Records that cannot be used, by file and line; nothing that is trained, or no end of a turn; too many
    /// examples that are longer than a sequence; I/O errors.
    pub fn encode(&self, fs: &dyn Fs, out: &Path, reporter: &mut dyn Reporter) -> Result<ExamplesSummary> {
        let stage = self.stage(fs)?;
        if stage.current(fs, out)?.is_some() {
            let summary: ExamplesSummary = atomic::read_json(fs, &out.join(REPORT_FILE))?;
            return Ok(ExamplesSummary { reused: true, ..summary });
        }
        let staged = stage.begin(fs, out)?;
        let writer = |split| {
            let vocabulary = vocabulary(self.tokenizer);
            ShardWriter::new(fs, staged.path(), split, vocabulary, SHARD_TOKENS).of_examples()
        };
        let mut encoding = Encoding {
            examples: *self,
            writers: [writer(Split::Train), writer(Split::Validation)],
            counts: Default::default(),
            lengths: Default::default(),
            seen: HashSet::new(),
            summary: ExamplesSummary::default(),
            problems: Vec::new(),
            ends: false,
        };
        let mut done = 0;
        for (entries, split) in
            [(&self.options.data, None), (&self.options.validation, Some(Split::Validation))]
        {
            let records = Records::find(fs, entries, self.base_dir)?;
            let wanted = if split.is_some() { self.options.validation_examples } else { 0 };
            let all = if wanted == 0 { 0 } else { records.count(fs)? };
            let (mut number, mut batch) = (0, Vec::new());
            records.each(fs, &mut |place, record| {
                if is_spread(number, wanted, all) {
                    batch.push((place.clone(), record));
                }
                number += 1;
                if batch.len() == RENDERED_TOGETHER {
                    done += batch.len() as u64;
                    encoding.render(&mut batch, split)?;
                    reporter.progress(Phase::Model, done, 0, "examples rendered");
                }
                Ok(())
            })?;
            encoding.render(&mut batch, split)?;
        }
        let summary = encoding.finish()?;
        atomic::write_json(fs, &staged.path().join(REPORT_FILE), &summary)?;
        reporter.kept(Phase::Model, &staged.commit(stage.manifest())?);
        Ok(summary)
    }
}

/// A record as it was read, or why it was not.
type Unrendered = (Place, std::result::Result<Value, String>);

/// A record as it is trained, or why it cannot be used.
type Rendering = std::result::Result<Usable, String>;

struct Usable {
    /// Of a preference pair, the chosen side.
    example: Example,
    rejected: Option<Example>,
    /// Of the record.
    hash: blake3::Hash,
    format: Option<Format>,
}

impl Examples<'_> {
    fn render(&self, record: std::result::Result<Value, String>) -> Rendering {
        let value = record?;
        let hash = blake3::hash(value.to_string().as_bytes());
        let format = value.as_object().map(Format::detect).and_then(std::result::Result::ok);
        let record = Record::read(&value).map_err(|error| error.to_string())?;
        let (render, mask) = (self.options.render(), self.options.mask());
        let is_pair = matches!(record, Record::Preference { .. });
        let sides = match (self.options.preference.is_some(), is_pair) {
            (false, false) => self.renderer.example(&record, &render, &mask).map(|example| (example, None)),
            (true, true) => self.renderer.preference(&record, &render, &mask).and_then(|pair| {
                let pair = pair.ok_or(ChatError::NoTemplate)?;
                Ok((pair.chosen, Some(pair.rejected)))
            }),
            (false, true) => {
                return Err(
                    "is a preference pair (chosen, rejected): learn from it with `finetune --method dpo` \
                            ([finetune.preference])"
                        .to_owned(),
                );
            }
            (true, false) => {
                return Err(
                    "is no preference pair (chosen, rejected), which [finetune.preference] learns from"
                        .to_owned(),
                );
            }
        };
        let (example, rejected) = sides.map_err(|error| error.to_string())?;
        Ok(Usable { example, rejected, hash, format })
    }
}

/// Examples on their way to shards.
struct Encoding<'a> {
    examples: Examples<'a>,
    writers: [ShardWriter<'a>; 2],
    counts: [ExampleCounts; 2],
    lengths: [Vec<u32>; 2],
    /// Hashes of records.
    seen: HashSet<[u8; 16]>,
    summary: ExamplesSummary,
    problems: Vec<String>,
    /// Whether any record has no turns, and so ends with EOS.
    ends: bool,
}

impl Encoding<'_> {
    /// Renders records on all threads and keeps them in order.
    fn render(&mut self, batch: &mut Vec<Unrendered>, split: Option<Split>) -> Result<()> {
        let examples = self.examples;
        let render = |(place, record): Unrendered| (place, examples.render(record));
        for (place, rendered) in tokenizer::map_on_threads(std::mem::take(batch), render) {
            self.record(&place, rendered, split)?;
        }
        Ok(())
    }

    fn record(&mut self, place: &Place, rendered: Rendering, split: Option<Split>) -> Result<()> {
        match rendered {
            Err(problem) => {
                self.summary.invalid += 1;
                if self.problems.len() < NAMED {
                    self.problems.push(format!("{place}: {problem}"));
                }
                Ok(())
            }
            Ok(Usable { example, rejected, hash, format }) => {
                let mut short = [0; 16];
                short.copy_from_slice(&hash.as_bytes()[..16]);
                if !self.seen.insert(short) {
                    self.summary.duplicates += 1;
                }
                let name = format.map_or("unknown", Format::name).to_owned();
                *self.summary.formats.entry(name).or_default() += 1;
                let fraction = if self.examples.options.validation.is_empty() {
                    self.examples.options.validation_fraction
                } else {
                    0.0
                };
                let chosen = tokens::place(self.examples.options.seed, hash.to_hex().as_str()) < fraction;
                let split = split.unwrap_or(if chosen { Split::Validation } else { Split::Train });
                self.keep(&example, rejected.as_ref(), split)
            }
        }
    }

    /// An example, cut off at a sequence's length, or with `rejected` both sides of a preference pair; one
    /// that is longer than a sequence is left out.
    fn keep(&mut self, example: &Example, rejected: Option<&Example>, split: Split) -> Result<()> {
        let sides = || std::iter::once(example).chain(rejected);
        let counts = &mut self.counts[split as usize];
        let sequence_length = self.examples.sequence_length;
        let all: usize = sides().map(|side| side.ids.len()).sum();
        let kept = match rejected {
            None => all.min(sequence_length),
            Some(_) if all > sequence_length => 0,
            Some(_) => all,
        };
        self.lengths[split as usize].push(all as u32);
        if kept < all {
            counts.truncated += 1;
            counts.truncated_tokens += (all - kept) as u64;
        }
        // The first token is predicted by nothing.
        let is_trained = |side: &Example| side.mask.iter().take(kept).skip(1).any(|&trained| trained);
        if !sides().all(is_trained) {
            counts.dropped += 1;
            return Ok(());
        }
        for side in sides() {
            self.ends |= side.turns.is_empty();
            let ends = side.turns.iter().filter_map(|turn| turn.end_of_turn);
            let trained = ends.filter(|&end| end < kept && side.mask[end]);
            self.summary.end_ids.extend(trained.map(|end| side.ids[end]));
        }
        if split == Split::Train && self.summary.first.is_empty() {
            self.summary.first = shown(example);
            if let Some(rejected) = rejected {
                let between = Shown { text: "\n(rejected instead:)\n".to_owned(), trained: false };
                self.summary.first.push(between);
                self.summary.first.extend(shown(rejected));
            }
        }
        let writer = &mut self.writers[split as usize];
        match rejected {
            None => writer.write_example(&example.ids[..kept], &example.mask[..kept])?,
            Some(rejected) => {
                let [chosen, rejected] = [example, rejected].map(|side| (&side.ids[..], &side.mask[..]));
                writer.write_pair(chosen, rejected)?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ExamplesSummary> {
        let total = self.lengths.iter().map(Vec::len).sum::<usize>() as u64;
        if self.summary.invalid > 0 && !(self.examples.options.skip_invalid && total > 0) {
            let (count, named) = (self.summary.invalid, self.problems);
            return Err(Error::InvalidExamples { count, of: count + total, named });
        }
        let longest = self.lengths.iter().flatten().copied().max().unwrap_or(0).into();
        let truncated: u64 = self.counts.iter().map(|counts| counts.truncated).sum();
        if truncated as f64 > self.examples.options.maximum_truncated * total as f64 {
            let sequence_length = self.examples.sequence_length;
            return Err(Error::ExamplesTooLong { truncated, of: total, sequence_length, longest });
        }
        let sequence_length = self.examples.sequence_length;
        for ((writer, counts), mut lengths) in
            self.writers.into_iter().zip(&mut self.counts).zip(self.lengths)
        {
            let written = writer.finish()?;
            (counts.examples, counts.tokens, counts.trained_tokens) =
                (written.documents, written.tokens, written.trained_tokens);
            counts.sequences = tokens::packed_sequences(&lengths, sequence_length);
            lengths.sort_unstable();
            let at = |share: f64| {
                lengths.get(((lengths.len() as f64 * share) as usize).min(lengths.len().saturating_sub(1)))
            };
            counts.lengths = [0.5, 0.95, 1.0].map(|share| at(share).copied().unwrap_or(0).into());
        }
        let [train, validation] = self.counts;
        if train.trained_tokens == 0 {
            return Err(Error::NothingTrained { examples: total });
        }
        if self.examples.options.end_of_turn && !self.ends && self.summary.end_ids.is_empty() {
            return Err(Error::NoEndOfTurn);
        }
        let template = self.examples.renderer.template().map(|template| template.origin().to_owned());
        Ok(ExamplesSummary { train, validation, template, ..self.summary })
    }
}

/// An example as text, cut where what is trained begins and ends.
fn shown(example: &Example) -> Vec<Shown> {
    let mut pieces: Vec<Shown> = Vec::new();
    let mut at = 0;
    for (place, &trained) in example.offsets.iter().zip(&example.mask) {
        let end = place.end.max(at);
        let text = example.text.get(at..end).unwrap_or_default();
        match pieces.last_mut().filter(|last| last.trained == trained) {
            Some(last) => last.text.push_str(text),
            None => pieces.push(Shown { text: text.to_owned(), trained }),
        }
        at = end;
    }
    pieces
}

/// A record as it would be trained.
///
/// # Errors
/// A record that cannot be used.
pub fn first_example(
    renderer: &Renderer,
    options: &FinetuneOptions,
    value: &Value,
) -> Result<(Example, Vec<Shown>)> {
    let record = Record::read(value).map_err(tokenizer::Error::from)?;
    let example = renderer.example(&record, &options.render(), &options.mask())?;
    let shown = shown(&example);
    Ok((example, shown))
}
