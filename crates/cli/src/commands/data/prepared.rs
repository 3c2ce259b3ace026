//! Where prepared documents lie: in the project, or in a folder that a user names.

use std::path::{Path, PathBuf};

use corpus::CorpusSummary;
use store::fs::RealFs;

use crate::arguments::GlobalArguments;
use crate::failure::Failure;
use crate::select;

/// The report's name in a folder of documents.
const REPORT_FILE: &str = "report.json";

/// A folder of prepared documents: the one named, or below it, or the project's.
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
            "`{}` holds no prepared text: name a project folder, or its data/documents",
            named.display()
        ))
    })
}

/// What the data stage told of it.
pub fn report(folder: &Path) -> Result<CorpusSummary, Failure> {
    Ok(store::atomic::read_json(&RealFs, &folder.join(REPORT_FILE))?)
}
