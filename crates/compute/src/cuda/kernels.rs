//! The kernels by name, and what they take: structs put together field by field as C lays them out.

use super::compiler::{self, PROGRAMS, exports};
use super::driver::{Driver, expect};
use super::queue::Launch;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use cudarc::driver::sys;
use std::collections::HashMap;
use std::ffi::CString;
use std::ptr::null_mut;

/// Every kernel, loaded.
#[derive(Debug)]
pub struct Kernels {
    modules: Vec<sys::CUmodule>,
    functions: HashMap<&'static str, sys::CUfunction>,
}

/// Shared memory that a kernel may take without asking.
const FREE_SHARED_BYTES: u32 = 48 << 10;

impl Kernels {
    /// Compiles (or takes from the cache) and loads all of them.
    ///
    /// # Errors
    /// [`Error::Compile`] for this GPU; [`Error::Load`]: its driver does not take what the compiler made.
    pub fn load(driver: &Driver) -> Result<Kernels> {
        let mut kernels = Kernels { modules: Vec::new(), functions: HashMap::new() };
        let binaries = compiler::load(&compiler::architecture(driver.capability))?;
        for (binary, (name, text)) in binaries.iter().zip(PROGRAMS) {
            let refuse =
                |code| Error::Load { program: name.to_owned(), status: super::driver::describe(code) };
            let mut module = null_mut();
            // SAFETY: a whole binary as NVRTC made it; names end in a null byte.
            unsafe {
                match sys::cuModuleLoadData(&mut module, binary.as_ptr().cast()) {
                    sys::CUresult::CUDA_SUCCESS => kernels.modules.push(module),
                    code => return Err(refuse(code)),
                }
                for name in exports(text) {
                    let (mut function, c_name) = (null_mut(), CString::new(name).unwrap_or_default());
                    match sys::cuModuleGetFunction(&mut function, module, c_name.as_ptr()) {
                        sys::CUresult::CUDA_SUCCESS => kernels.functions.insert(name, function),
                        code => return Err(refuse(code)),
                    };
                }
            }
        }
        Ok(kernels)
    }

    /// A launch of a kernel.
    ///
    /// # Panics
    /// When no program exports it.
    pub fn launch(
        &self,
        name: &str,
        grid: [usize; 3],
        block: [u32; 3],
        shared_bytes: u32,
        arguments: Arguments,
    ) -> Launch {
        let function = *self.functions.get(name).unwrap_or_else(|| panic!("there is no kernel `{name}`"));
        if shared_bytes > FREE_SHARED_BYTES {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: a function of a loaded module.
            let allowed = unsafe { sys::cuFuncSetAttribute(function, attribute, shared_bytes as i32) };
            expect("cuFuncSetAttribute", allowed);
        }
        let grid = grid.map(|size| u32::try_from(size).expect("invariant: a grid's sizes fit 32 bits"));
        Launch { function, grid, block, shared_bytes, arguments: arguments.finish() }
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        for module in &self.modules {
            // SAFETY: loaded by `load`; whoever launched has waited.
            unsafe { sys::cuModuleUnload(*module) };
        }
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
