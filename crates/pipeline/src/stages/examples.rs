//! Fine-tuning's data: examples rendered by the model's chat template instead of documents.

use corpus::examples::{Examples, ExamplesSummary, FinetuneOptions, Records, renderer};
use runs::report::{Phase, Reporter};
use serde_json::json;
use store::fs::RealFs;
use tokenizer::Tokenizer;
use tokenizer::chat::Renderer;

use super::phase::Done;
use super::request::Request;
use crate::base::BaseModel;
use crate::{Error, Result};

/// Characters of the shown example.
const SHOWN_CHARS: usize = 1500;

/// The corpus phase of fine-tuning: finds the files, and hashes their names.
pub(super) fn found(request: &Request<'_>, options: &FinetuneOptions) -> Result<(String, Done)> {
    let find = |entries: &[String]| Records::find(&RealFs, entries, &request.base_dir);
    let (data, validation) = (find(&options.data)?, find(&options.validation)?);
    let files: Vec<_> = data.files().iter().chain(validation.files()).map(|(name, _)| name.clone()).collect();
    let bytes = data.bytes(&RealFs) + validation.bytes(&RealFs);
    let words =
        format!("{} files of examples, {:.1} MB: {}", files.len(), bytes as f64 / 1e6, files.join(", "));
    // The shards' manifest has the hashes of the files; here only their names matter.
    let hash = store::manifest::hash_json(&json!({ "examples": files }));
    Ok((hash, Done::Worked(words)))
}

/// Renders examples for a base.
pub(crate) fn renderer_of(
    options: &FinetuneOptions,
    base_dir: &std::path::Path,
    base: &BaseModel,
) -> Result<Renderer> {
    Ok(renderer(&RealFs, options, base_dir, base.tokenizer(), base.chat_template()?)?)
}

/// The model phase of fine-tuning: renders the examples into token shards, and tells what is trained.
pub(super) fn encoded(
    request: &Request<'_>,
    options: &FinetuneOptions,
    tokenizer: &Tokenizer,
    base: &BaseModel,
    reporter: &mut dyn Reporter,
) -> Result<ExamplesSummary> {
    let renderer = renderer_of(options, &request.base_dir, base)?;
    let sequence_length = request.recipe.train.sequence_length;
    let examples =
        Examples { options, base_dir: &request.base_dir, tokenizer, renderer: &renderer, sequence_length };
    let summary = examples.encode(&RealFs, &request.project.tokens(), reporter)?;
    tell(&summary, sequence_length, reporter);
    if summary.train.sequences < request.recipe.train.batch_size as u64 {
        return Err(Error::Data {
            message: format!(
                "the {} training examples fill {} sequences of {sequence_length} tokens, fewer than one batch \
                 of {}: lower train.batch_size or train.sequence_length, or add examples",
                summary.train.examples, summary.train.sequences, request.recipe.train.batch_size
            ),
        });
    }
    Ok(summary)
}

fn tell(summary: &ExamplesSummary, sequence_length: usize, reporter: &mut dyn Reporter) {
    let train = &summary.train;
    let formats: Vec<String> =
        summary.formats.iter().map(|(name, count)| format!("{count} of {name}")).collect();
    let template = summary.template.as_deref().unwrap_or("none");
    reporter.note(Phase::Model, &format!("records: {}; chat template: {template}", formats.join(", ")));
    let [median, most, longest] = train.lengths;
    reporter.note(
        Phase::Model,
        &format!(
            "{} of {} tokens are trained ({:.0} %); lengths: median {median}, 95 % up to {most}, longest \
             {longest} tokens; packed into {} sequences of {sequence_length} ({:.0} % full)",
            train.trained_tokens,
            train.tokens,
            100.0 * train.trained_tokens as f64 / train.tokens.max(1) as f64,
            train.sequences,
            100.0 * train.tokens as f64 / (train.sequences as usize * sequence_length).max(1) as f64,
        ),
    );
    for (count, what) in [
        (summary.invalid, "records cannot be used and were skipped"),
        (train.truncated, "training examples were cut off at train.sequence_length"),
        (train.dropped, "training examples were dropped: nothing trained is left of them"),
        (summary.duplicates, "records repeat an earlier one exactly"),
    ] {
        if count > 0 {
            reporter.warning(Phase::Model, &format!("{count} {what}"));
        }
    }
    let mut shown = String::new();
    for piece in &summary.first {
        // What is trained stands between brackets of its own.
        let text = &piece.text;
        shown.push_str(&if piece.trained { format!("⟦{text}⟧") } else { text.clone() });
    }
    if shown.chars().count() > SHOWN_CHARS {
        shown = shown.chars().take(SHOWN_CHARS).collect::<String>() + "…";
    }
    reporter.note(Phase::Model, &format!("the first example, with what is trained in ⟦ ⟧:\n{shown}"));
}
