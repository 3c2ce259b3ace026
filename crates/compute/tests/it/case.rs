//! One case of the suite: its tensors, and how closely a device must agree with the reference.
//!
//! The tolerance is derived, not chosen for each kernel. A stable algorithm gives the exact results of inputs
//! that are off by a few roundings, so the reference runs again with all inputs moved a little at random, and
//! how far its results move is scaled to the size of a rounding; a sum of n products adds n roundings, whose
//! errors grow as √n.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use compute::device::Device;
use compute::reference::Reference;
use compute::rng::Rng;
use compute::tensor::{DType, Layout, Tensor};

/// One kernel call with its inputs and the tensors to compare afterwards.
pub struct Case {
    pub name: String,
    /// What `input`, `in_out` and `output` make.
    element: DType,
    /// By how much one rounding changes what lies between input and output, at most and relatively.
    rounding: f64,
    /// Products in the longest sum that an output is made of.
    pub terms: usize,
    pub layout: Layout,
    pub rng: Rng,
    pub uploads: Vec<(Tensor, Vec<f32>)>,
    pub ids: Vec<(Tensor, Vec<u32>)>,
    pub outputs: Vec<Tensor>,
    scalars: Vec<Tensor>,
}

impl Case {
    pub fn new(name: String) -> Case {
        Case::of(DType::F32, name)
    }

    pub fn of(element: DType, name: String) -> Case {
        let rng = Rng::from_parts(1, &name, &[]);
        let (uploads, ids, outputs, scalars) = Default::default();
        let name = format!("{name} {element:?}");
        let (rounding, terms, layout) = (ROUNDING_F32, 1, Layout::new());
        Case { name, element, rounding, terms, layout, rng, uploads, ids, outputs, scalars }
    }

    /// A tensor of standard normal values.
    pub fn input(&mut self, rows: usize, columns: usize) -> Tensor {
        self.input_of(self.element, rows, columns)
    }

    pub fn input_of(&mut self, element: DType, rows: usize, columns: usize) -> Tensor {
        let t = self.layout.reserve(element, rows, columns);
        let values = (0..t.len()).map(|_| self.rng.normal() as f32).collect();
        self.uploads.push((t, values));
        t
    }

    /// As `input`, and compared afterwards.
    pub fn in_out(&mut self, rows: usize, columns: usize) -> Tensor {
        self.in_out_of(self.element, rows, columns)
    }

    pub fn in_out_of(&mut self, element: DType, rows: usize, columns: usize) -> Tensor {
        let t = self.input_of(element, rows, columns);
        self.outputs.push(t);
        t
    }

    pub fn output(&mut self, rows: usize, columns: usize) -> Tensor {
        self.output_of(self.element, rows, columns)
    }

    pub fn output_of(&mut self, element: DType, rows: usize, columns: usize) -> Tensor {
        let t = self.layout.reserve(element, rows, columns);
        self.outputs.push(t);
        t
    }

    /// Says that a device may round values between input and output to what products of `element` take.
    pub fn rounds_between(&mut self, element: DType) {
        self.rounding = match element {
            DType::F32 => ROUNDING_F32,
            DType::Bf16 => ROUNDING_BF16,
            // Activations are rounded to eight bits of the largest of 32.
            _ => 1.0 / 127.0,
        };
    }

    pub fn scalar(&mut self) -> Tensor {
        let t = self.layout.reserve(DType::F64, 1, 1);
        self.scalars.push(t);
        t
    }

    pub fn ids(&mut self, count: usize, below: u64) -> Tensor {
        let t = self.layout.reserve(DType::U32, 1, count);
        let values = (0..count).map(|_| self.rng.below(below) as u32).collect();
        self.ids.push((t, values));
        t
    }

    /// Document starts of `batch` rows: a few documents each, never decreasing.
    pub fn document_starts(&mut self, batch: usize, length: usize) -> Tensor {
        let t = self.layout.reserve(DType::U32, 1, batch * length);
        let mut values = Vec::new();
        for _ in 0..batch {
            let mut start = 0;
            for at in 0..length {
                if self.rng.below(9) == 0 {
                    start = at as u32;
                }
                values.push(start);
            }
        }
        self.ids.push((t, values));
        t
    }

    /// Runs the call on a device and returns what it left in the compared tensors.
    pub fn run(&self, device: &mut dyn Device, call: &dyn Fn(&mut dyn Device)) -> Vec<Vec<f32>> {
        self.run_from(&self.uploads, device, call)
    }

    fn run_from(
        &self,
        uploads: &[(Tensor, Vec<f32>)],
        device: &mut dyn Device,
        call: &dyn Fn(&mut dyn Device),
    ) -> Vec<Vec<f32>> {
        device.allocate(self.layout.bytes()).unwrap();
        for (t, values) in uploads {
            device.upload(*t, values);
        }
        for (t, values) in &self.ids {
            device.upload_ids(*t, values);
        }
        call(device);
        let mut results: Vec<Vec<f32>> = self.outputs.iter().map(|t| device.download(*t)).collect();
        results.extend(self.scalars.iter().map(|t| vec![device.download_scalar(*t) as f32]));
        results
    }

    /// What the reference makes of the case. Blocks stay as they are when inputs are changed, since a change
    /// of theirs is a whole step.
    fn expected(&self, call: &dyn Fn(&mut dyn Device)) -> Expected {
        let values = self.run(&mut Reference::new(), call);
        let mut rng = Rng::from_parts(2, &self.name, &[]);
        let mut largest = vec![0.0f64; values.len()];
        for _ in 0..TRIALS {
            let mut uploads = self.uploads.clone();
            let moved = uploads.iter_mut().filter(|(t, _)| !t.dtype.is_blocks());
            for value in moved.flat_map(|(_, values)| values) {
                *value *= if rng.below(2) == 0 { 1.0 + CHANGE } else { 1.0 - CHANGE };
            }
            let results = self.run_from(&uploads, &mut Reference::new(), call);
            for ((largest, results), expected) in largest.iter_mut().zip(&results).zip(&values) {
                let distances = results.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs()));
                *largest = distances.fold(*largest, f64::max);
            }
        }
        let sensitivity = largest.into_iter().map(|distance| distance / f64::from(CHANGE)).collect();
        Expected { values, sensitivity }
    }

    /// Panics where a device differs from the reference by more than the tolerance.
    pub fn check(&self, device: &mut dyn Device, call: &dyn Fn(&mut dyn Device)) {
        let known = Arc::clone(EXPECTED.lock().unwrap().entry(self.name.clone()).or_default());
        let known = known.get_or_init(|| self.expected(call));
        let found = self.run(device, call);
        assert!(!known.values.is_empty());
        for (tensor, (expected, found)) in known.values.iter().zip(&found).enumerate() {
            for (i, (&e, &f)) in expected.iter().zip(found).enumerate() {
                let limit = self.tolerance(tensor, known.sensitivity[tensor], e);
                let error = f64::from((e - f).abs());
                assert!(
                    error <= limit,
                    "{}: tensor {tensor} element {i}: {f} instead of {e}, {error:e} off and not at most {limit:e}",
                    self.name
                );
            }
        }
    }

    /// How far an element may be off that is `expected`, in an output of this sensitivity.
    fn tolerance(&self, output: usize, sensitivity: f64, expected: f32) -> f64 {
        let roundings = BETWEEN * self.rounding + SUMMED * ROUNDING_F32 * (self.terms as f64).sqrt();
        // Where the exact value is close to a tie, two results go to either side of it.
        let is_bf16 = self.outputs.get(output).is_some_and(|t| t.dtype == DType::Bf16);
        let stored = if is_bf16 { 4.0 * ROUNDING_BF16 } else { 2.0 * ROUNDING_F32 };
        roundings * sensitivity + stored * f64::from(expected.abs())
    }
}

/// What the reference leaves in the compared tensors, and how far each moves at most, per relative change of
/// the inputs.
struct Expected {
    values: Vec<Vec<f32>>,
    sensitivity: Vec<f64>,
}

/// By the names of cases: the reference is slow, and every device is compared with it.
static EXPECTED: Mutex<BTreeMap<String, Arc<OnceLock<Expected>>>> = Mutex::new(BTreeMap::new());

/// Half a unit in the last place of 1.
const ROUNDING_F32: f64 = 1.0 / (1 << 24) as f64;
const ROUNDING_BF16: f64 = 1.0 / (1 << 9) as f64;
/// A relative change of inputs that bfloat16 does not round away.
const CHANGE: f32 = 1.0 / 128.0;
const TRIALS: usize = 2;
/// Several values between input and output are rounded, and random changes are not the worst ones.
const BETWEEN: f64 = 4.0;
/// Errors of a sum's roundings grow with the root of their number. One multiply-add a product stays below 0.6
/// of this; AMX, which adds six partial products for each in f32, below 0.9.
const SUMMED: f64 = 1.0;
