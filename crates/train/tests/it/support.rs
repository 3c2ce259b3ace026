//! A tiny model, tiny data, and a run that is over in milliseconds.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use compute::Target;
use compute::cpu::Cpu;
use corpus::CorpusOptions;
use model::{ModelConfig, Optimizer, StateKind, TrainingModel};
use runs::metrics::Metric;
use runs::report::{Event, NoReport, Reporter};
use runs::run::{RunDir, RunState};
use store::fs::faulty::MemoryFs;
use store::fs::{Fs, RealFs};
use store::lock::RunLock;
use tokenizer::{Kind, Normalizer, TokenizerOptions};
use tokens::{Split, TokenDataset};
use train::checkpoint::TrainerState;
use train::{
    Checkpoints, Job, Outcome, Patience, PhaseOptions, Result, Sampler, ScheduleKind, Start, StopFlag,
    TrainOptions, Tuning, Which,
};

pub const VOCAB: usize = 24;

/// Some 3,000 parameters; 1.1 million with `TEXT2LLM_TEST_MODEL=1M`, for the reliability matrix at a size
/// that is trained.
pub fn config() -> ModelConfig {
    let is_large = std::env::var("TEXT2LLM_TEST_MODEL").is_ok_and(|size| size == "1M");
    let (width, feed_forward, layers, head_dim) = if is_large { (128, 384, 5, 32) } else { (16, 24, 2, 8) };
    ModelConfig {
        vocab_size: VOCAB,
        hidden_size: width,
        intermediate_size: feed_forward,
        num_hidden_layers: layers,
        num_attention_heads: width / head_dim,
        num_key_value_heads: width / head_dim / 2,
        head_dim,
        max_position_embeddings: 64,
        rope_theta: 10_000.0,
        rope_scaling: None,
        rms_norm_eps: 1e-5,
        tie_word_embeddings: true,
        attention_bias: false,
        qk_norm: false,
        sliding_window: None,
        full_attention_layers: Vec::new(),
        unrotated_layers: Vec::new(),
        dropout: 0.1,
        initializer_range: 0.02,
    }
}

pub fn options() -> TrainOptions {
    TrainOptions {
        steps: Some(20),
        batch_size: 6,
        micro_batch_size: 2,
        sequence_length: 8,
        learning_rate: 1e-2,
        warmup_steps: Some(3),
        validate_every: 6,
        checkpoint_every: 4,
        optimizer: Optimizer::AdamW,
        schedule: ScheduleKind::Cosine,
        ..TrainOptions::default()
    }
}

pub fn model(config: &ModelConfig, options: &TrainOptions, threads: usize) -> TrainingModel<Cpu> {
    let training = options.training(options.micro_batch_size, Target::cpu(threads), &Tuning::default());
    TrainingModel::new(Cpu::new(threads), config.clone(), training).unwrap()
}

/// Token shards on the real disk.
pub struct Data {
    pub training: TokenDataset,
    pub validation: TokenDataset,
    /// What phases learn from that have data of their own: the same letters, in another order; the last has
    /// the letter `a` only.
    mixes: [PathBuf; 3],
    tokenizer_hash: String,
    _folder: tempfile::TempDir,
}

impl Data {
    pub fn mix(&self, mix: usize) -> TokenDataset {
        TokenDataset::open(&RealFs, &self.mixes[mix], Split::Train, &self.tokenizer_hash).unwrap()
    }
}

/// A part of a run.
pub fn phase(name: &str, share: f64, sequence_length: Option<usize>) -> PhaseOptions {
    PhaseOptions {
        name: name.to_owned(),
        share: Some(share),
        sequence_length,
        steps: None,
        tokens: None,
        mix: None,
        schedule: None,
        learning_rate: None,
        final_learning_rate: None,
        warmup_steps: None,
    }
}

/// Short documents that walk round a cycle of letters with a few exceptions: there is something to learn.
/// Made once.
pub fn data() -> &'static Data {
    static DATA: OnceLock<Data> = OnceLock::new();
    DATA.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let lines: String = (0..40)
            .map(|i| {
                let text: String = (i..i + 7 + i % 5)
                    .map(|k| if (k + i) % 11 == 0 { 'x' } else { char::from(b'a' + (k % 7) as u8) })
                    .collect();
                format!("{{\"text\": \"{text}{}\"}}\n", char::from(b'A' + (i % 4) as u8))
            })
            .collect();
        std::fs::write(path.join("text.jsonl"), lines).unwrap();
        let options = CorpusOptions {
            paths: vec!["text.jsonl".to_owned()],
            validation_fraction: 0.2,
            ..CorpusOptions::default()
        };
        let (documents, tokens) = (path.join("documents"), path.join("tokens"));
        corpus::prepare(&RealFs, &options, path, &documents, &mut NoReport).unwrap();
        let texts: Vec<String> = corpus::documents(&RealFs, &documents, Split::Train)
            .unwrap()
            .map(|document| document.unwrap().text)
            .collect();
        let options =
            TokenizerOptions { kind: Kind::Char, chat_tokens: Vec::new(), ..TokenizerOptions::default() };
        let tokenizer = tokenizer::train(&texts, &options, &Normalizer::text(), &mut NoReport).unwrap();
        assert!(tokenizer.vocab_size() <= VOCAB, "{}", tokenizer.vocab_size());
        corpus::tokenize(&RealFs, &documents, &tokenizer, &tokens, &mut NoReport).unwrap();
        let open = |split| TokenDataset::open(&RealFs, &tokens, split, tokenizer.hash()).unwrap();
        let walks = |stride| {
            let walk = |i| {
                let text: String = (0..9).map(|k| char::from(b'a' + ((i + k * stride) % 7) as u8)).collect();
                format!("{{\"text\": \"{text}{}\"}}\n", char::from(b'A' + (i % 4) as u8))
            };
            (0..30).map(walk).collect::<String>()
        };
        let texts = [walks(3), walks(5), format!("{{\"text\": \"{}\"}}\n", "a".repeat(5000))];
        let mixes = [0, 1, 2].map(|mix| {
            let (lines, root) = (&texts[mix], path.join(format!("mix-{mix}")));
            std::fs::create_dir(&root).unwrap();
            std::fs::write(root.join("text.jsonl"), lines).unwrap();
            let options = CorpusOptions {
                paths: vec!["text.jsonl".to_owned()],
                validation_fraction: 0.0,
                ..CorpusOptions::default()
            };
            let (documents, tokens) = (root.join("documents"), root.join("tokens"));
            corpus::prepare(&RealFs, &options, &root, &documents, &mut NoReport).unwrap();
            corpus::tokenize(&RealFs, &documents, &tokenizer, &tokens, &mut NoReport).unwrap();
            tokens
        });
        let (training, validation) = (open(Split::Train), open(Split::Validation));
        Data { training, validation, mixes, tokenizer_hash: tokenizer.hash().to_owned(), _folder: folder }
    })
}

/// Everything a run needs, with each part open to change.
pub struct Bench {
    pub disk: MemoryFs,
    pub data: &'static Data,
    pub config: ModelConfig,
    pub options: TrainOptions,
    pub threads: usize,
    pub patience: Patience,
    /// Which phases learn from which of [`Data::mixes`].
    pub mixes: Vec<Option<usize>>,
    /// What the run's record says of the options it has trained with; `None`: all of its checkpoints.
    pub recorded: Option<Vec<String>>,
    lock_folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        let disk = MemoryFs::new();
        disk.create_dir_all(Path::new("/runs/20260101-000000-test/checkpoints")).unwrap();
        for path in ["/runs/20260101-000000-test", "/runs", "/"] {
            disk.sync_dir(Path::new(path)).unwrap();
        }
        Bench {
            disk,
            data: data(),
            config: config(),
            options: options(),
            threads: 1,
            patience: Patience {
                retry_every: std::time::Duration::from_millis(1),
                give_up_after: std::time::Duration::from_millis(40),
            },
            mixes: Vec::new(),
            recorded: None,
            lock_folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn run_dir(&self) -> RunDir {
        RunDir::open(&self.disk, Path::new("/runs/20260101-000000-test")).unwrap()
    }

    pub fn train(&self, start: Start, stop: &StopFlag, reporter: &mut dyn Reporter) -> Result<Outcome> {
        self.train_with(start, stop, None, reporter)
    }

    pub fn train_with(
        &self,
        start: Start,
        stop: &StopFlag,
        sampler: Option<&mut dyn Sampler<Cpu>>,
        reporter: &mut dyn Reporter,
    ) -> Result<Outcome> {
        let lock = RunLock::acquire(self.lock_folder.path()).unwrap();
        let run = self.run_dir_unchecked();
        let phases: Vec<Option<TokenDataset>> =
            self.mixes.iter().map(|mix| mix.map(|mix| self.data.mix(mix))).collect();
        let job = Job {
            fs: &self.disk,
            run: &run,
            lock: &lock,
            options: &self.options,
            start,
            base: None,
            preference: None,
            trained_with: &self.recorded.clone().unwrap_or_else(|| self.options_of_checkpoints()),
            training: &self.data.training,
            phases: &phases,
            validation: Some(&self.data.validation),
            stop,
            patience: self.patience,
            environment: train::environment(Target::cpu(self.threads)),
        };
        train::train(&mut model(&self.config, &self.options, self.threads), &job, sampler, reporter)
    }

    fn options_of_checkpoints(&self) -> Vec<String> {
        let checkpoints = self.checkpoints();
        let steps = checkpoints.steps().unwrap_or_default().into_iter();
        let hash = |step| Some(checkpoints.verify(step).ok()?.options["train"].as_str()?.to_owned());
        steps.filter_map(hash).collect()
    }

    fn run_dir_unchecked(&self) -> RunDir {
        // The disk may have crashed, and a crashed disk has no folders.
        let stand_in = MemoryFs::new();
        let path = Path::new("/runs/20260101-000000-test");
        stand_in.create_dir_all(path).unwrap();
        RunDir::open(&stand_in, path).unwrap()
    }

    pub fn checkpoints(&self) -> Checkpoints<'_> {
        Checkpoints::new(&self.disk, Path::new("/runs/20260101-000000-test/checkpoints"))
    }

    pub fn state(&self) -> RunState {
        self.run_dir().read_state(&self.disk).unwrap()
    }

    /// What decides everything after the newest checkpoint: its manifest's hash covers every bit of weights,
    /// moments and state.
    pub fn fingerprint(&self) -> (u64, String) {
        let step = *self.checkpoints().steps().unwrap().last().unwrap();
        (step, self.checkpoints().verify(step).unwrap().hash())
    }

    /// `metrics.jsonl` without its times.
    pub fn metrics(&self) -> Vec<String> {
        runs::metrics::read(&self.disk, &self.run_dir().metrics())
            .unwrap()
            .into_iter()
            .map(|metric| match metric {
                Metric::Step(r) => format!(
                    "step {} of {} {:?} {:?} {:?} {:?} {}",
                    r.step, r.total_steps, r.epoch, r.loss, r.learning_rate, r.gradient_norm, r.tokens_seen
                ),
                Metric::Validation(r) => format!("validation {} {:?} {}", r.step, r.loss, r.best),
                Metric::EpochFinished(r) => {
                    format!(
                        "epoch {} {} {:?} {:?} {}",
                        r.epoch, r.step, r.train_loss, r.validation_loss, r.tokens
                    )
                }
                Metric::Sample(r) => format!("sample {} {:?} {:?}", r.step, r.prompt, r.text),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Of each step.
    pub fn losses(&self) -> Vec<f64> {
        let metrics = runs::metrics::read(&self.disk, &self.run_dir().metrics()).unwrap();
        metrics
            .into_iter()
            .filter_map(|metric| if let Metric::Step(record) = metric { Some(record.loss) } else { None })
            .collect()
    }

    pub fn latest_weights_are_finite(&self) -> bool {
        self.weights_are_finite(Which::Latest)
    }

    pub fn weights_are_finite(&self, which: Which) -> bool {
        let mut model = model(&self.config, &self.options, 1);
        let state: Option<TrainerState> = self.checkpoints().load(which, &mut model, &mut NoReport).unwrap();
        let parameters = model.weights().parameters().iter();
        let names: Vec<String> = parameters.map(|parameter| parameter.name.clone()).collect();
        state.is_some()
            && names.iter().all(|name| {
                [StateKind::Weight, StateKind::Moment1, StateKind::Moment2]
                    .into_iter()
                    .all(|kind| model.download(name, kind).unwrap().iter().all(|value| value.is_finite()))
            })
    }
}

/// A reporter that does something on some events.
pub struct OnEvent<F: FnMut(&Event)>(pub F);

impl<F: FnMut(&Event)> Reporter for OnEvent<F> {
    fn event(&mut self, event: &Event) {
        (self.0)(event);
    }
}
