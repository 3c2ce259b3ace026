//! `text2llm bench`: the time of a training step, by kernel if asked, and of decoding. The figures can be
//! compared with those of other programs on the same machine.

mod decode;
mod figures;
mod kernels;

use clap::{Args, Subcommand, ValueEnum};
use model::{DType, Optimizer, Precision};
use pipeline::bench::{self, BenchOptions, Preset};

use crate::arguments::GlobalArguments;
use crate::failure::{Failure, Outcome};
use crate::output::Console;
use figures::told_a_program;

/// Benchmark a training step, its kernels, or decoding
///
/// A training step consists of forward, backward, gradient clipping and optimizer, on random tokens.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Presets (width, layers, heads, key/value heads, feed-forward, vocabulary, T, B):\n  \
                  tiny   256  4  4  4  768  4096 128 32   (4.5M parameters)\n  \
                  small  384  6  6  6 1024  8192 256 16   (13.8M)\n  \
                  base   768 12 12  4 2048 32000 512  4   (100M)\n  \
                  smollm2  576 30  9  3 1536 49152 512  4   (135M)\n  \
                  gpu124m  768 12 12 12 2048 50304 1024 32  (for a GPU)\n  \
                  gpu350m 1024 24 16 16 2816 50304 1024 16\n  \
                  gpu1b5  2048 28 16 16 5632 32000 2048  8\n\
                  The step time is the median after three warm-up steps. Model FLOPs per token, as in the \
                  PaLM paper:\n\
                  6·N + 12·layers·heads·head size·T (N: parameters, excluding an untied input \
                  embedding)."
)]
pub struct Arguments {
    /// What to measure instead of a training step
    #[command(subcommand)]
    pub what: Option<What>,
    /// The training step to measure
    #[command(flatten)]
    pub step: StepArguments,
    /// Show the time per kernel, with each kernel's roofline limit from this machine's measured peaks
    #[arg(long)]
    pub profile: bool,
}

/// What can be measured other than a whole step.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Benchmark each kernel of a training step at its real shapes, with its roofline limit from this
    /// machine's measured peaks
    Kernels(StepArguments),
    Decode(decode::Arguments),
}

/// Flags that define the measured training step.
#[derive(Clone, Debug, Args)]
pub struct StepArguments {
    /// Model shape and batch
    #[arg(long, value_name = "PRESET", default_value = "small")]
    pub preset: PresetName,
    /// Precision of matrix products
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    pub dtype: StepDtype,
    /// Sequence length in tokens [default: the preset's]
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub sequence_length: Option<u64>,
    /// Sequences per batch [default: the preset's]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub batch_size: Option<u64>,
    /// Number of parameters, such as 3M, instead of the preset's: width and layers are chosen as in `plan
    /// --size`
    #[arg(long, value_name = "N", value_parser = parameters)]
    pub size: Option<u64>,
    /// Recompute activations in the backward pass instead of storing them (train.recompute)
    #[arg(long)]
    pub recompute: bool,
    /// Update the layers' matrices with Muon instead of AdamW (train.optimizer)
    #[arg(long)]
    pub muon: bool,
    /// Train adapters of this rank on every linear layer instead of the weights ([adapter])
    #[arg(long, value_name = "RANK", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub lora: Option<u64>,
    /// Type of the frozen weights below adapters (adapter.base) [default: that of --dtype]
    #[arg(long, value_name = "TYPE", requires = "lora")]
    pub base: Option<BaseType>,
    /// Number of steps; the first three are warm-up
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8,
        value_parser = clap::value_parser!(u64).range(4..=100_000)
    )]
    pub steps: u64,
}

/// Presets: model shape, sequence length and batch size.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PresetName {
    /// 4.5M parameters.
    Tiny,
    /// 13.8M parameters.
    Small,
    /// 100M parameters.
    Base,
    /// 135M parameters, SmolLM2-135M's shape.
    Smollm2,
    /// 124M parameters.
    Gpu124m,
    /// 360M parameters.
    Gpu350m,
    /// 1.5B parameters.
    Gpu1b5,
}

/// Precisions that a step can be measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StepDtype {
    /// 32-bit floats.
    F32,
    /// bfloat16 operands, f32 accumulation.
    Bf16,
}

/// Types of the weights below adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BaseType {
    /// 16 bits a weight.
    Bf16,
    /// 8 bits a weight.
    #[value(name = "q8_0")]
    Q8_0,
    /// 4.5 bits a weight.
    #[value(name = "q4_0")]
    Q4_0,
    /// 4.25 bits a weight (NormalFloat), as `finetune --method qlora` has it.
    Nf4,
}

fn parameters(text: &str) -> Result<u64, String> {
    recipe::parse_size(text)
        .ok_or_else(|| format!("`{text}` is not a number of parameters; write 500K, 3M or 1.5B"))
}

impl StepArguments {
    fn options(&self, global: &GlobalArguments) -> Result<BenchOptions, Failure> {
        let precision = match self.dtype {
            StepDtype::F32 => Precision::F32,
            StepDtype::Bf16 => Precision::Bf16,
        };
        let target = global.target();
        if precision == Precision::Bf16 && !target.has_bf16() {
            return Err(Failure::message(
                "bench: bf16 needs a CPU with AVX512-BF16, which this CPU does not have; measure f32 with \
                 `text2llm bench --dtype f32`",
            ));
        }
        let preset = match self.preset {
            PresetName::Tiny => Preset::Tiny,
            PresetName::Small => Preset::Small,
            PresetName::Base => Preset::Base,
            PresetName::Smollm2 => Preset::Smollm2,
            PresetName::Gpu124m => Preset::Gpu124m,
            PresetName::Gpu350m => Preset::Gpu350m,
            PresetName::Gpu1b5 => Preset::Gpu1b5,
        };
        Ok(BenchOptions {
            preset,
            sequence_length: self.sequence_length.map(|n| n as usize),
            batch_size: self.batch_size.map(|n| n as usize),
            parameters: self.size,
            precision,
            recompute: self.recompute,
            optimizer: if self.muon { Optimizer::Muon } else { Optimizer::AdamW },
            lora_rank: self.lora.map(|rank| rank as usize),
            base: self.base.map(|base| match base {
                BaseType::Bf16 => DType::Bf16,
                BaseType::Q8_0 => DType::Q8_0,
                BaseType::Q4_0 => DType::Q4_0,
                BaseType::Nf4 => DType::Nf4,
            }),
            target,
            steps: self.steps as usize,
            seed: global.seed.unwrap_or(0),
        })
    }
}

/// Runs the selected benchmark and prints its figures.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    crate::stopping::listen(console)?;
    match arguments.what {
        Some(What::Kernels(step)) => {
            kernels::by_shape(&bench::kernels::run(&step.options(global)?)?, console)
        }
        Some(What::Decode(arguments)) => decode::run(global, &arguments, console),
        None if arguments.profile => {
            kernels::by_kernel(&bench::kernels::run(&arguments.step.options(global)?)?, console)
        }
        None => step(&arguments.step.options(global)?, console),
    }
}

fn step(options: &BenchOptions, console: &mut Console) -> Outcome {
    // The same keys as the peer's script prints.
    let figures = bench::run(options)?;
    if told_a_program(&figures, console)? {
        return Ok(());
    }
    console.prose(&format!(
        "{} ({} parameters), {}{}, on {}, {} tokens per step",
        figures.preset,
        figures.params,
        figures.dtype.dtype().name(),
        if figures.recompute { " with activation recomputation" } else { "" },
        figures.device,
        figures.tokens_per_step
    ));
    console.data(&format!("step       {:>10.1} ms", figures.step_ms))?;
    console.data(&format!("speed      {:>10.0} tokens/s", figures.tokens_per_s))?;
    console.data(&format!("compute    {:>10.1} model GFLOP/s", figures.model_gflops))?;
    if let Some(mfu) = figures.mfu {
        console.data(&format!("MFU        {:>10.1} % of the GPU's specified bf16 peak", 100.0 * mfu))?;
    }
    let (place, taken) = match figures.gpu_mb {
        Some(taken) => ("GPU memory", taken),
        None => ("peak RSS  ", figures.peak_rss_mb),
    };
    console.data(&format!("{place} {taken:>10.0} MB ({:.0} planned)", figures.planned_mb))?;
    console.data(&format!("loss       {:>10.4} nats per token", figures.loss))
}
