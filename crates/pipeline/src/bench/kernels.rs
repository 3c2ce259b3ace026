//! The time of a step by kernel, with the limit set by this machine for each.
//!
//! A kernel's limit is the longer of two times: its operations at the measured peak of the micro-kernel, and
//! its bytes at the measured read bandwidth (Williams, Waterman & Patterson 2009, the roofline model).

use compute::profile::{Call, Profiled, Timing};
use compute::{AnyDevice, Device, Target};
use model::{DType, Training};
use serde::Serialize;

use super::{BenchOptions, Steps, WARM_UP, median, round};
use crate::Result;

/// Measured peaks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peaks {
    /// Matrix products in f32, GFLOP/s.
    pub f32_gflops: f64,
    /// Matrix products in bfloat16, if the device has them.
    pub bf16_gflops: Option<f64>,
    /// Memory read bandwidth, GB/s.
    pub read_gbs: f64,
}

/// Larger than the caches of most machines.
const READ_BYTES: usize = 512 << 20;

impl Peaks {
    /// Measures the peaks in about a second; the read test loops over `read_bytes`.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn measure(target: Target, read_bytes: usize) -> Result<Peaks> {
        let mut device = target.open()?;
        Ok(Peaks {
            f32_gflops: round(device.peak_gflops(DType::F32)?.unwrap_or(f64::NAN), 1),
            bf16_gflops: device.peak_gflops(DType::Bf16)?.map(|rate| round(rate, 1)),
            read_gbs: round(device.peak_read_gbs(read_bytes)?, 1),
        })
    }

    fn gflops(&self, dtype: &str) -> f64 {
        if dtype == "f32" { self.f32_gflops } else { self.bf16_gflops.unwrap_or(self.f32_gflops) }
    }

    /// Minimum seconds of a call.
    fn limit(&self, call: &Call, timing: &Timing) -> f64 {
        let products = timing.flops / (self.gflops(call.dtype) * 1e9);
        products.max(timing.bytes / (self.read_gbs * 1e9))
    }
}

/// One kernel at one shape.
#[derive(Clone, Debug, Serialize)]
pub struct KernelFigures {
    /// Its name.
    pub kernel: &'static str,
    /// Sizes of the call.
    pub shape: String,
    /// Data type of its operands.
    pub dtype: &'static str,
    /// Calls per step.
    pub calls: usize,
    /// Time of all calls per step: the median call times their number.
    pub ms: f64,
    /// Fraction of the step.
    pub share: f64,
    /// Rate of the median call, if it computes products.
    pub gflops: Option<f64>,
    /// Bandwidth of the median call, if it does not.
    pub gbs: Option<f64>,
    /// Limit divided by time.
    pub of_limit: f64,
}

/// A step by kernel, the longest first. A step is an optimizer step, or one token of decoding.
#[derive(Clone, Debug, Serialize)]
pub struct StepFigures {
    /// Description of the step.
    pub name: String,
    /// Name of the device.
    pub device: String,
    /// CPU threads used.
    pub threads: usize,
    /// Measured peaks.
    pub peaks: Peaks,
    /// Median time of a step.
    pub step_ms: f64,
    /// Model FLOPs divided by that time.
    pub model_gflops: f64,
    /// Time of the step with every kernel at its limit.
    pub limit_ms: f64,
    /// The kernels.
    pub kernels: Vec<KernelFigures>,
}

/// Times the kernels of a preset's steps.
///
/// # Errors
/// Not enough memory.
pub fn run(options: &BenchOptions) -> Result<StepFigures> {
    let peaks = Peaks::measure(options.target, READ_BYTES)?;
    let (config, training) = options.subject();
    let Training { batch_size: b, sequence_length: t, .. } = training;
    let mut steps = Steps::new(Profiled::new(options.target.open()?), &config, training, options.seed)?;
    for _ in 0..WARM_UP {
        steps.step();
    }
    steps.model.weights_mut().device_mut().clear();
    let mut seconds = Vec::new();
    for _ in WARM_UP..options.steps.max(WARM_UP + 1) {
        let start = std::time::Instant::now();
        steps.step();
        seconds.push(start.elapsed().as_secs_f64());
    }
    let flops = config.flops_per_token(t) * (b * t) as f64;
    let name = format!("training step of {} in {}", options.preset.name(), options.precision.dtype().name());
    Ok(StepFigures::new(name, steps.model.weights().device(), &mut seconds, flops, peaks))
}

impl StepFigures {
    /// Figures from the times of equal steps of `flops` model FLOPs each.
    pub(super) fn new(
        name: String,
        device: &Profiled<AnyDevice>,
        seconds: &mut [f64],
        flops: f64,
        peaks: Peaks,
    ) -> StepFigures {
        let step_s = median(seconds);
        let mut kernels = figures(device, seconds.len(), step_s, &peaks);
        kernels.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        StepFigures {
            name,
            device: device.name(),
            threads: device.device().threads(),
            peaks,
            step_ms: round(step_s * 1e3, 2),
            model_gflops: round(flops / step_s / 1e9, 1),
            limit_ms: round(kernels.iter().map(|k| k.ms * k.of_limit).sum(), 2),
            kernels,
        }
    }
}

/// The figures of `steps` equal steps.
fn figures(device: &Profiled<AnyDevice>, steps: usize, step_s: f64, peaks: &Peaks) -> Vec<KernelFigures> {
    let one = |(call, timing): (&Call, &Timing)| {
        let median = timing.median();
        let calls = timing.seconds.len() / steps;
        let seconds = median * calls as f64;
        let rate = |work: f64| (work > 0.0).then(|| round(work / median / 1e9, 1));
        KernelFigures {
            kernel: call.kernel,
            shape: call.shape.clone(),
            dtype: call.dtype,
            calls,
            ms: round(seconds * 1e3, 3),
            share: round(seconds / step_s, 4),
            gflops: rate(timing.flops),
            gbs: if timing.flops > 0.0 { None } else { rate(timing.bytes) },
            of_limit: round(peaks.limit(call, timing) / median, 3),
        }
    };
    device.timings().iter().map(one).collect()
}
