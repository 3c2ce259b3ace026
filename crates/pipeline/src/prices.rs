//! Prices of rented GPUs: a small table of list prices with dates, and hours estimated from an assumed share
//! of the GPU's peak.
//!
//! These are estimates, not offers: prices change weekly and differ by a factor of four between providers.
//! Nothing here uses the network.

use model::Precision;
use serde::Serialize;

/// Assumed model FLOPs utilization: the fraction of the dense bfloat16 peak that training reaches. Well-tuned
/// trainers of dense models report 33 to 50 % on one H100; models below about 100M parameters reach less,
/// since their steps are bound by memory and launches.
const ASSUMED_MFU: f64 = 0.40;
/// In f32 the tensor cores use TF32 at best, at half the rate, with the same assumption.
const F32_SHARE: f64 = 0.5;
/// Fraction of its memory that the driver and other programs leave.
const USABLE_MEMORY: f64 = 0.97;

/// A GPU for rent.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Gpu {
    /// Its name on the command line.
    pub key: &'static str,
    /// Its full name.
    pub name: &'static str,
    /// Memory, in GB (10^9 bytes).
    pub memory_gb: f64,
    /// Specified dense bfloat16 peak with f32 accumulation, in TFLOP/s.
    pub bf16_tflops: f64,
    /// On-demand list price of one GPU, in USD per hour.
    pub usd_per_hour: f64,
    /// The provider.
    pub provider: &'static str,
    /// Date of the price.
    pub price_date: &'static str,
}

/// The table of on-demand list prices for one GPU; spot and community offers are about a third to a half
/// cheaper.
pub const GPUS: [Gpu; 6] = [
    Gpu {
        key: "h200",
        name: "NVIDIA H200 SXM",
        memory_gb: 141.0,
        bf16_tflops: 989.0,
        usd_per_hour: 4.59,
        provider: "RunPod",
        price_date: "2026-10-07",
    },
    Gpu {
        key: "h100",
        name: "NVIDIA H100 SXM",
        memory_gb: 80.0,
        bf16_tflops: 989.0,
        usd_per_hour: 3.99,
        provider: "RunPod Secure Cloud",
        price_date: "2026-11-09",
    },
    Gpu {
        key: "a100",
        name: "NVIDIA A100 80GB SXM",
        memory_gb: 80.0,
        bf16_tflops: 312.0,
        usd_per_hour: 1.79,
        provider: "RunPod Secure Cloud",
        price_date: "2026-11-09",
    },
    Gpu {
        key: "l40s",
        name: "NVIDIA L40S",
        memory_gb: 48.0,
        bf16_tflops: 362.0,
        usd_per_hour: 1.86,
        provider: "AWS g6e.xlarge",
        price_date: "2025",
    },
    Gpu {
        key: "rtx4090",
        name: "NVIDIA RTX 4090",
        memory_gb: 24.0,
        bf16_tflops: 165.0,
        usd_per_hour: 0.69,
        provider: "RunPod Secure Cloud",
        price_date: "2025",
    },
    Gpu {
        key: "a10g",
        name: "NVIDIA A10G",
        memory_gb: 24.0,
        bf16_tflops: 70.0,
        usd_per_hour: 1.01,
        provider: "AWS g5.xlarge",
        price_date: "2025",
    },
];

impl Gpu {
    /// Finds a GPU by name, in any spelling: `h100`, `H100`, `rtx-4090`.
    ///
    /// # Errors
    /// A GPU that is not in the table; the message lists those that are.
    pub fn named(word: &str) -> Result<&'static Gpu, String> {
        let plain: String =
            word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        GPUS.iter().find(|gpu| gpu.key == plain).ok_or_else(|| {
            let known: Vec<&str> = GPUS.iter().map(|gpu| gpu.key).collect();
            format!("there is no price for `{word}`; the known GPUs are {}", known.join(", "))
        })
    }

    /// Memory available to training.
    pub fn memory_bytes(&self) -> u64 {
        (USABLE_MEMORY * self.memory_gb * 1e9) as u64
    }
}

/// Estimated, not measured, hours and price of training on a rented GPU.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rent {
    /// The GPU.
    pub gpu: &'static Gpu,
    /// Assumed fraction of its peak.
    pub assumed_mfu: f64,
    /// Hours of the optimizer steps only.
    pub hours: f64,
    /// Hours times the list price: without storage, transfers, taxes and setup time.
    pub usd: f64,
}

impl Rent {
    pub(crate) fn of(gpu: &'static Gpu, flops: f64, precision: Precision) -> Rent {
        let share = if precision == Precision::F32 { F32_SHARE } else { 1.0 };
        let hours = flops / (ASSUMED_MFU * share * gpu.bf16_tflops * 1e12) / 3600.0;
        Rent { gpu, assumed_mfu: ASSUMED_MFU, hours, usd: hours * gpu.usd_per_hour }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_price_and_a_date_and_is_found_by_its_word() {
        for gpu in &GPUS {
            assert_eq!(Gpu::named(&gpu.key.to_uppercase()).unwrap().name, gpu.name);
            assert!(gpu.usd_per_hour > 0.0 && gpu.price_date.starts_with("202"));
        }
        assert_eq!(Gpu::named("RTX-4090").unwrap().key, "rtx4090");
        assert!(Gpu::named("tpu").unwrap_err().contains("h100"));
    }

    #[test]
    fn hours_follow_from_the_arithmetic() {
        let h100 = Gpu::named("h100").unwrap();
        // 124M parameters on 10B tokens: 6·N·D.
        let rent = Rent::of(h100, 6.0 * 124e6 * 10e9, Precision::Bf16);
        assert!((rent.hours - 5.22).abs() < 0.01 && (rent.usd - rent.hours * 3.99).abs() < 1e-9, "{rent:?}");
        assert!(Rent::of(h100, 1e18, Precision::F32).hours > Rent::of(h100, 1e18, Precision::Bf16).hours);
    }
}
