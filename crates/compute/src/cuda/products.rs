//! Matrix products by cuBLASLt: which of its algorithms a product takes is measured once, and kept on disk.
//!
//! Matrices here lie row by row, cuBLASLt's column by column, which is the transpose: it is asked for outᵀ =
//! op(b)ᵀ · op(a)ᵀ. Algorithms that add partial sums atomically are left out, so that the same one always
//! gives the same bits.

use super::compiler::{read_cache, write_cache};
use super::driver::{Driver, Memory};
use crate::tensor::DType;
use crate::{Error, Result};
use cudarc::cublaslt::sys;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::hash::{Hash, Hasher};
use std::mem::size_of;
use std::ptr::null_mut;
use std::rc::Rc;
use std::time::Instant;

/// What a result is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Start {
    /// Nothing.
    Zero,
    /// A matrix of the result's type and shape, which may be the result itself.
    Matrix,
}

/// One operand, or the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Side {
    pub bf16: bool,
    pub transposed: bool,
    /// Elements from one row's start to the next.
    pub stride: i64,
    /// The largest power of two, up to 16, that divides its address.
    pub alignment: u32,
}

impl Side {
    pub fn new(dtype: DType, transposed: bool, stride: usize, address: u64) -> Side {
        let alignment = 1 << address.trailing_zeros().min(4);
        Side { bf16: dtype == DType::Bf16, transposed, stride: stride as i64, alignment }
    }

    fn dtype(&self) -> sys::cudaDataType {
        if self.bf16 { sys::cudaDataType::CUDA_R_16BF } else { sys::cudaDataType::CUDA_R_32F }
    }

    /// `cublasOperation_t`: CUBLAS_OP_T or CUBLAS_OP_N.
    fn operation(&self) -> i32 {
        i32::from(self.transposed)
    }
}

/// All that decides which algorithm is best: (m, k) · (k, n).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub a: Side,
    pub b: Side,
    pub out: Side,
    pub start: Start,
    /// Of the matrix that is added; the result's own where there is none.
    pub start_stride: i64,
}

/// A product of given matrices.
#[derive(Clone, Debug)]
pub struct Product {
    plan: Rc<Plan>,
    a: u64,
    b: u64,
    /// What is added; the result where nothing is.
    start: u64,
    out: u64,
    workspace: u64,
}

impl PartialEq for Product {
    fn eq(&self, other: &Product) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Product {}

impl Hash for Product {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl Product {
    fn identity(&self) -> (Shape, [u64; 5]) {
        (self.plan.shape, [self.a, self.b, self.start, self.out, self.workspace])
    }

    /// Gives it to the stream.
    ///
    /// # Panics
    /// When the GPU fails.
    pub fn enqueue(&self, driver: &Driver) {
        let status = self.plan.run(driver, [self.a, self.b, self.start, self.out], self.workspace);
        assert!(status == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS, "cuBLASLt failed: {status:?}");
    }
}

/// A product's description, and its algorithm.
#[derive(Debug)]
struct Plan {
    handle: sys::cublasLtHandle_t,
    shape: Shape,
    description: sys::cublasLtMatmulDesc_t,
    /// Of b, a, what is added, and the result, as cuBLASLt sees them.
    layouts: [sys::cublasLtMatrixLayout_t; 4],
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Plan {
    fn run(&self, driver: &Driver, [a, b, start, out]: [u64; 4], workspace: u64) -> sys::cublasStatus_t {
        let alpha = 1.0f32;
        let beta = if self.shape.start == Start::Zero { 0.0f32 } else { 1.0 };
        let pointer = |address: u64| address as *const c_void;
        let [b_layout, a_layout, start_layout, out_layout] = self.layouts;
        // SAFETY: the addresses are matrices of the shape in the GPU's memory; scalars are read during the
        // call.
        unsafe {
            sys::cublasLtMatmul(
                self.handle,
                self.description,
                (&raw const alpha).cast(),
                pointer(b),
                b_layout,
                pointer(a),
                a_layout,
                (&raw const beta).cast(),
                pointer(start),
                start_layout,
                out as *mut c_void,
                out_layout,
                &self.algorithm,
                workspace as *mut c_void,
                WORKSPACE_BYTES,
                driver.stream.cast(),
            )
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: made by `Products::describe`, destroyed once.
        unsafe {
            for layout in self.layouts {
                sys::cublasLtMatrixLayoutDestroy(layout);
            }
            sys::cublasLtMatmulDescDestroy(self.description);
        }
    }
}

/// What algorithms may use beside the operands. Hopper's want 32 MiB.
pub const WORKSPACE_BYTES: usize = 32 << 20;
/// Algorithms that are tried.
const CANDIDATES: usize = 8;
/// Rounds in which all of them are timed in turn.
const ROUNDS: usize = 3;
/// Timed runs of each in a round.
const RUNS: usize = 4;
/// A smaller product takes about as long as its launch, whatever the algorithm.
const WORTH_TIMING_FLOPS: f64 = 2e8;
/// How long the first runs before that, for the GPU's clock to rise.
const WARM_UP_S: f64 = 0.05;

/// The library, and every product that was asked of it.
#[derive(Debug)]
pub struct Products {
    handle: sys::cublasLtHandle_t,
    plans: BTreeMap<Shape, Rc<Plan>>,
    workspace: Memory,
    /// What was chosen before, on this GPU with this library, by the words of its shape.
    chosen: BTreeMap<String, [u64; 8]>,
    cache_file: String,
}

fn set_up(call: &'static str, status: sys::cublasStatus_t) -> Result<()> {
    match status {
        sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS => Ok(()),
        status => Err(Error::Call { library: "cuBLASLt", call, status: format!("{status:?}") }),
    }
}

impl Products {
    /// Loads the library. It must have been found.
    ///
    /// # Errors
    /// In words, when it cannot be used.
    pub fn new(driver: &Driver) -> Result<Products> {
        let mut handle = null_mut();
        // SAFETY: a pointer to write to.
        set_up("cublasLtCreate", unsafe { sys::cublasLtCreate(&mut handle) })?;
        // SAFETY: no arguments.
        let version = unsafe { sys::cublasLtGetVersion() };
        let name: String =
            driver.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let cache_file = format!("products-{name}-{version}.txt");
        let chosen = read_cache(&cache_file).map(|bytes| parse(&bytes)).unwrap_or_default();
        let workspace = Memory::new(driver, WORKSPACE_BYTES)?;
        Ok(Products { handle, plans: BTreeMap::new(), workspace, chosen, cache_file })
    }

    /// A product of matrices at these addresses. The first of its shape is measured, for which all that was
    /// enqueued must be done.
    ///
    /// # Panics
    /// When the library knows no way to do it.
    pub fn product(&mut self, driver: &Driver, shape: Shape, [a, b, start, out]: [u64; 4]) -> Product {
        let plan = match self.plans.get(&shape) {
            Some(plan) => Rc::clone(plan),
            None => {
                let plan = Rc::new(
                    self.choose(driver, shape, [a, b, start, out])
                        .unwrap_or_else(|error| panic!("no way to multiply {shape:?}: {error}")),
                );
                self.plans.insert(shape, Rc::clone(&plan));
                plan
            }
        };
        Product { plan, a, b, start, out, workspace: self.workspace.address }
    }

    /// Whether the shape's algorithm is settled already.
    pub fn knows(&self, shape: &Shape) -> bool {
        self.plans.contains_key(shape)
    }

    fn choose(&mut self, driver: &Driver, shape: Shape, addresses: [u64; 4]) -> Result<Plan> {
        let mut plan = self.describe(shape)?;
        let words = format!("{shape:?}");
        // Another process or model may have settled it meanwhile.
        self.chosen = read_cache(&self.cache_file).map(|bytes| parse(&bytes)).unwrap_or_default();
        if let Some(&data) = self.chosen.get(&words) {
            plan.algorithm = sys::cublasLtMatmulAlgo_t { data };
            if self.still_works(&plan) {
                return Ok(plan);
            }
        }
        let candidates = self.candidates(&plan)?;
        let Some(fastest) = self.fastest(driver, &mut plan, &candidates, addresses)? else {
            plan.algorithm = candidates[0];
            return Ok(plan);
        };
        plan.algorithm = fastest;
        self.chosen.extend(read_cache(&self.cache_file).map(|bytes| parse(&bytes)).unwrap_or_default());
        self.chosen.insert(words, fastest.data);
        let lines: Vec<String> =
            self.chosen.iter().map(|(words, data)| format!("{words}\t{data:x?}\n")).collect();
        write_cache(&self.cache_file, lines.concat().as_bytes());
        Ok(plan)
    }

    fn describe(&self, shape: Shape) -> Result<Plan> {
        let Shape { m, k, n, a, b, out, start_stride, .. } = shape;
        let (mut description, mut layouts) = (null_mut(), [null_mut(); 4]);
        // What lies row by row as (rows, columns) is column by column (columns, rows).
        let stored = |rows: usize, columns: usize, side: &Side| match side.transposed {
            true => (rows, columns),
            false => (columns, rows),
        };
        let sizes = [
            (stored(k, n, &b), b.stride, b.dtype()),
            (stored(m, k, &a), a.stride, a.dtype()),
            ((n, m), start_stride, out.dtype()),
            ((n, m), out.stride, out.dtype()),
        ];
        // SAFETY: pointers to write to; attributes are read during their calls and have the sizes that are
        // told.
        unsafe {
            let made = sys::cublasLtMatmulDescCreate(
                &mut description,
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                sys::cudaDataType::CUDA_R_32F,
            );
            set_up("cublasLtMatmulDescCreate", made)?;
            for (layout, ((rows, columns), stride, dtype)) in layouts.iter_mut().zip(sizes) {
                let made =
                    sys::cublasLtMatrixLayoutCreate(layout, dtype, rows as u64, columns as u64, stride);
                set_up("cublasLtMatrixLayoutCreate", made)?;
            }
            use sys::cublasLtMatmulDescAttributes_t as Attribute;
            for (attribute, side) in
                [(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, b), (Attribute::CUBLASLT_MATMUL_DESC_TRANSB, a)]
            {
                let operation = side.operation();
                let size = size_of_val(&operation);
                let set = sys::cublasLtMatmulDescSetAttribute(
                    description,
                    attribute,
                    (&raw const operation).cast(),
                    size,
                );
                set_up("cublasLtMatmulDescSetAttribute", set)?;
            }
        }
        let algorithm = sys::cublasLtMatmulAlgo_t { data: [0; 8] };
        Ok(Plan { handle: self.handle, shape, description, layouts, algorithm })
    }

    fn still_works(&self, plan: &Plan) -> bool {
        let [b, a, start, out] = plan.layouts;
        let mut result = EMPTY;
        // SAFETY: descriptions are alive; the algorithm is plain data that the library checks.
        let status = unsafe {
            let algorithm = &plan.algorithm;
            sys::cublasLtMatmulAlgoCheck(
                self.handle,
                plan.description,
                b,
                a,
                start,
                out,
                algorithm,
                &mut result,
            )
        };
        status == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS && result.workspaceSize <= WORKSPACE_BYTES
    }

    fn candidates(&self, plan: &Plan) -> Result<Vec<sys::cublasLtMatmulAlgo_t>> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        use sys::cublasLtReductionScheme_t as Scheme;
        let [b, a, start, out] = plan.layouts;
        let mut preference = null_mut();
        let mut results = [EMPTY; CANDIDATES];
        let mut count = 0;
        let shape = &plan.shape;
        // Split sums are put together in f32, never in the result's bfloat16.
        let schemes = Scheme::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        // SAFETY: as in `describe`.
        unsafe {
            set_up("cublasLtMatmulPreferenceCreate", sys::cublasLtMatmulPreferenceCreate(&mut preference))?;
            let set = |attribute, value: *const c_void, size| {
                let status = sys::cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, size);
                set_up("cublasLtMatmulPreferenceSetAttribute", status)
            };
            let bytes = WORKSPACE_BYTES;
            set(
                Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&raw const bytes).cast(),
                size_of::<usize>(),
            )?;
            for (attribute, value) in [
                (Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes),
                (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, shape.b.alignment),
                (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, shape.a.alignment),
                (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape.out.alignment),
                (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape.out.alignment),
            ] {
                set(attribute, (&raw const value).cast(), size_of::<u32>())?;
            }
            let found = sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                plan.description,
                b,
                a,
                start,
                out,
                preference,
                CANDIDATES as i32,
                results.as_mut_ptr(),
                &mut count,
            );
            sys::cublasLtMatmulPreferenceDestroy(preference);
            set_up("cublasLtMatmulAlgoGetHeuristic", found)?;
        }
        let works = |result: &&sys::cublasLtMatmulHeuristicResult_t| {
            result.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS
        };
        Ok(results[..count as usize].iter().filter(works).map(|result| result.algo).collect())
    }

    /// The fastest of those offered; `None` where there is no memory to try them in.
    fn fastest(
        &self,
        driver: &Driver,
        plan: &mut Plan,
        candidates: &[sys::cublasLtMatmulAlgo_t],
        [a, b, start, out]: [u64; 4],
    ) -> Result<Option<sys::cublasLtMatmulAlgo_t>> {
        let &Shape { m, k, n, .. } = &plan.shape;
        let &offered = candidates.first().ok_or(Error::NoAlgorithm { m, k, n })?;
        if 2.0 * plan.shape.m as f64 * plan.shape.k as f64 * (plan.shape.n as f64) < WORTH_TIMING_FLOPS {
            return Ok(Some(offered));
        }
        // Adding to the result again and again would change it: that is tried elsewhere.
        let room = match start == out && plan.shape.start == Start::Matrix {
            true => {
                let element = if plan.shape.out.bf16 { 2 } else { 4 };
                let Ok(room) = Memory::new(driver, plan.shape.m * plan.shape.out.stride as usize * element)
                else {
                    return Ok(None);
                };
                room
            }
            false => Memory::NONE,
        };
        let addresses = match room.address {
            0 => [a, b, start, out],
            elsewhere => [a, b, elsewhere, elsewhere],
        };
        let mut time = |algorithm, runs| {
            plan.algorithm = algorithm;
            let began = Instant::now();
            let works = (0..runs).all(|_| {
                plan.run(driver, addresses, self.workspace.address)
                    == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS
            });
            driver.synchronize();
            if works { began.elapsed().as_secs_f64() } else { f64::INFINITY }
        };
        let working: Vec<_> =
            candidates.iter().copied().filter(|&algorithm| time(algorithm, 1).is_finite()).collect();
        let &first = working.first().ok_or(Error::NoAlgorithm { m, k, n })?;
        let began = Instant::now();
        while working.len() > 1 && began.elapsed().as_secs_f64() < WARM_UP_S {
            time(first, RUNS);
        }
        let mut best = (f64::INFINITY, first);
        for _ in 0..if working.len() > 1 { ROUNDS } else { 0 } {
            for &algorithm in &working {
                let took = time(algorithm, RUNS);
                if took < best.0 {
                    best = (took, algorithm);
                }
            }
        }
        Ok(Some(best.1))
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once; plans do without it from here on.
        unsafe { sys::cublasLtDestroy(self.handle) };
    }
}

const EMPTY: sys::cublasLtMatmulHeuristicResult_t = sys::cublasLtMatmulHeuristicResult_t {
    algo: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
    workspaceSize: 0,
    state: sys::cublasStatus_t::CUBLAS_STATUS_NOT_INITIALIZED,
    wavesCount: 0.0,
    reserved: [0; 4],
};

/// Lines of a shape's words and eight hexadecimal numbers; what cannot be read was never chosen.
fn parse(bytes: &[u8]) -> BTreeMap<String, [u64; 8]> {
    let text = String::from_utf8_lossy(bytes);
    let line = |line: &str| {
        let (words, numbers) = line.split_once('\t')?;
        let numbers = numbers.trim_start_matches('[').trim_end_matches(']');
        let numbers: Option<Vec<u64>> =
            numbers.split(", ").map(|number| u64::from_str_radix(number, 16).ok()).collect();
        Some((words.to_owned(), numbers?.try_into().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_survive_the_cache() {
        let data = [1, 0xdead_beef, 0, u64::MAX, 4, 5, 6, 7];
        let line = format!("a shape\t{data:x?}\nnonsense\nanother\t[1, 2]\n");
        assert_eq!(parse(line.as_bytes()), BTreeMap::from([("a shape".to_owned(), data)]));
    }
}
