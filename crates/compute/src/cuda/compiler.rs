//! Kernels from text to what a GPU runs: compiled by NVRTC for the device at hand, kept on disk under the
//! hash of all that decided the result.
//!
//! A program is `machine.cuh`, `matrix.cuh` and one file of kernels, without a header; its kernels are those
//! it marks `EXPORT(name)`.

use crate::{Error, Result};
use cudarc::nvrtc::sys;
use std::ffi::CString;
use std::path::PathBuf;
use std::ptr::{null, null_mut};

const MACHINE: &str = include_str!("kernels/machine.cuh");
const MATRIX: &str = include_str!("kernels/matrix.cuh");

/// The programs: name and text.
pub const PROGRAMS: [(&str, &str); 5] = [
    ("rows.cu", include_str!("kernels/rows.cu")),
    ("embedding.cu", include_str!("kernels/embedding.cu")),
    ("steps.cu", include_str!("kernels/steps.cu")),
    ("attention.cu", include_str!("kernels/attention.cu")),
    ("attention_any.cu", include_str!("kernels/attention_any.cu")),
];

/// The kernels of a program, by the names it exports.
pub fn exports(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("EXPORT(")?.strip_suffix(')'))
}

/// What a compilation gave.
#[derive(Debug)]
pub struct Compiled {
    /// What the driver loads.
    pub cubin: Vec<u8>,
    /// What the compiler said; with `-v` each kernel's registers and spills.
    pub log: String,
}

/// The compiler's name for a GPU: `sm_90a` has Hopper's own instructions, which later GPUs lack.
pub fn architecture((major, minor): (u32, u32)) -> String {
    let own = if (major, minor) == (9, 0) { "a" } else { "" };
    format!("sm_{major}{minor}{own}")
}

/// Compiles a program, always.
///
/// # Errors
/// [`Error::Compile`]: a GPU newer than the compiler, or a mistake in a kernel.
pub fn compile((name, text): (&str, &str), architecture: &str, verbose: bool) -> Result<Compiled> {
    let refuse =
        |log: String| Error::Compile { program: name.to_owned(), architecture: architecture.to_owned(), log };
    let source = CString::new([MACHINE, MATRIX, text].concat()).map_err(|error| refuse(error.to_string()))?;
    let file = CString::new(name).map_err(|error| refuse(error.to_string()))?;
    let mut options = vec![format!("--gpu-architecture={architecture}"), "--std=c++17".to_owned()];
    if verbose {
        options.push("--ptxas-options=-v".to_owned());
    }
    let options: Vec<CString> = options.into_iter().filter_map(|option| CString::new(option).ok()).collect();
    let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
    // SAFETY: signatures are the header's; strings and buffers live through their calls, and are as long as
    // was asked for.
    unsafe {
        let mut program = null_mut();
        let made = sys::nvrtcCreateProgram(&mut program, source.as_ptr(), file.as_ptr(), 0, null(), null());
        if made != sys::nvrtcResult::NVRTC_SUCCESS {
            return Err(refuse(format!("{made:?}")));
        }
        let done = sys::nvrtcCompileProgram(program, options.len() as i32, options.as_ptr());
        let mut size = 0;
        sys::nvrtcGetProgramLogSize(program, &mut size);
        let mut log = vec![0u8; size];
        sys::nvrtcGetProgramLog(program, log.as_mut_ptr().cast());
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
        let mut cubin = Vec::new();
        if done == sys::nvrtcResult::NVRTC_SUCCESS {
            sys::nvrtcGetCUBINSize(program, &mut size);
            cubin.resize(size, 0);
            sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast());
        }
        sys::nvrtcDestroyProgram(&mut program);
        match done {
            sys::nvrtcResult::NVRTC_SUCCESS => Ok(Compiled { cubin, log }),
            _ => Err(refuse(format!("{done:?}\n{log}"))),
        }
    }
}

/// All programs for a GPU, from the cache or compiled, several at a time.
///
/// # Errors
/// As [`compile`].
pub fn load(architecture: &str) -> Result<Vec<Vec<u8>>> {
    std::thread::scope(|scope| {
        let each = PROGRAMS.map(|program| {
            let work = move || cached(program, architecture);
            (program, std::thread::Builder::new().spawn_scoped(scope, work))
        });
        let ended = |(program, thread)| match thread {
            Ok(thread) => {
                let thread: std::thread::ScopedJoinHandle<'_, Result<Vec<u8>>> = thread;
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
            // If a thread cannot be started, the work continues without it.
            Err(_) => cached(program, architecture),
        };
        each.into_iter().map(ended).collect()
    })
}

fn cached(program: (&str, &str), architecture: &str) -> Result<Vec<u8>> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: two integers to write to.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    let decided = format!("{major}.{minor} {architecture} {MACHINE}{MATRIX}{}", program.1);
    let name = format!("{}-{}.cubin", program.0, &blake3::hash(decided.as_bytes()).to_hex()[..32]);
    if let Some(found) = read_cache(&name) {
        return Ok(found);
    }
    let compiled = compile(program, architecture, false)?;
    write_cache(&name, &compiled.cubin);
    Ok(compiled.cubin)
}

/// Where what was compiled and measured for this machine's GPUs is kept, to be made again if it is lost.
fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(base.join("text2llm").join("cuda"))
}

/// A file of the cache whose hash holds. Bytes are the hash of the rest, then the rest.
pub fn read_cache(name: &str) -> Option<Vec<u8>> {
    let bytes = std::fs::read(cache_folder()?.join(name)).ok()?;
    let (hash, rest) = bytes.split_at_checked(blake3::OUT_LEN)?;
    (blake3::hash(rest).as_bytes() == hash).then(|| rest.to_vec())
}

/// Keeps a file for the next start. A cache that cannot be written costs time, nothing else, so nobody is
/// told.
pub fn write_cache(name: &str, bytes: &[u8]) {
    let Some(folder) = cache_folder() else { return };
    let temporary = folder.join(format!("{name}.{}", std::process::id()));
    let whole = [blake3::hash(bytes).as_bytes(), bytes].concat();
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&temporary, whole))
        .and_then(|()| std::fs::rename(&temporary, folder.join(name)));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::super::libraries::Part;
    use super::*;

    /// Kernels that a step spends its time in, or that are so simple that spilling would be a mistake: all of
    /// them.
    #[test]
    fn kernels_compile_without_spills() {
        if Part::Nvrtc.find().is_none() {
            testkit::skip(format_args!("NVRTC was not found; {}", Part::Nvrtc.remedy()));
            return;
        }
        let all =
            ["sm_80", "sm_90a", "sm_100"].into_iter().flat_map(|sm| PROGRAMS.map(|program| (sm, program)));
        let (each, at) = (all.collect::<Vec<_>>(), std::sync::atomic::AtomicUsize::new(0));
        let work = || {
            while let Some(&(architecture, program)) =
                each.get(at.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
            {
                check_spills(architecture, program);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(work);
            work();
        });
    }

    fn check_spills(architecture: &str, program: (&str, &str)) {
        let compiled = compile(program, architecture, true).unwrap_or_else(|error| panic!("{error}"));
        assert!(!compiled.cubin.is_empty());
        let reports: Vec<&str> = compiled.log.lines().filter(|line| line.contains("spill stores")).collect();
        // The emulator's compiler has no registers to tell of.
        if compiled.log.is_empty() {
            return;
        }
        assert!(reports.len() >= exports(program.1).count(), "{}: {}", program.0, compiled.log);
        for report in reports {
            assert!(
                report.contains("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"),
                "{} for {architecture}: {}",
                program.0,
                compiled.log
            );
        }
    }

    #[test]
    fn every_kernel_is_exported() {
        for (name, text) in PROGRAMS {
            let kernels = text.matches("KERNEL ").count();
            assert!(kernels > 0 && kernels == exports(text).count(), "{name}");
        }
    }

    #[test]
    fn hopper_has_instructions_of_its_own() {
        assert_eq!([(8, 0), (9, 0), (10, 0)].map(architecture), ["sm_80", "sm_90a", "sm_100"]);
    }
}
