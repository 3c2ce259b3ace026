//! Where a step's time goes: every kernel call timed, beside the limit that this machine sets it.
//!
//! A kernel's limit is the longer of two times: its operations at the measured peak of the micro-kernel, and
//! its bytes at the measured read bandwidth (Williams, Waterman & Patterson 2009, the roofline model).

use compute::profile::{Call, Profiled, Timing};
use compute::{AnyDevice, Device, Target};
use model::{DType, Training};
use serde::Serialize;

use super::{BenchOptions, Steps, WARM_UP, median, round};
use crate::Result;

/// What the machine can do at most, measured in this run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peaks {
    /// Products in f32, GFLOP/s.
    pub f32_gflops: f64,
    /// Products in bfloat16, where the device has them.
    pub bf16_gflops: Option<f64>,
    /// Reading memory, GB/s.
    pub read_gbs: f64,
}

/// More than the caches hold, on most machines.
const READ_BYTES: usize = 512 << 20;

impl Peaks {
    /// Measures, about a second; reading goes over and over `read_bytes`.
    ///
    /// # Errors
    /// A device without the memory.
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

    /// Seconds that a call takes at least.
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
    /// Sizes of a call.
    pub shape: String,
    /// Type of its operands.
    pub dtype: &'static str,
    /// Calls in a step.
    pub calls: usize,
    /// Time of all calls in a step: the median call times their number.
    pub ms: f64,
    /// Of the step.
    pub share: f64,
    /// Rate of the median call, where it multiplies.
    pub gflops: Option<f64>,
    /// Bytes that must move over the time of the median call, where it does not multiply.
    pub gbs: Option<f64>,
    /// The limit over the time.
    pub of_limit: f64,
}

/// A step by kernel, the longest first. A step is one of the optimizer's, or one token of decoding.
#[derive(Clone, Debug, Serialize)]
pub struct StepFigures {
    /// What was timed.
    pub name: String,
    /// What computed.
    pub device: String,
    /// Threads of the CPU that worked.
    pub threads: usize,
    /// Ceilings.
    pub peaks: Peaks,
    /// Median time of a step.
    pub step_ms: f64,
    /// Model FLOPs over that time.
    pub model_gflops: f64,
    /// What the step would take with every kernel at its limit.
    pub limit_ms: f64,
    /// Its kernels.
    pub kernels: Vec<KernelFigures>,
}

/// Times the kernels of a preset's steps.
///
/// # Errors
/// A machine without the memory.
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
    let name = format!("a step of {} in {}", options.preset.name(), options.precision.dtype().name());
    Ok(StepFigures::new(name, steps.model.weights().device(), &mut seconds, flops, peaks))
}

impl StepFigures {
    /// From the times of equal steps of `flops` model FLOPs each.
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
