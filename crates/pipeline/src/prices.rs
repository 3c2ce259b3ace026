//! What renting a GPU costs: a small table of list prices, each with its date, and hours from a stated share
//! of the GPU's rate.
//!
//! An estimate for a decision, not an offer: prices change weekly and differ by a factor of four between
//! providers. Nothing here asks the network.

use model::Precision;
use serde::Serialize;

/// Share of the dense bfloat16 rate that training is assumed to reach (model FLOPs utilisation). Well-tuned
/// trainers of dense models report 33 to 50 % on one H100; models below some 100M parameters reach less,
/// since their steps are bound by memory and launches.
const ASSUMED_MFU: f64 = 0.40;
/// In f32 the tensor cores take TF32 at best, at half the rate and on the same assumption.
const F32_SHARE: f64 = 0.5;
/// Of its memory, what the driver and other programs leave.
const USABLE_MEMORY: f64 = 0.97;

/// A GPU for rent.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Gpu {
    /// The word for it on the command line.
    pub key: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Memory, in GB (10^9 bytes).
    pub memory_gb: f64,
    /// Dense bfloat16 products with f32 sums, as its maker states, in TFLOP/s.
    pub bf16_tflops: f64,
    /// List price of one GPU, on demand.
    pub usd_per_hour: f64,
    /// Whose list.
    pub provider: &'static str,
    /// When the price was read.
    pub price_date: &'static str,
}

/// The table. A price is a list price for one GPU on demand; spot and community offers are about a third to a
/// half cheaper.
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
    /// By its word, however it is written: `h100`, `H100`, `rtx-4090`.
    ///
    /// # Errors
    /// One that is not in the table; the message names those that are.
    pub fn named(word: &str) -> Result<&'static Gpu, String> {
        let plain: String =
            word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        GPUS.iter().find(|gpu| gpu.key == plain).ok_or_else(|| {
            let known: Vec<&str> = GPUS.iter().map(|gpu| gpu.key).collect();
            format!("no price is known for `{word}`; the table has {}", known.join(", "))
        })
    }

    /// What training can take of its memory.
    pub fn memory_bytes(&self) -> u64 {
        (USABLE_MEMORY * self.memory_gb * 1e9) as u64
    }
}

/// Hours and price of a training on a rented GPU, both assumed, not measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rent {
    /// Which.
    pub gpu: &'static Gpu,
    /// Share of its rate that is assumed.
    pub assumed_mfu: f64,
    /// Optimizer steps alone.
    pub hours: f64,
    /// Hours times the list price: without disks, transfers, taxes and the time to set it up.
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
