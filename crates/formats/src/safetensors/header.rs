//! The header: parsed strictly, since a file may come from a stranger.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::error::{Error, ErrorKind, Result};

/// The format's own limit; also the most memory that a hostile length can make a reader allocate.
pub(super) const HEADER_LIMIT_BYTES: u64 = 100_000_000;
/// Bytes of the header length that opens a file.
pub(super) const LENGTH_BYTES: u64 = 8;

/// Position, type and shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// Its element type in the file.
    pub dtype: Dtype,
    /// Its sizes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Offset of its first byte within the data section.
    pub(super) begin: u64,
    /// Its length in the file.
    pub bytes: u64,
}

impl TensorEntry {
    /// Number of values. It cannot overflow: the header was checked.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The content of the JSON, in the file's order, unchecked except for duplicate names.
struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<RawHeader, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawHeader, A::Error> {
                let mut metadata = None;
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let again = if name == "__metadata__" {
                        metadata.replace(map.next_value()?).is_some()
                    } else {
                        tensors.insert(name.clone(), map.next_value()?).is_some()
                    };
                    // Two readers might disagree on which of the two counts.
                    if again {
                        return Err(A::Error::custom(format!("`{name}` occurs twice")));
                    }
                }
                Ok(RawHeader {
                    metadata: metadata.unwrap_or_default(),
                    tensors: tensors.into_iter().collect(),
                })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Parses the header's JSON and checks it against the length of the data section: tensors cover it exactly,
/// in order, without gaps or overlap, each as long as its shape and type say. Entries come back in the order
/// of the data.
pub(super) fn parse(
    json: &[u8],
    data_bytes: u64,
    path: &Path,
) -> Result<(Vec<TensorEntry>, BTreeMap<String, String>)> {
    let raw: RawHeader =
        serde_json::from_slice(json).map_err(|error| Error::corrupt(path, format!("its header: {error}")))?;
    let mut tensors = raw.tensors;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut entries = Vec::with_capacity(tensors.len());
    let mut end = 0u64;
    for (name, info) in tensors {
        let (from, to) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        let problem = |message: String| Error::Tensor {
            path: path.to_owned(),
            tensor: name.clone(),
            message,
            kind: ErrorKind::Corrupt,
        };
        let Some(bytes) = to.checked_sub(from) else {
            return Err(problem(format!("its data ends ({to}) before it starts ({from})")));
        };
        if from != end {
            let relation = if from < end { "overlaps" } else { "leaves a gap after" };
            return Err(problem(format!(
                "its data starts at byte {from}, which {relation} the previous tensor (end {end})"
            )));
        }
        if to > data_bytes {
            return Err(problem(format!(
                "its data ends at byte {to}, but the file has {data_bytes} bytes of data: the file is \
                 truncated; copy or download it again"
            )));
        }
        let expected =
            bytes_of(&info).ok_or_else(|| problem(format!("its shape {:?} is too large", info.shape)))?;
        if bytes != expected {
            return Err(problem(format!(
                "its shape {:?} of {} needs {expected} bytes, but the header gives it {bytes}",
                info.shape, info.dtype
            )));
        }
        end = to;
        entries.push(TensorEntry { name, dtype: info.dtype, shape: info.shape, begin: from, bytes });
    }
    if end != data_bytes {
        return Err(Error::corrupt(
            path,
            format!("the tensors cover {end} bytes of data, but the file has {data_bytes}"),
        ));
    }
    Ok((entries, raw.metadata))
}

/// Bytes of this shape and type, or `None` if no file could hold them.
fn bytes_of(info: &TensorInfo) -> Option<u64> {
    let bits = info
        .shape
        .iter()
        .try_fold(info.dtype.bitsize() as u64, |product, &size| product.checked_mul(size as u64))?;
    bits.is_multiple_of(8).then_some(bits / 8)
}
