//! The pages of `docs/`, and the sources that they name tests of.

use std::fs;
use std::path::{Path, PathBuf};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All sources under a folder, as one text.
pub fn sources(folder: &Path, into: &mut String) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_source = path.extension().is_some_and(|end| end == "rs" || end == "py");
        if path.is_dir() {
            sources(&path, into);
        } else if is_source {
            into.push_str(&fs::read_to_string(&path).unwrap_or_default());
        }
    }
}
