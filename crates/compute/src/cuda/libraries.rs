//! The driver and NVIDIA's libraries: found, asked for their versions, and for each missing one the command
//! that brings it.

use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::path::{Path, PathBuf};

/// A library that training on a GPU is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The driver's library, `libcuda`.
    Driver,
    /// The compiler of kernels.
    Nvrtc,
    /// Matrix products.
    CublasLt,
    /// NVIDIA's own attention; looked for, and not used yet.
    Cudnn,
}

/// All of them, the most needed first.
const PARTS: [Part; 4] = [Part::Driver, Part::Nvrtc, Part::CublasLt, Part::Cudnn];

impl Part {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Part::Driver => "NVIDIA driver",
            Part::Nvrtc => "NVRTC",
            Part::CublasLt => "cuBLASLt",
            Part::Cudnn => "cuDNN",
        }
    }

    /// Whether training works without it.
    pub fn is_optional(self) -> bool {
        self == Part::Cudnn
    }

    /// What brings it.
    pub fn remedy(self) -> &'static str {
        match self {
            Part::Driver => {
                "install the NVIDIA driver (Debian, Ubuntu: sudo apt install nvidia-driver); in a container, \
                 pass the GPU through (docker run --gpus all)"
            }
            Part::Nvrtc => "pip install nvidia-cuda-nvrtc, or install the CUDA toolkit",
            Part::CublasLt => "pip install nvidia-cublas, or install the CUDA toolkit",
            Part::Cudnn => "pip install nvidia-cudnn-cu13",
        }
    }

    /// File names, the newest first.
    fn files(self) -> &'static [&'static str] {
        match self {
            Part::Driver => &["libcuda.so.1"],
            Part::Nvrtc => &["libnvrtc.so.13", "libnvrtc.so.12"],
            Part::CublasLt => &["libcublasLt.so.13", "libcublasLt.so.12"],
            Part::Cudnn => &["libcudnn.so.9"],
        }
    }

    /// Asks a loaded library what it is; `None` where it lacks the function that tells.
    fn version(self, library: &Library) -> Option<String> {
        let dotted = |n: usize| format!("{}.{}.{}", n / 10_000, n / 100 % 100, n % 100);
        // SAFETY: signatures as in NVIDIA's headers (cuda.h, nvrtc.h, cublasLt.h, cudnn.h); the calls have no
        // preconditions.
        unsafe {
            match self {
                Part::Driver => {
                    let get =
                        library.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"cuDriverGetVersion\0");
                    let mut version = 0;
                    (get.ok()?(&mut version) == 0)
                        .then(|| format!("CUDA {}.{}", version / 1000, version / 10 % 100))
                }
                Part::Nvrtc => {
                    let get = library
                        .get::<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int>(b"nvrtcVersion\0");
                    let (mut major, mut minor) = (0, 0);
                    (get.ok()?(&mut major, &mut minor) == 0).then(|| format!("{major}.{minor}"))
                }
                Part::CublasLt => {
                    let get = library.get::<unsafe extern "C" fn() -> usize>(b"cublasLtGetVersion\0");
                    Some(dotted(get.ok()?()))
                }
                Part::Cudnn => {
                    let get = library.get::<unsafe extern "C" fn() -> usize>(b"cudnnGetVersion\0");
                    Some(dotted(get.ok()?()))
                }
            }
        }
    }

    /// Loads the library from wherever it is: the system's places, then a toolkit's folders, then those of
    /// Python's wheels. It stays loaded, so that whoever asks for it by its file name later gets this one.
    pub fn find(self) -> Option<Found> {
        let folders = folders();
        let named = self.files().iter().map(PathBuf::from);
        let placed = folders.iter().flat_map(|folder| self.files().iter().map(move |file| folder.join(file)));
        let library = named
            .chain(placed.filter(|path| path.is_file()))
            // SAFETY: NVIDIA's libraries may be loaded at any time and by any thread.
            .find_map(|path| unsafe { Library::new(&path) }.ok().map(|library| (path, library)));
        let (path, library) = library?;
        let version = self.version(&library)?;
        std::mem::forget(library);
        let path = if path.is_absolute() { path } else { loaded_path(&path).unwrap_or(path) };
        Some(Found { path, version })
    }
}

/// A library that is there.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its file.
    pub path: PathBuf,
    /// What it says of itself.
    pub version: String,
}

/// The least compute capability that the kernels run on: tensor cores with bfloat16 came with it.
pub const NEEDED_CAPABILITY: (u32, u32) = (8, 0);

/// A GPU as its driver describes it.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// The product's name.
    pub name: String,
    /// Compute capability: (9, 0) is Hopper.
    pub capability: (u32, u32),
    /// All of its memory.
    pub memory_bytes: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
}

impl Gpu {
    /// Whether the program's kernels run on it.
    pub fn is_supported(&self) -> bool {
        self.capability >= NEEDED_CAPABILITY
    }
}

/// What this machine has to train on a GPU with.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Every library, and where it was found.
    pub libraries: Vec<(Part, Option<Found>)>,
    /// The GPUs, or why the driver shows none; none without a driver.
    pub gpus: Result<Vec<Gpu>, String>,
}

/// Looks for all of it.
pub fn survey() -> Survey {
    let libraries: Vec<_> = PARTS.into_iter().map(|part| (part, part.find())).collect();
    let driver = libraries.iter().find(|(part, _)| *part == Part::Driver);
    let gpus = driver.and_then(|(_, found)| found.as_ref()).map_or(Ok(Vec::new()), gpus);
    Survey { libraries, gpus }
}

/// The GPUs that the driver shows to this process.
///
/// # Errors
/// Why it shows none, in words.
fn gpus(driver: &Found) -> Result<Vec<Gpu>, String> {
    // SAFETY: signatures as in cuda.h; each call's pointers live through it, and its result is checked.
    unsafe {
        let library = Library::new(&driver.path).map_err(|error| error.to_string())?;
        macro_rules! function {
            ($name:literal, $($argument:ty),*) => {
                library
                    .get::<unsafe extern "C" fn($($argument),*) -> c_int>($name)
                    .map_err(|error| error.to_string())?
            };
        }
        let told = |what: &str, code: c_int| match code {
            0 => Ok(()),
            100 => Err("the driver shows no GPU to this process (CUDA_VISIBLE_DEVICES?)".to_owned()),
            803 | 804 => Err(format!(
                "the driver and its library have different versions ({what}: {code}): reboot, or update the \
                 driver"
            )),
            _ => Err(format!("{what} failed with code {code}")),
        };
        told("cuInit", function!(b"cuInit\0", c_uint)(0))?;
        let mut count = 0;
        told("cuDeviceGetCount", function!(b"cuDeviceGetCount\0", *mut c_int)(&mut count))?;
        let name_of = function!(b"cuDeviceGetName\0", *mut c_char, c_int, c_int);
        let memory_of = function!(b"cuDeviceTotalMem_v2\0", *mut usize, c_int);
        let attribute_of = function!(b"cuDeviceGetAttribute\0", *mut c_int, c_int, c_int);
        let attribute = |which: c_int, device: c_int| {
            let mut value = 0;
            told("cuDeviceGetAttribute", attribute_of(&mut value, which, device)).map(|()| value as u32)
        };
        // CU_DEVICE_ATTRIBUTE_{MULTIPROCESSOR_COUNT, COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR}
        const MULTIPROCESSORS: c_int = 16;
        const MAJOR: c_int = 75;
        const MINOR: c_int = 76;
        (0..count)
            .map(|device| {
                let mut name: [c_char; 256] = [0; 256];
                told("cuDeviceGetName", name_of(name.as_mut_ptr(), 255, device))?;
                let mut memory = 0;
                told("cuDeviceTotalMem", memory_of(&mut memory, device))?;
                Ok(Gpu {
                    name: CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned(),
                    capability: (attribute(MAJOR, device)?, attribute(MINOR, device)?),
                    memory_bytes: memory as u64,
                    multiprocessors: attribute(MULTIPROCESSORS, device)?,
                })
            })
            .collect()
    }
}

/// Where libraries may be beside the system's places.
fn folders() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
    for toolkit in toolkits.chain([PathBuf::from("/usr/local/cuda")]) {
        found.push(toolkit.join("lib64"));
        found.push(toolkit.join("lib"));
    }
    let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable);
    let home = variable("HOME").map(|home| home.join(".local"));
    // Also those whose Python one would get without having activated them.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let pythons = std::env::split_paths(&path).filter(|folder| folder.join("python3").exists());
    let pythons: Vec<PathBuf> = pythons.filter_map(|folder| folder.parent().map(Path::to_owned)).collect();
    let places = environments.chain(home).chain(pythons).chain([PathBuf::from("/usr/local")]);
    for environment in places {
        for python in children(&environment.join("lib")) {
            for packages in ["site-packages", "dist-packages"] {
                found.extend(
                    children(&python.join(packages).join("nvidia")).iter().map(|wheel| wheel.join("lib")),
                );
            }
        }
    }
    found
}

/// What stands in a folder, in the order of names; nothing where it cannot be read.
fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The file that a library was loaded from by its name alone.
fn loaded_path(file: &Path) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let name = file.to_str()?.split(".so").next()?;
    let path = maps
        .lines()
        .filter_map(|line| line.split_once('/'))
        .map(|(_, path)| PathBuf::from(format!("/{path}")));
    path.into_iter().find(|path| {
        path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}.so")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_no_error() {
        for (part, found) in survey().libraries {
            match found {
                Some(found) => assert!(found.version.contains('.'), "{part:?}: {found:?}"),
                None => println!("{}: not found; {}", part.name(), part.remedy()),
            }
        }
    }

    #[test]
    fn a_library_loaded_by_name_has_its_file_told() {
        // SAFETY: the C library is loaded already.
        let library = unsafe { Library::new("libc.so.6") };
        if library.is_ok() {
            assert!(loaded_path(Path::new("libc.so.6")).is_some_and(|path| path.is_absolute()));
        }
    }
}
