//! The layout of a project folder. It is self-describing and movable; all paths are relative to the root.

use std::path::{Path, PathBuf};

/// A project folder, which may not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// The project at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Project {
        Project { root: root.into() }
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command for this project that works in the user's current folder: `text2llm run --resume --project
    /// D`.
    pub fn command(&self, arguments: &str) -> String {
        let here = std::env::current_dir().is_ok_and(|current| current == self.root);
        if here {
            return format!("text2llm {arguments}");
        }
        let root = self.root.display().to_string();
        let plain = |c: char| c.is_alphanumeric() || "/._-+:@".contains(c);
        let root = if root.chars().all(plain) { root } else { quoted(&root) };
        format!("text2llm {arguments} --project {root}")
    }

    /// `text2llm.toml`.
    pub fn recipe_file(&self) -> PathBuf {
        self.root.join("text2llm.toml")
    }

    /// `data/`.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// `data/documents/`: cleaned and split text.
    pub fn documents(&self) -> PathBuf {
        self.data().join("documents")
    }

    /// `data/tokens/`: token shards.
    pub fn tokens(&self) -> PathBuf {
        self.data().join("tokens")
    }

    /// `data/tokens-PHASE/`: token shards of a phase with a mix of its own.
    pub fn phase_tokens(&self, phase: &str) -> PathBuf {
        self.data().join(format!("tokens-{phase}"))
    }

    /// `data/ranks/`: the output of each rank, and their logs.
    pub fn ranks(&self) -> PathBuf {
        self.data().join("ranks")
    }

    /// `tokenizer/`.
    pub fn tokenizer(&self) -> PathBuf {
        self.root.join("tokenizer")
    }

    /// `runs/`.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// `job/`: records of background jobs: `job.json`, `console.log`.
    pub fn job(&self) -> PathBuf {
        self.root.join("job")
    }

    /// `evals/`.
    pub fn evals(&self) -> PathBuf {
        self.root.join("evals")
    }

    /// `model/`.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// `training_metrics.json` of the last run.
    pub fn training_metrics(&self) -> PathBuf {
        self.root.join("training_metrics.json")
    }
}

/// Quotes a word for a POSIX shell.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_read_words_back() {
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
    }
}
