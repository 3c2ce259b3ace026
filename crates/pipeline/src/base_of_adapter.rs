//! An adapter's folder and the model that it was trained on.

use std::path::{Path, PathBuf};

use model::adapter_folder::{self, BaseName};
use model::{AdapterConfig, DType};
use store::fs::RealFs;

use crate::open_model::OpenModel;
use crate::{Error, Result, hub};

/// An adapter in a folder, and its base.
pub(crate) struct Adapter {
    pub config: AdapterConfig,
    pub base: PathBuf,
    /// The type that the base's matrices were quantized to in training, where they were.
    pub quantization: Option<DType>,
    /// Of the base that it was trained on, where it was made by this program.
    base_hash: Option<String>,
}

impl Adapter {
    /// The adapter of a folder; `None`: it holds none.
    ///
    /// # Errors
    /// An adapter that is damaged, of another kind, or whose base is not there.
    pub fn find(folder: &Path, base: Option<&Path>) -> Result<Option<Adapter>> {
        if !adapter_folder::is_adapter(&RealFs, folder) {
            return Ok(None);
        }
        let (config, BaseName { name, revision, hash: base_hash, quantization, .. }) =
            adapter_folder::read_config(&RealFs, folder)?;
        if let Some(base) = base {
            return Ok(Some(Adapter { config, base: base.to_owned(), quantization, base_hash }));
        }
        let name = name.ok_or_else(|| Error::Data {
            message: format!(
                "`{}`: it names no base: pass the model that it was trained on with --base",
                folder.join(formats::peft::CONFIG_FILE).display()
            ),
        })?;
        // Relative to the adapter, where it was moved together with its base.
        let mut base = folder.join(&name);
        if let (false, Some(cached)) = (base.exists(), hub::cached(&name, revision.as_deref())?) {
            base = cached;
        }
        if !base.exists() {
            return Err(Error::Data {
                message: format!(
                    "`{}`: its base `{name}` is not there: pass the model that the adapter was trained on with \
                     --base: its path, or hf://OWNER/NAME for a model of the hub",
                    folder.join(formats::peft::CONFIG_FILE).display()
                ),
            });
        }
        Ok(Some(Adapter { config, base, quantization, base_hash }))
    }

    /// Checks that a model is the one that it was trained on.
    ///
    /// # Errors
    /// Another model; a file that cannot be read.
    pub fn check_base(&self, open: &OpenModel) -> Result<()> {
        let Some(wanted) = &self.base_hash else { return Ok(()) };
        let found = open.hash()?;
        if found == *wanted {
            return Ok(());
        }
        Err(Error::Data {
            message: format!(
                "`{}` is not the model that the adapter was trained on (BLAKE3 {found} instead of {wanted}): \
                 pass that one with --base",
                open.path.display()
            ),
        })
    }
}

/// Opens the base of a folder's adapter, which must be the one that it was trained on; `None`: the folder
/// holds no adapter.
///
/// # Errors
/// As [`Adapter::find`]; another model.
pub(crate) fn base_of_adapter(folder: &Path) -> Result<Option<OpenModel>> {
    let Some(adapter) = Adapter::find(folder, None)? else { return Ok(None) };
    let open = OpenModel::open(&adapter.base)?;
    adapter.check_base(&open)?;
    Ok(Some(open))
}
