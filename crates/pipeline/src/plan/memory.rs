//! Memory of training, before anything is allocated.

use compute::Target;
use model::plan::{largest_saved_bytes, training_work};
use model::{Decoding, MemoryPlan, ModelConfig, Purpose, Training};
use recipe::Recipe;
use serde::{Serialize, Serializer};
use tokenizer::Kind;

/// Memory of training by part, with micro-batches of `micro_batch_size` sequences. On the CPU it is the peak
/// RSS of the process without mapped pages of token shards, which the system reclaims first when memory is
/// short.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// The arena.
    pub plan: MemoryPlan,
    /// Sequences per micro-batch.
    pub micro_batch_size: usize,
    /// Packing buffers of matrix products, attention tiles, samples, and checkpoints being written.
    pub workspace_bytes: u64,
    /// The program itself, with its tokenizer and memory left over from preparing data.
    pub program_bytes: u64,
    /// Total.
    pub total_bytes: u64,
    /// Memory available to this process now.
    pub available_bytes: Option<u64>,
}

/// The program's code in use, stacks and small allocations.
const PROGRAM_BYTES: u64 = 12 << 20;
/// On a GPU: lazily loaded library code, and captured graphs.
const GPU_PROGRAM_BYTES: u64 = 256 << 20;
/// Other memory of a run: batches, records, newly used code.
const RUN_BYTES: u64 = 2 << 20;
/// Bytes per token of a subword vocabulary, with its merges and maps.
const TOKENIZER_BYTES_A_TOKEN: u64 = 1 << 10;
/// Heap left over from training a subword tokenizer and encoding in the same process.
const PREPARING_BYTES: u64 = 16 << 20;

/// Peak memory of training, of the process or of the GPU: the arena, the kernels' workspace, and the program.
pub(crate) fn planned_bytes(config: &ModelConfig, training: &Training, target: Target) -> u64 {
    let arena = MemoryPlan::new(config, &Purpose::Train(training.clone())).total_bytes as u64;
    let program = if target.is_cpu() { PROGRAM_BYTES } else { 0 };
    arena + workspace_bytes(config, training, target) + program
}

fn workspace_bytes(config: &ModelConfig, training: &Training, target: Target) -> u64 {
    target.workspace_bytes(&training_work(config, training)) as u64
}

impl Memory {
    /// Memory of a recipe's training. `prepared`: whether the text was tokenized already, by another process.
    pub(super) fn new(config: &ModelConfig, recipe: &Recipe, prepared: bool, target: Target) -> Memory {
        let tuning = recipe.tuning();
        let micro_batch_size = train::micro_batch_size(config, &recipe.train, &tuning, target);
        let training = recipe.train.training(micro_batch_size, target, &tuning);
        let plan = MemoryPlan::new(config, &Purpose::Train(training.clone()));
        let subwords = matches!(recipe.tokenizer.kind, Kind::Bpe | Kind::Unigram);
        let tokenizer_bytes = if subwords { TOKENIZER_BYTES_A_TOKEN * config.vocab_size as u64 } else { 0 };
        // Samples use a separate model; a checkpoint passes through memory one tensor at a time.
        let sampler = match recipe.train.sample_prompts.is_empty() {
            true => 0,
            false => {
                // Every token has at least one byte.
                let prompt = recipe.train.sample_prompts.iter().map(String::len).max().unwrap_or(0);
                let tokens = prompt.saturating_add(recipe.train.sample_max_new_tokens).saturating_add(1);
                let decoding = Purpose::Decode(Decoding::one(tokens.min(config.max_position_embeddings)));
                MemoryPlan::new(config, &decoding).total_bytes as u64 + tokenizer_bytes
            }
        };
        let saved = largest_saved_bytes(config, &training) as u64;
        let workspace_bytes = workspace_bytes(config, &training, target) + sampler.max(saved);
        let preparing_bytes = if subwords && !prepared { PREPARING_BYTES } else { 0 };
        let program_bytes = match target.is_cpu() {
            true => PROGRAM_BYTES + RUN_BYTES + tokenizer_bytes + preparing_bytes,
            false => GPU_PROGRAM_BYTES,
        };
        Memory {
            plan,
            micro_batch_size,
            workspace_bytes,
            program_bytes,
            total_bytes: plan.total_bytes as u64 + workspace_bytes + program_bytes,
            available_bytes: target.free_bytes().or_else(store::system::available_memory_bytes),
        }
    }

    /// Replaces the estimate for the program by the current resident memory of this process: for the process
    /// that trains.
    pub(crate) fn begun_at(mut self, rss_bytes: u64) -> Memory {
        let program_bytes = rss_bytes + RUN_BYTES;
        self.total_bytes = self.total_bytes - self.program_bytes + program_bytes;
        self.program_bytes = program_bytes;
        self
    }

    /// Names and bytes of the parts.
    pub fn parts(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("weights", self.plan.parameters_bytes as u64),
            ("gradients", self.plan.gradients_bytes as u64),
            ("moments", self.plan.moments_bytes as u64),
            ("activations", self.plan.activations_bytes as u64),
            ("scratch", self.plan.scratch_bytes as u64),
            ("workspace", self.workspace_bytes),
            ("program", self.program_bytes),
        ]
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat {
            parameters_bytes: usize,
            gradients_bytes: usize,
            moments_bytes: usize,
            activations_bytes: usize,
            scratch_bytes: usize,
            workspace_bytes: u64,
            program_bytes: u64,
            total_bytes: u64,
            micro_batch_size: usize,
            available_bytes: Option<u64>,
        }
        Flat {
            parameters_bytes: self.plan.parameters_bytes,
            gradients_bytes: self.plan.gradients_bytes,
            moments_bytes: self.plan.moments_bytes,
            activations_bytes: self.plan.activations_bytes,
            scratch_bytes: self.plan.scratch_bytes,
            workspace_bytes: self.workspace_bytes,
            program_bytes: self.program_bytes,
            total_bytes: self.total_bytes,
            micro_batch_size: self.micro_batch_size,
            available_bytes: self.available_bytes,
        }
        .serialize(serializer)
    }
}
