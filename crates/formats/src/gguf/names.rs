//! Hugging Face's parameter names in a GGUF file, and the order of rows there.

use crate::error::{Error, Result};

/// llama.cpp's frequency factors of Llama 3's rule, one for each pair of dimensions.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";
/// llama.cpp does not rotate every fourth layer of a `smollm3`, whatever the file says.
pub(super) const UNROTATED_INTERVAL: usize = 4;

/// Parts of a layer: Hugging Face's name, GGUF's name, and whether it can have a bias.
const PARTS: [(&str, &str, bool); 11] = [
    ("input_layernorm", "attn_norm", false),
    ("self_attn.q_proj", "attn_q", true),
    ("self_attn.k_proj", "attn_k", true),
    ("self_attn.v_proj", "attn_v", true),
    ("self_attn.o_proj", "attn_output", true),
    ("self_attn.q_norm", "attn_q_norm", false),
    ("self_attn.k_norm", "attn_k_norm", false),
    ("post_attention_layernorm", "ffn_norm", false),
    ("mlp.gate_proj", "ffn_gate", false),
    ("mlp.up_proj", "ffn_up", false),
    ("mlp.down_proj", "ffn_down", false),
];

/// The GGUF name of a Hugging Face parameter of the Llama family; `None` if there is none.
pub fn tensor_name(hf_name: &str) -> Option<String> {
    let whole = match hf_name {
        "model.embed_tokens.weight" => "token_embd.weight",
        "model.norm.weight" => "output_norm.weight",
        "lm_head.weight" => "output.weight",
        _ => {
            let (layer, rest) = layer_and_rest(hf_name, "model.layers.")?;
            let (part, kind) = rest.rsplit_once('.')?;
            let (_, name, _) = PARTS.iter().find(|(hf, _, bias)| *hf == part && known(kind, *bias))?;
            return Some(format!("blk.{layer}.{name}.{kind}"));
        }
    };
    Some(whole.to_owned())
}

/// The layer and the rest of a GGUF name that corresponds to a Hugging Face parameter.
pub(super) fn layer_part(name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = layer_and_rest(name, "blk.")?;
    let (part, kind) = rest.split_once('.')?;
    PARTS.iter().find(|(_, gguf, bias)| *gguf == part && known(kind, *bias))?;
    Some((layer, rest))
}

fn known(kind: &str, bias: bool) -> bool {
    kind == "weight" || (bias && kind == "bias")
}

fn layer_and_rest<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let (digits, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    let layer: usize = digits.parse().ok()?;
    // `+1` and `01` parse, and would be second names of one layer.
    (layer.to_string() == digits).then_some((layer, rest))
}

/// For each row of a Hugging Face parameter, its row in a GGUF file; `None` where the order is the same.
///
/// Hugging Face rotates dimension j of a head with j + d/2; llama.cpp's architectures `llama` and `smollm3`
/// (not `qwen2` and `qwen3`) rotate 2j with 2j + 1, as Meta's weights do. Its converter therefore interleaves
/// the two halves of each head's rows in the query and key projections (`LlamaModel.permute` in
/// `convert_hf_to_gguf.py`). `heads` are the heads that these rows make up: query heads for `q_proj`, key and
/// value heads for `k_proj`.
///
/// # Errors
/// `Invalid` where `rows` are not `heads` heads of pairs.
pub fn row_order(architecture: &str, hf_name: &str, heads: usize, rows: usize) -> Result<Option<Vec<usize>>> {
    if !matches!(architecture, "llama" | "smollm3") || heads_of(hf_name).is_none() {
        return Ok(None);
    }
    if heads == 0 || !rows.is_multiple_of(heads) || !(rows / heads).is_multiple_of(2) {
        return Err(Error::Invalid {
            message: format!("`{hf_name}`: {rows} rows cannot be split into {heads} heads of an even size"),
        });
    }
    let half = rows / heads / 2;
    let order = (0..rows).map(|row| {
        let (head, row) = (row / (2 * half), row % (2 * half));
        head * 2 * half + row % half * 2 + row / half
    });
    Ok(Some(order.collect()))
}

/// Whose heads the rows of a parameter are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heads {
    Query,
    Key,
}

/// The heads of a parameter whose rows are rotated.
pub(super) fn heads_of(hf_name: &str) -> Option<Heads> {
    let (_, rest) = layer_and_rest(hf_name, "model.layers.")?;
    match rest {
        "self_attn.q_proj.weight" | "self_attn.q_proj.bias" => Some(Heads::Query),
        "self_attn.k_proj.weight" | "self_attn.k_proj.bias" => Some(Heads::Key),
        _ => None,
    }
}
