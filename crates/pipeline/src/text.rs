//! The amount of training text: counted if it is tokenized, or else estimated from its size.

use std::path::Path;

use corpus::TokenSummary;
use runs::report::NoReport;
use store::fs::RealFs;
use tokenizer::Kind;

use crate::project::Project;
use crate::{Result, remote};
use recipe::Recipe;

/// Token shards of an earlier run.
pub(crate) struct PreparedTokens {
    pub train_tokens: u64,
    pub vocab_size: usize,
}

/// The token counts in the project's `data/tokens/`, unverified: a plan uses nothing but the counts.
pub(crate) fn prepared_tokens(project: &Project) -> Option<PreparedTokens> {
    let path = project.tokens().join("report.json");
    let summary: TokenSummary = store::atomic::read_json(&RealFs, &path).ok()?;
    Some(PreparedTokens { train_tokens: summary.train.tokens, vocab_size: summary.usage.vocab_size })
}

/// Whether those tokens can be of the recipe's tokenizer.
pub(crate) fn is_of_recipe(prepared: &PreparedTokens, recipe: &Recipe) -> bool {
    match recipe.tokenizer.kind {
        Kind::Bpe | Kind::Unigram => prepared.vocab_size == recipe.tokenizer.vocab_size,
        Kind::Char | Kind::Byte => true,
    }
}

/// Training tokens of one epoch over the recipe's text, from its size.
pub(crate) fn estimate_train_tokens(recipe: &Recipe, project: &Project, base_dir: &Path) -> Result<u64> {
    if let Some(finetune) = &recipe.finetune {
        let records = corpus::examples::Records::find(&RealFs, &finetune.data, base_dir)?;
        return Ok((records.decompressed_bytes(&RealFs) as f64 / BYTES_PER_EXAMPLE_TOKEN) as u64);
    }
    let mut data = remote::looked_up(&recipe.data, base_dir, &mut NoReport)?;
    data.output = Some(project.root().to_owned());
    let bytes = corpus::text_bytes(&RealFs, &data, base_dir)?;
    let trained = bytes as f64 * (1.0 - recipe.data.validation_fraction);
    Ok((trained / bytes_per_token(recipe)) as u64)
}

/// Bytes of decompressed JSON per token of a conversation, markup and tools included.
const BYTES_PER_EXAMPLE_TOKEN: f64 = 4.0;

/// Bytes per token of European prose, by vocabulary size: measured 2.1 at 512, 3.4 at 4,096, 4.3 at 32,000.
fn bytes_per_token(recipe: &Recipe) -> f64 {
    match recipe.tokenizer.kind {
        Kind::Byte => 1.0,
        Kind::Char => 1.05,
        Kind::Bpe | Kind::Unigram => {
            (2.1 + 0.55 * (recipe.tokenizer.vocab_size as f64 / 512.0).ln()).clamp(1.0, 4.6)
        }
    }
}
