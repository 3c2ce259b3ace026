//! `text2llm bench`: the time of one whole training step, for comparison with a peer on the same machine.

use clap::{Args, ValueEnum};
use compute::cpu::InstructionSet;
use model::Precision;
use pipeline::bench::{self, BenchOptions, Preset};

use crate::arguments::GlobalArguments;
use crate::failure::{Failure, Outcome};
use crate::output::Console;

/// Time one training step: forward, backward, gradient clipping, AdamW, on random tokens.
#[derive(Debug, Args)]
#[command(
    after_help = "Presets (width, layers, heads, key/value heads, feed-forward, vocabulary, T, B):\n  \
    tiny   256  4  4  4  768  4096 128 32   (4.5M parameters)\n  \
    small  384  6  6  6 1024  8192 256 16   (13.8M)\n  \
    base   768 12 12  4 2048 32000 512  4   (100M)\n\
    The step time is the median after three warm-up steps. Model FLOPs a token: 6·parameters + 6·layers·width·T."
)]
pub struct Arguments {
    /// Shape to time
    #[arg(long, value_name = "PRESET", default_value = "small")]
    pub preset: PresetName,
    /// Arithmetic
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    pub dtype: Dtype,
    /// Steps in all; the first three are warm-up
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(4..=100_000))]
    pub steps: u64,
}

/// The shapes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PresetName {
    /// 4.5M parameters.
    Tiny,
    /// 13.8M parameters.
    Small,
    /// 100M parameters.
    Base,
}

/// Number formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// bfloat16 operands.
    Bf16,
}

/// Times the steps and prints the figures.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let precision = match arguments.dtype {
        Dtype::F32 => Precision::F32,
        Dtype::Bf16 => Precision::Bf16,
    };
    if precision == Precision::Bf16 && !InstructionSet::detect().has_bf16() {
        return Err(Failure::message(
            "bench: bf16 needs a CPU with AVX512-BF16, which this one is not; measure f32 with `text2llm bench --dtype f32`",
        ));
    }
    let preset = match arguments.preset {
        PresetName::Tiny => Preset::Tiny,
        PresetName::Small => Preset::Small,
        PresetName::Base => Preset::Base,
    };
    let options = BenchOptions {
        preset,
        precision,
        threads: global.threads,
        steps: arguments.steps as usize,
        seed: global.seed.unwrap_or(0),
    };
    let figures = bench::run(&options)?;
    if console.is_json() {
        // One plain object, the same keys as the peer's script prints.
        return console.data(&serde_json::to_string(&figures)?);
    }
    if !console.is_human() {
        return console.result("bench", &serde_json::to_value(&figures)?);
    }
    console.prose(&format!(
        "{} ({} parameters), f32, {} threads, {} tokens a step",
        figures.preset, figures.params, figures.threads, figures.tokens_per_step
    ));
    console.data(&format!("step       {:>10.1} ms", figures.step_ms))?;
    console.data(&format!("speed      {:>10.0} tokens/s", figures.tokens_per_s))?;
    console.data(&format!("compute    {:>10.1} model GFLOP/s", figures.model_gflops))?;
    console.data(&format!("peak RSS   {:>10.0} MB", figures.peak_rss_mb))?;
    console.data(&format!("loss       {:>10.4} nats a token", figures.loss))
}
