//! The time of a training step by kernel: `--profile` (per kernel) and `bench kernels` (per kernel and
//! shape).

use std::collections::BTreeMap;

use pipeline::bench::kernels::StepFigures;

use super::figures::told_a_program;
use crate::failure::Outcome;
use crate::output::Console;

/// Prints one line per kernel and shape.
pub fn by_shape(figures: &StepFigures, console: &mut Console) -> Outcome {
    if told_a_program(figures, console)? {
        return Ok(());
    }
    heading(figures, console);
    console.data(&format!(
        "{:<22} {:<18} {:<5} {:>5} {:>9} {:>9} {:>8} {:>9}",
        "kernel", "shape", "dtype", "calls", "ms/step", "GFLOP/s", "GB/s", "of limit"
    ))?;
    for k in &figures.kernels {
        let rate = |rate: Option<f64>| rate.map_or(String::new(), |rate| format!("{rate:.1}"));
        console.data(&format!(
            "{:<22} {:<18} {:<5} {:>5} {:>9.3} {:>9} {:>8} {:>7.1} %",
            k.kernel,
            k.shape,
            k.dtype,
            k.calls,
            k.ms,
            rate(k.gflops),
            rate(k.gbs),
            100.0 * k.of_limit
        ))?;
    }
    Ok(())
}

/// Prints one line per kernel, summed over shapes.
pub fn by_kernel(figures: &StepFigures, console: &mut Console) -> Outcome {
    if told_a_program(figures, console)? {
        return Ok(());
    }
    heading(figures, console);
    let mut by_kernel: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for k in &figures.kernels {
        let (ms, limit) = by_kernel.entry(k.kernel).or_default();
        (*ms, *limit) = (*ms + k.ms, *limit + k.ms * k.of_limit);
    }
    let timed = figures.kernels.iter().map(|k| k.ms).sum();
    let mut rows: Vec<(&str, (f64, f64))> = by_kernel.into_iter().collect();
    rows.sort_by(|(_, a), (_, b)| b.0.total_cmp(&a.0));
    rows.push(("all kernels", (timed, figures.limit_ms)));
    console.data(&format!(
        "{:<22} {:>10} {:>8} {:>10} {:>9}",
        "kernel", "ms/step", "share", "limit, ms", "of limit"
    ))?;
    for (kernel, (ms, limit)) in rows {
        let share = ms / figures.step_ms;
        console.data(&format!(
            "{kernel:<22} {ms:>10.2} {:>6.1} % {limit:>10.2} {:>7.1} %  {}",
            100.0 * share,
            100.0 * limit / ms,
            "█".repeat((30.0 * share).round() as usize)
        ))?;
    }
    Ok(())
}

fn heading(figures: &StepFigures, console: &mut Console) {
    let peaks = &figures.peaks;
    let bf16 = peaks.bf16_gflops.map_or(String::new(), |rate| format!(", bf16 {rate:.0} GFLOP/s"));
    console.prose(&format!(
        "measured peak of {}: f32 {:.0} GFLOP/s{bf16}, memory read {:.1} GB/s",
        figures.device, peaks.f32_gflops, peaks.read_gbs
    ));
    console.prose(&format!(
        "{}: {:.2} ms, {:.0} model GFLOP/s; with every kernel at its limit: {:.2} ms\n",
        figures.name, figures.step_ms, figures.model_gflops, figures.limit_ms
    ));
}
