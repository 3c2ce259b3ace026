//! LoRA adapters as PEFT stores them: `adapter_config.json` beside `adapter_model.safetensors`.
//!
//! Only LoRA and DoRA are read and written; a file that asks for more is refused by key. Format: `peft`'s
//! `LoraConfig` and `save_pretrained`, <https://github.com/huggingface/peft>.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use store::fs::Fs;

use crate::error::{Error, Result};
use crate::fields::{CONFIG_LIMIT_BYTES, Fields, read_limited};

/// File name of the configuration.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// File name of the weights.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// Prefix of all tensor names.
const PREFIX: &str = "base_model.model.";

/// Keys that change what an adapter computes, or which weights it has.
const OTHER_KINDS: [&str; 7] = [
    "fan_in_fan_out",
    "layer_replication",
    "layers_to_transform",
    "lora_bias",
    "megatron_config",
    "modules_to_save",
    "trainable_token_indices",
];

/// The content of `adapter_config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// r.
    pub rank: usize,
    /// α.
    pub alpha: f64,
    /// Dropout of the input while training.
    pub dropout: f64,
    /// α/√r instead of α/r.
    pub rank_stabilized: bool,
    /// Rows' norms are trained too (DoRA).
    pub dora: bool,
    /// Names of the modules that have an adapter; `None`: the weights tell.
    pub target_modules: Option<Vec<String>>,
    /// Modules that stand for several of the same scale: their rank is that multiple of `rank`.
    pub multiples: BTreeMap<String, usize>,
    /// The model that it belongs to: a path or a name on the hub.
    pub base_model: Option<String>,
    /// Its commit on the hub.
    pub revision: Option<String>,
}

impl LoraConfig {
    /// Reads an `adapter_config.json`.
    ///
    /// # Errors
    /// `Io`, `NotFound`; `Corrupt` with the key or the line at fault; `Unsupported` with the key that asks
    /// for something else.
    pub fn read(fs: &dyn Fs, path: &Path) -> Result<LoraConfig> {
        LoraConfig::parse(&read_limited(fs, path, CONFIG_LIMIT_BYTES, "a configuration")?, path)
    }

    /// Parses an `adapter_config.json`; `path` only names it in errors.
    ///
    /// # Errors
    /// As [`LoraConfig::read`].
    pub fn parse(json: &[u8], path: &Path) -> Result<LoraConfig> {
        let map: Map<String, Value> =
            serde_json::from_slice(json).map_err(|error| Error::corrupt(path, error.to_string()))?;
        let fields = Fields::new(path, "", &map);
        match fields.text("peft_type")? {
            Some("LORA") => {}
            Some(other) => {
                let message = format!("`{other}` is not supported: only LORA is");
                return Err(fields.unsupported("peft_type", message));
            }
            None => return Err(fields.corrupt("peft_type", "is missing".to_owned())),
        }
        for key in OTHER_KINDS {
            let is_off = match fields.get(key) {
                None | Some(Value::Bool(false)) => true,
                Some(Value::Array(items)) => items.is_empty(),
                Some(Value::Object(map)) => map.is_empty(),
                _ => false,
            };
            if !is_off {
                return Err(fields.unsupported(key, "is not supported".to_owned()));
            }
        }
        if let Some(bias) = fields.text("bias")?.filter(|&bias| bias != "none") {
            return Err(fields.unsupported("bias", format!("`{bias}` is not supported: only none is")));
        }
        let target_modules = match fields.get("target_modules") {
            Some(Value::Array(_)) => {
                fields.texts("target_modules")?.map(|names| names.into_iter().map(str::to_owned).collect())
            }
            // `all-linear` or a regular expression.
            _ => None,
        };
        let mut config = LoraConfig {
            rank: fields.require_size("r")?,
            alpha: fields.require_positive("lora_alpha")?,
            dropout: fields.number("lora_dropout")?.unwrap_or(0.0),
            rank_stabilized: fields.flag("use_rslora")?.unwrap_or(false),
            dora: fields.flag("use_dora")?.unwrap_or(false),
            target_modules,
            multiples: BTreeMap::new(),
            base_model: fields.text("base_model_name_or_path")?.map(str::to_owned),
            revision: fields.text("revision")?.map(str::to_owned),
        };
        let pattern = |key| fields.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        let (ranks, alphas) = (pattern("rank_pattern"), pattern("alpha_pattern"));
        for module in ranks.keys().chain(alphas.keys()) {
            let number =
                |map: &Map<String, Value>, usual: f64| map.get(module).map_or(Some(usual), Value::as_f64);
            let rank = number(&ranks, config.rank as f64).unwrap_or(0.0);
            let multiple = (rank / config.rank as f64) as usize;
            if multiple as f64 * config.rank as f64 != rank || multiple == 0 {
                let message = format!("{rank} of {module} is no multiple of r: this is not supported");
                return Err(fields.unsupported("rank_pattern", message));
            }
            if number(&alphas, config.alpha) != Some(config.alpha_of(multiple)) {
                let message =
                    format!("the scale of {module} differs from the others': this is not supported");
                return Err(fields.unsupported("alpha_pattern", message));
            }
            if multiple > 1 {
                config.multiples.insert(module.clone(), multiple);
            }
        }
        Ok(config)
    }

    /// The same scale for a module of another rank.
    fn alpha_of(&self, multiple: usize) -> f64 {
        let multiple = multiple as f64;
        self.alpha * if self.rank_stabilized { multiple.sqrt() } else { multiple }
    }

    /// The JSON object that PEFT reads.
    pub fn to_json(&self) -> Value {
        let multiples = self.multiples.iter();
        let ranks: Map<String, Value> =
            multiples.clone().map(|(module, &n)| (module.clone(), json!(n * self.rank))).collect();
        let alphas: Map<String, Value> =
            multiples.map(|(module, &n)| (module.clone(), json!(self.alpha_of(n)))).collect();
        json!({
            "alpha_pattern": alphas,
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": null,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.rank,
            "rank_pattern": ranks,
            "revision": self.revision,
            "target_modules": self.target_modules,
            "task_type": "CAUSAL_LM",
            "use_dora": self.dora,
            "use_rslora": self.rank_stabilized,
        })
    }

    /// Writes `adapter_config.json`.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write(&self, fs: &dyn Fs, path: &Path) -> Result<()> {
        Ok(store::atomic::write_json(fs, path, &self.to_json())?)
    }
}

/// The tensor's name in the file, from that of `….lora_A.weight`.
pub fn tensor_name(parameter: &str) -> String {
    format!("{PREFIX}{parameter}")
}

/// The parameter's name, `….lora_A.weight`, from that of a tensor in the file; `None` for other tensors.
pub fn parameter_name(tensor: &str) -> Option<&str> {
    let name = tensor.strip_prefix(PREFIX)?;
    let known = [".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"];
    known.iter().any(|end| name.ends_with(end)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: Value) -> Result<LoraConfig> {
        LoraConfig::parse(json.to_string().as_bytes(), Path::new("adapter_config.json"))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = LoraConfig {
            rank: 8,
            alpha: 16.0,
            dropout: 0.05,
            rank_stabilized: true,
            dora: true,
            target_modules: Some(vec!["qkv_proj".to_owned(), "down_proj".to_owned()]),
            multiples: BTreeMap::from([("qkv_proj".to_owned(), 3)]),
            base_model: Some("base".to_owned()),
            revision: Some("main".to_owned()),
        };
        assert_eq!(parse(config.to_json()).unwrap(), config);
    }

    #[test]
    fn other_adapters_are_refused_by_key() {
        let plain = json!({"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": "all-linear"});
        assert_eq!(parse(plain.clone()).unwrap().target_modules, None);
        for (key, value) in [
            ("peft_type", json!("IA3")),
            ("layer_replication", json!([[0, 2]])),
            ("bias", json!("all")),
            ("modules_to_save", json!(["lm_head"])),
            ("rank_pattern", json!({"q_proj": 4})),
            ("alpha_pattern", json!({"q_proj": 4.0})),
            ("layers_to_transform", json!([1])),
            ("r", json!(0)),
            ("lora_alpha", json!("x")),
        ] {
            let mut other = plain.clone();
            other[key] = value;
            let error = parse(other).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }
}
