//! The kernels, and what they take: structs put together field by field as C lays them out.

use super::compiler::{self, PROGRAMS, exports};
use super::driver::{Driver, expect};
use super::queue::Launch;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use cudarc::driver::sys;
use std::ffi::CString;
use std::ptr::null_mut;

/// A kernel that can be launched.
pub type Function = sys::CUfunction;

/// The two forms of a kernel: eight elements at a time, and one.
#[derive(Clone, Copy, Debug)]
pub struct Forms {
    wide: Function,
    narrow: Function,
}

impl Forms {
    /// The form for rows that may be read eight elements at a time, or not.
    pub fn get(self, wide: bool) -> Function {
        if wide { self.wide } else { self.narrow }
    }
}

/// A kernel on tensor cores, for heads of 64 and of 128.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    of_64: Function,
    of_128: Function,
}

impl Heads {
    /// The form for heads of this width.
    pub fn get(self, head_dim: usize) -> Function {
        if head_dim == 64 { self.of_64 } else { self.of_128 }
    }
}

/// Declares one field a kernel, found under its own name, or as `name_8` and `name_1`, or as `name_64` and
/// `name_128`.
macro_rules! functions {
    (plain: $($plain:ident)*; forms: $($forms:ident)*; heads: $($heads:ident)*;) => {
        /// Every kernel by name.
        #[derive(Clone, Copy, Debug)]
        #[allow(missing_docs)] // the kernels' own files say what they do
        pub struct Functions {
            $(pub $plain: Function,)*
            $(pub $forms: Forms,)*
            $(pub $heads: Heads,)*
        }

        impl Functions {
            fn find(mut find: impl FnMut(&'static str) -> Result<Function>) -> Result<Functions> {
                Ok(Functions {
                    $($plain: find(stringify!($plain))?,)*
                    $($forms: Forms {
                        wide: find(concat!(stringify!($forms), "_8"))?,
                        narrow: find(concat!(stringify!($forms), "_1"))?,
                    },)*
                    $($heads: Heads {
                        of_64: find(concat!(stringify!($heads), "_64"))?,
                        of_128: find(concat!(stringify!($heads), "_128"))?,
                    },)*
                })
            }
        }
    };
}

functions! {
    plain: adamw add_bias add_column_sums append_to_cache axpby column_dots column_sums dropout fill momentum
        scale_by_frobenius_norm scale_columns sgd_step sort_count sort_scan sort_scatter squared_norm sum_parts;
    forms: add attention_any attention_any_keys attention_any_queries copy cross_entropy embedding
        embedding_pieces embedding_runs few_rows rmsnorm rmsnorm_backward rope swiglu swiglu_backward;
    heads: attention attention_delta attention_keys attention_queries;
}

/// The kernels, loaded.
#[derive(Debug)]
pub struct Kernels {
    modules: Vec<sys::CUmodule>,
    /// What can be launched.
    pub functions: Functions,
}

/// Shared memory that a kernel may take without asking.
const FREE_SHARED_BYTES: u32 = 48 << 10;

/// Modules that are unloaded again if loading ends early.
struct Modules(Vec<sys::CUmodule>);

impl Drop for Modules {
    fn drop(&mut self) {
        unload(&self.0);
    }
}

fn unload(modules: &[sys::CUmodule]) {
    for module in modules {
        // SAFETY: loaded by `Kernels::load`; whoever launched has waited.
        unsafe { sys::cuModuleUnload(*module) };
    }
}

impl Kernels {
    /// Compiles (or takes from the cache) and loads all of them.
    ///
    /// # Errors
    /// [`Error::Compile`] for this GPU; [`Error::Load`]: its driver does not take what the compiler made.
    pub fn load(driver: &Driver) -> Result<Kernels> {
        let mut modules = Modules(Vec::new());
        let binaries = compiler::load(&compiler::architecture(driver.capability))?;
        for (binary, (name, _)) in binaries.iter().zip(PROGRAMS) {
            let mut module = null_mut();
            // SAFETY: a whole binary as NVRTC made it.
            match unsafe { sys::cuModuleLoadData(&mut module, binary.as_ptr().cast()) } {
                sys::CUresult::CUDA_SUCCESS => modules.0.push(module),
                code => return Err(refused(name, code)),
            }
        }
        let functions = Functions::find(|name| {
            let program = PROGRAMS.iter().position(|(_, text)| exports(text).any(|found| found == name));
            let program = program.unwrap_or_else(|| panic!("no program exports the kernel `{name}`"));
            let (mut function, c_name) = (null_mut(), CString::new(name).unwrap_or_default());
            // SAFETY: a loaded module; the name ends in a null byte.
            let code =
                unsafe { sys::cuModuleGetFunction(&mut function, modules.0[program], c_name.as_ptr()) };
            match code {
                sys::CUresult::CUDA_SUCCESS => Ok(function),
                code => Err(refused(PROGRAMS[program].0, code)),
            }
        })?;
        Ok(Kernels { modules: std::mem::take(&mut modules.0), functions })
    }
}

fn refused(program: &str, code: sys::CUresult) -> Error {
    Error::Load { program: program.to_owned(), status: super::driver::describe(code) }
}

/// A launch of a kernel.
pub fn launch(
    function: Function,
    grid: [usize; 3],
    block: [u32; 3],
    shared_bytes: u32,
    arguments: Arguments,
) -> Launch {
    if shared_bytes > FREE_SHARED_BYTES {
        let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: a function of a loaded module.
        let allowed = unsafe { sys::cuFuncSetAttribute(function, attribute, shared_bytes as i32) };
        expect("cuFuncSetAttribute", allowed);
    }
    let grid = grid.map(|size| u32::try_from(size).expect("invariant: a grid's sizes fit 32 bits"));
    Launch { function, grid, block, shared_bytes, arguments: arguments.finish() }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        unload(&self.modules);
    }
}

/// A kernel's argument, field by field.
#[derive(Debug, Default)]
pub struct Arguments {
    bytes: Vec<u8>,
}

impl Arguments {
    fn field<const N: usize>(mut self, bytes: [u8; N]) -> Arguments {
        self.bytes.resize(self.bytes.len().next_multiple_of(N), 0);
        self.bytes.extend(bytes);
        self
    }

    /// An `int`.
    pub fn int(self, value: usize) -> Arguments {
        self.field(i32::try_from(value).expect("invariant: sizes in kernels fit 31 bits").to_ne_bytes())
    }

    /// A `float`.
    pub fn float(self, value: f32) -> Arguments {
        self.field(value.to_ne_bytes())
    }

    /// A pointer, or a 64-bit integer.
    pub fn long(self, value: u64) -> Arguments {
        self.field(value.to_ne_bytes())
    }

    /// A `Matrix` of matrix.cuh.
    pub fn matrix(self, matrix: Matrix) -> Arguments {
        let tensor = matrix.tensor;
        self.long(matrix.address)
            .long(tensor.row_stride as u64)
            .int(tensor.rows)
            .int(tensor.columns)
            .int(match tensor.dtype {
                DType::Bf16 => 1,
                DType::Q8_0 => 2,
                DType::Q4_0 => 3,
                DType::Nf4 => 4,
                _ => 0,
            })
            .int(0)
    }

    /// All the fields of another struct.
    pub fn all(mut self, other: Arguments) -> Arguments {
        self.bytes.extend(other.finish());
        self
    }

    fn finish(mut self) -> Vec<u8> {
        // A struct is as long as its largest field's alignment makes it; all of ours hold a pointer or a
        // long.
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.bytes
    }
}

/// A tensor at its place in the GPU's memory.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// Of element (0, 0).
    pub address: u64,
    /// Its type and shape.
    pub tensor: Tensor,
}

impl Matrix {
    /// No matrix, which kernels see by its null address.
    pub const NONE: Matrix = Matrix {
        address: 0,
        tensor: Tensor { offset: 0, dtype: DType::F32, rows: 0, columns: 0, row_stride: 0 },
    };

    /// Whether rows may be read eight elements at a time.
    pub fn is_wide(&self) -> bool {
        let t = &self.tensor;
        let rows = t.rows <= 1 || t.row_stride.is_multiple_of(8);
        t.dtype.is_blocks() || (t.columns.is_multiple_of(8) && rows && self.address.is_multiple_of(16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What no field names could never be launched.
    #[test]
    fn every_exported_kernel_is_a_field() {
        let mut found = BTreeSet::new();
        Functions::find(|name| {
            assert!(found.insert(name), "{name} twice");
            Ok(null_mut())
        })
        .unwrap();
        let exported: BTreeSet<&str> = PROGRAMS.iter().flat_map(|(_, text)| exports(text)).collect();
        assert_eq!(found, exported);
    }
}
