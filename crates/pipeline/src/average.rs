//! Averages the weights of several checkpoints of a run (Izmailov et al. 2018, "Averaging Weights Leads to
//! Wider Optima and Better Generalization") into a model folder, and compares its loss with that of the
//! newest checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use compute::{AnyDevice, Target};
use formats::hf::GenerationConfig;
use model::{Evaluation, Evaluator, Precision, StateKind, Weights};
use runs::report::{NoReport, Phase};
use runs::run::RunDir;
use serde::Serialize;
use serde_json::json;
use store::fs::{Fs, RealFs};
use store::manifest::Manifest;
use store::stage::StagedFolder;
use tokens::{Split, TokenDataset};
use train::checkpoint::{Part, SavedTensor, TensorStore};
use train::{Checkpoints, StopFlag, Which};

use crate::meta::RunMeta;
use crate::project::Project;
use crate::stages::{Beside, write_model};
use crate::{Error, Result, record};

/// The stage's name in the folder's manifest.
const STAGE: &str = "average";

/// The result of averaging.
#[derive(Clone, Debug, Serialize)]
pub struct Averaged {
    /// The steps of the checkpoints, ascending.
    pub steps: Vec<u64>,
    /// Validation loss of the average, in nats per token; `None` without validation data.
    pub validation_loss: Option<f64>,
    /// Validation loss of the newest of the checkpoints, measured the same way.
    pub newest_validation_loss: Option<f64>,
}

/// Averages the checkpoints of `steps`, or the newest `last` of them if `steps` is empty, into the new folder
/// `to`.
///
/// # Errors
/// Fewer than two checkpoints; a missing or damaged one; a folder that already exists.
pub fn average(
    project: &Project,
    run: &RunDir,
    (steps, last): (&[u64], usize),
    to: &Path,
    target: Target,
) -> Result<Averaged> {
    let refuse = |message: String| Error::Argument { message };
    if RealFs.exists(to) {
        return Err(refuse(format!("`{}` already exists: choose another folder with --out", to.display())));
    }
    let meta = RunMeta::read(&RealFs, run)?;
    let folder = run.checkpoints();
    let checkpoints = Checkpoints::new(&RealFs, &folder);
    let there = checkpoints.steps()?;
    let mut steps: Vec<u64> = match steps {
        [] => there[there.len().saturating_sub(last)..].to_vec(),
        named => named.to_vec(),
    };
    steps.sort_unstable();
    steps.dedup();
    let (Some(config), [_, _, ..]) = (meta.model.clone(), steps.as_slice()) else {
        return Err(refuse(format!(
            "averaging needs at least two checkpoints, and run {} has {there:?}: keep more with \
             train.keep_last, or select them with --checkpoints",
            run.id()
        )));
    };
    let options = &meta.recipe.train;
    let evaluation = Evaluation::new(1, options.sequence_length, Precision::F32);
    let mut model = Evaluator::new(target.open()?, config, evaluation)?;
    let mut newest_validation_loss = None;
    let mut sums = Sums::new(model.weights());
    for &step in &steps {
        // The values go to both, so that the newest can be measured without reading it again.
        let mut into = Both { sums: &mut sums, weights: model.weights_mut() };
        checkpoints.load_weights(Which::Step(step), &mut into, &mut NoReport)?;
        if Some(&step) == steps.last() {
            newest_validation_loss = validation_loss(project, &meta, &mut model)?;
        }
    }
    for (name, values) in sums.means(steps.len()) {
        model.weights_mut().upload(&name, &values)?;
    }
    let validation_loss = validation_loss(project, &meta, &mut model)?;

    let disk = Error::disk(Phase::Export);
    let tokenizer = record::tokenizer(run, &meta)?;
    let staged = StagedFolder::begin(&RealFs, to, STAGE).map_err(&disk)?;
    write_model(&staged, model.weights_mut(), &Beside::of(&tokenizer), GenerationConfig::default())?;
    let hashes = steps
        .iter()
        .map(|&step| Ok((format!("step-{step}"), checkpoints.verify_part(step, Part::Weights)?.hash())));
    let inputs = hashes.collect::<Result<BTreeMap<String, String>>>()?;
    staged.commit(Manifest::new(STAGE, json!({ "run": run.id(), "steps": steps }), inputs)).map_err(&disk)?;
    Ok(Averaged { steps, validation_loss, newest_validation_loss })
}

fn validation_loss(
    project: &Project,
    meta: &RunMeta,
    model: &mut Evaluator<AnyDevice>,
) -> Result<Option<f64>> {
    let tokens = project.tokens();
    if !tokens.exists() {
        return Ok(None);
    }
    let dataset = TokenDataset::open(&RealFs, &tokens, Split::Validation, &meta.inputs.tokenizer)?;
    let batches = dataset.batches(1, meta.recipe.train.sequence_length);
    let stop = StopFlag::of_process()?;
    let evaluation = train::evaluate(|batch| train::weighted(model.evaluate(batch), batch), batches, &stop)?;
    if stop.is_raised() {
        return Err(crate::stop::stopped().into());
    }
    Ok(evaluation.map(|evaluation| evaluation.loss))
}

/// Sums of weights by name, in f64: so the order of checkpoints does not affect the last bit of f32.
struct Sums {
    tensors: Vec<SavedTensor>,
    sums: BTreeMap<String, Vec<f64>>,
}

impl Sums {
    fn new(weights: &Weights<AnyDevice>) -> Sums {
        let tensors = weights.parameters().iter().map(|parameter| SavedTensor {
            name: parameter.name.clone(),
            kind: StateKind::Weight,
            shape: parameter.shape.clone(),
        });
        let sums = weights.parameters().iter().map(|p| (p.name.clone(), vec![0.0; p.len()])).collect();
        Sums { tensors: tensors.collect(), sums }
    }

    fn means(self, count: usize) -> impl Iterator<Item = (String, Vec<f32>)> {
        let mean = move |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / count as f64) as f32).collect();
        self.sums.into_iter().map(move |(name, sums)| (name, mean(sums)))
    }
}

/// Values that are read are added to the sums and copied into the model.
struct Both<'a> {
    sums: &'a mut Sums,
    weights: &'a mut Weights<AnyDevice>,
}

impl TensorStore for Both<'_> {
    fn saved_tensors(&self) -> Vec<SavedTensor> {
        self.sums.tensors.clone()
    }

    fn read_tensor(&mut self, tensor: &SavedTensor) -> train::Result<Vec<f32>> {
        self.weights.read_tensor(tensor)
    }

    fn write_tensor(&mut self, tensor: &SavedTensor, values: &[f32]) -> train::Result<()> {
        if let Some(sums) = self.sums.sums.get_mut(&tensor.name) {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        self.weights.write_tensor(tensor, values)
    }
}
