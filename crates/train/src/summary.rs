//! `training_metrics.json`: the history of a run in one file, for people and scripts that compare runs.

use compute::Target;
use runs::run::RunStatus;
use serde_json::{Value, json};

use crate::checkpoint::TrainerState;

/// This machine and program, for [`crate::Job::environment`].
pub fn environment(target: Target) -> Value {
    json!({
        "program_version": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "cpu": store::system::cpu_model(),
        "device": target.word(),
        "threads": target.cpu_threads(),
    })
}

/// The session's measured figures.
pub(crate) struct Measured {
    pub elapsed_s: f64,
    pub tokens_per_s: f64,
    /// One per epoch of the history; fewer if metrics were lost.
    pub epoch_seconds: Vec<f64>,
}

pub(crate) fn training_metrics(
    run_id: &str,
    status: RunStatus,
    state: &TrainerState,
    measured: &Measured,
    environment: &Value,
) -> Value {
    let known = state.history.len().min(measured.epoch_seconds.len());
    let skipped = state.history.len() - known;
    let history: Vec<Value> = state
        .history
        .iter()
        .enumerate()
        .map(|(i, epoch)| {
            let seconds = i
                .checked_sub(skipped)
                .map(|i| measured.epoch_seconds[measured.epoch_seconds.len() - known + i]);
            json!({
                "epoch": epoch.epoch,
                "step": epoch.step,
                "train_loss": epoch.train_loss,
                "validation_loss": epoch.validation_loss,
                "validation_perplexity": epoch.validation_loss.map(f64::exp),
                "trained_tokens": epoch.tokens,
                "seconds": seconds,
            })
        })
        .collect();
    json!({
        "run_id": run_id,
        "status": status,
        "step": state.step,
        "total_steps": state.total_steps,
        "train_loss": state.train_loss,
        "validation_loss": state.validation_loss,
        "best_validation_loss": state.best.map(|best| best.loss),
        "best_step": state.best.map(|best| best.step),
        "trained_tokens": state.tokens_seen,
        "non_finite_steps": state.non_finite_steps,
        "rollbacks": state.rollbacks.count,
        "elapsed_s": measured.elapsed_s,
        "tokens_per_s": measured.tokens_per_s,
        "peak_rss_bytes": store::system::peak_rss_bytes(),
        "history": history,
        "hyperparameters": state.options,
        "model": state.model,
        "environment": environment,
        "data_hash": state.data_hash,
        "tokenizer_hash": state.tokenizer_hash,
    })
}
