//! Whether this is the machine that a guide in docs/ is written for: an H100 by `nvidia-smi`, a Mac by
//! `sysctl` and `system_profiler`. Each program is found on PATH.

use std::process::{Command, Stdio};

use clap::ValueEnum;

use super::check::Check;

/// Least memory of an 80 GB H100, of which the driver reports a little less.
const H100_LEAST_MIB: u64 = 79 << 10;
/// Least CUDA version that the driver must support.
const LEAST_CUDA: (u32, u32) = (12, 1);
/// Memory of a Mac, in GiB: below the first a 7B model does not fit in four bits, below the second barely.
const MAC_LEAST_GIB: u64 = 16;
const MAC_AMPLE_GIB: u64 = 32;

/// The machine that a recipe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Machine {
    /// No particular machine.
    None,
    /// An NVIDIA H100 with 80 GB; needs a build with `--features cuda`.
    H100,
    /// A Mac with an Apple chip, on its CPU.
    Mac,
}

/// Checks of the machine.
pub fn checks(machine: Machine) -> Vec<Check> {
    match machine {
        Machine::None => Vec::new(),
        Machine::H100 => h100(),
        Machine::Mac => mac(),
    }
}

fn h100() -> Vec<Check> {
    const QUERY: [&str; 2] =
        ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"];
    let listing = match output("nvidia-smi", &QUERY) {
        Ok(listing) => listing,
        Err(problem) => {
            return vec![Check::error("gpu", problem).remedy(
                "rent a machine with an NVIDIA H100, and install NVIDIA's driver, which brings nvidia-smi",
            )];
        }
    };
    let version = output("nvidia-smi", &[]).unwrap_or_default();
    vec![gpu(&listing), cuda(&version)]
}

/// The H100 in nvidia-smi's list of `name, memory in MiB, driver version`.
fn gpu(listing: &str) -> Check {
    let gpus: Vec<(&str, Option<u64>, &str)> = listing
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(',').map(str::trim);
            let (name, memory, driver) = (fields.next()?, fields.next()?, fields.next()?);
            Some((name, memory.parse().ok(), driver))
        })
        .collect();
    let found: Vec<&str> = gpus.iter().map(|(name, ..)| *name).collect();
    // The first GPU is the one that trains.
    let Some((name, memory, driver)) = gpus.first().copied() else {
        return Check::error("gpu", "nvidia-smi lists no GPU").remedy("rent a machine with an NVIDIA H100");
    };
    if !name.contains("H100") {
        let remedy = "rent an H100, or check without --machine h100";
        return Check::error("gpu", format!("not an H100: {}", found.join(", "))).remedy(remedy);
    }
    match memory {
        Some(mib) if mib >= H100_LEAST_MIB => {
            Check::ok("gpu", format!("{name}, {} GiB, driver {driver}", mib >> 10))
        }
        Some(mib) => Check::error(
            "gpu",
            format!("{name} has {} GiB of memory, less than {}", mib >> 10, H100_LEAST_MIB >> 10),
        )
        .remedy("rent an H100 with 80 GB that is not divided into instances (MIG)"),
        None => Check::error("gpu", format!("nvidia-smi does not report the memory of {name}"))
            .remedy("run nvidia-smi to see the driver's error"),
    }
}

/// The "CUDA Version" in nvidia-smi's table: the highest that the driver supports.
fn cuda(table: &str) -> Check {
    let found = table.split("CUDA Version:").nth(1).and_then(|rest| {
        let (major, minor) = rest.split_whitespace().next()?.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let (least_major, least_minor) = LEAST_CUDA;
    let remedy = format!(
        "choose a machine or template whose driver supports CUDA {least_major}.{least_minor} or later (530 \
         or later)"
    );
    match found {
        Some(version) if version >= LEAST_CUDA => {
            Check::ok("cuda", format!("the driver supports CUDA {}.{}", version.0, version.1))
        }
        Some((major, minor)) => {
            let message = format!(
                "the driver supports CUDA {major}.{minor}, which is older than {least_major}.{least_minor}"
            );
            Check::error("cuda", message).remedy(remedy)
        }
        None => Check::error("cuda", "nvidia-smi reports no CUDA version").remedy(remedy),
    }
}

fn mac() -> Vec<Check> {
    let chip = output("sysctl", &["-n", "machdep.cpu.brand_string"]);
    let memory = output("sysctl", &["-n", "hw.memsize"]);
    let profile = output("system_profiler", &["SPHardwareDataType"]).ok();
    let mut checks = vec![match chip {
        Ok(chip) => self::chip(chip.trim(), profile.as_deref()),
        Err(problem) => Check::error("chip", format!("this is not a Mac: {problem}"))
            .remedy("check without --machine mac"),
    }];
    if let Ok(bytes) = memory {
        checks.push(mac_memory(&bytes));
    }
    checks.push(Check::warning(
        "duration",
        "training on a Mac uses its CPU, takes hours to days, and the machine gets hot: plug it in, keep it awake \
         (caffeinate -i) and ventilated",
    ));
    checks
}

/// The chip by sysctl, and by system_profiler's "Chip:" if it ran.
fn chip(name: &str, profile: Option<&str>) -> Check {
    let field = |line: &str| line.trim().strip_prefix("Chip:").map(|value| value.trim().to_owned());
    let profiled = profile.and_then(|text| text.lines().find_map(field));
    match profiled {
        Some(other) if other != name => {
            Check::warning("chip", format!("sysctl says {name}, system_profiler says {other}"))
        }
        _ if name.starts_with("Apple M") => Check::ok("chip", name),
        _ => Check::warning("chip", format!("{name} is not an Apple chip: training is slow")),
    }
}

fn mac_memory(bytes: &str) -> Check {
    let Ok(bytes) = bytes.trim().parse::<u64>() else {
        return Check::error("ram", format!("sysctl hw.memsize reports `{}`", bytes.trim()))
            .remedy("run sysctl -n hw.memsize: it must print the memory in bytes");
    };
    let gib = bytes >> 30;
    let message = format!("{gib} GB of memory");
    if gib < MAC_LEAST_GIB {
        Check::error("ram", format!("{message}: insufficient, at least {MAC_LEAST_GIB} GB are needed"))
            .remedy("use a Mac with more memory, or rent a GPU (docs/TRAINING_H100.md)")
    } else if gib < MAC_AMPLE_GIB {
        Check::warning("ram", format!("{message}: limited, {MAC_AMPLE_GIB} GB are recommended"))
            .remedy("close other programs, and prefer a base model of at most 3B parameters")
    } else {
        Check::ok("ram", format!("{message}: sufficient"))
    }
}

/// The stdout of a program, or why there is none.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let ran = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let ran = ran.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no {program} on PATH"),
        _ => format!("cannot run {program}: {error}"),
    })?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    // nvidia-smi reports errors on stdout.
    let said = [ran.stderr, ran.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    Err(format!("{program} failed ({}): {}", ran.status, said.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[track_caller]
    fn expect(check: &Check, status: Status, word: &str) {
        assert!(check.status == status && check.line().contains(word), "{check:?}");
    }

    #[test]
    fn an_h100_is_known_by_name_and_memory() {
        let h100 = "NVIDIA H100 80GB HBM3, 81559, 535.104.05";
        expect(&gpu(&format!("{h100}\n")), Status::Ok, "79 GiB, driver 535.104.05");
        expect(&gpu("NVIDIA H100 PCIe, 81559, 550.54.15\n"), Status::Ok, "PCIe");
        expect(&gpu("NVIDIA H100 80GB HBM3 MIG 1g.10gb, 9728, 535.1\n"), Status::Error, "9 GiB");
        expect(&gpu("NVIDIA A100-SXM4-80GB, 81920, 535.1\n"), Status::Error, "A100");
        expect(&gpu(&format!("Tesla T4, 15360, 535.1\n{h100}")), Status::Error, "not an H100: Tesla T4");
        expect(&gpu("NVIDIA H100, [N/A], 535.1\n"), Status::Error, "does not report the memory");
        for nothing in ["", "No devices were found\n"] {
            expect(&gpu(nothing), Status::Error, "no GPU");
        }
    }

    #[test]
    fn the_cuda_version_is_compared_by_numbers() {
        let table = |version: &str| format!("| Driver Version: 535.104.05   CUDA Version: {version}     |\n");
        expect(&cuda(&table("12.1")), Status::Ok, "12.1");
        expect(&cuda(&table("12.10")), Status::Ok, "12.10");
        expect(&cuda(&table("13.0")), Status::Ok, "13.0");
        expect(&cuda(&table("12.0")), Status::Error, "older than 12.1");
        expect(&cuda(&table("11.8")), Status::Error, "11.8");
        expect(&cuda(&table("N/A")), Status::Error, "no CUDA version");
        expect(&cuda(""), Status::Error, "no CUDA version");
    }

    #[test]
    fn chips_are_cross_checked() {
        let profile =
            "Hardware:\n\n    Hardware Overview:\n\n      Chip: Apple M4 Pro\n      Memory: 48 GB\n";
        expect(&chip("Apple M4 Pro", Some(profile)), Status::Ok, "M4 Pro");
        expect(&chip("Apple M4 Pro", None), Status::Ok, "M4 Pro");
        expect(&chip("Apple M4", Some(profile)), Status::Warning, "system_profiler says Apple M4 Pro");
        expect(&chip("Intel(R) Core(TM) i7", None), Status::Warning, "not an Apple chip");
    }

    #[test]
    fn memory_of_a_mac_is_insufficient_limited_or_sufficient() {
        let of = |gib: u64| mac_memory(&format!("{}\n", gib << 30));
        expect(&of(8), Status::Error, "insufficient");
        expect(&of(16), Status::Warning, "limited");
        expect(&of(24), Status::Warning, "limited");
        expect(&of(32), Status::Ok, "sufficient");
        expect(&mac_memory("much"), Status::Error, "`much`");
    }
}
