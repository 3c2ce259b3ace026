//! Finds prepared documents, in the project or in a folder given by the user.

use std::path::{Path, PathBuf};

use corpus::CorpusSummary;
use store::fs::RealFs;

use crate::arguments::GlobalArguments;
use crate::failure::Failure;
use crate::select;

/// File name of the report in a folder of documents.
const REPORT_FILE: &str = "report.json";

/// Finds the folder of prepared documents: `place`, its data/documents, or by default the project's.
pub fn folder(global: &GlobalArguments, named: Option<&Path>) -> Result<PathBuf, Failure> {
    let Some(named) = named else {
        let folder = select::existing_project(global)?.documents();
        return match folder.join(REPORT_FILE).exists() {
            true => Ok(folder),
            false => Err(Failure::message(format!(
                "there is no prepared text in `{}`: run `text2llm data prepare` first",
                folder.display()
            ))),
        };
    };
    let places = [named.to_owned(), named.join("data/documents"), named.join("documents")];
    places.into_iter().find(|place| place.join(REPORT_FILE).exists()).ok_or_else(|| {
        Failure::message(format!(
            "`{}` has no prepared text: pass a project folder or its data/documents",
            named.display()
        ))
    })
}

/// Reads the report that the data stage wrote.
pub fn report(folder: &Path) -> Result<CorpusSummary, Failure> {
    Ok(store::atomic::read_json(&RealFs, &folder.join(REPORT_FILE))?)
}
