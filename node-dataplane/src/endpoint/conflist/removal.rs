//! Tells the runtime that this network is gone.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ASIDE, Conflist, FILE_NAME, Install, InstallError, PLUGIN, error, remove};

impl Install {
    /// Gives other networks' configurations their names back, then removes the own configuration and the plugin. A plugin that
    /// somebody else's configuration names stays, so that pods can still be removed. Returns whether anything changed.
    ///
    /// # Errors
    /// Naming the file that cannot be renamed or removed.
    pub fn remove(&self) -> Result<bool, InstallError> {
        let mut changed = false;
        for path in self.put_aside()? {
            let back = path.with_extension("");
            if back.exists() {
                tracing::warn!(path = %path.display(), "stays aside, because its name is taken");
                continue;
            }
            fs::rename(&path, &back).map_err(error(&path))?;
            changed = true;
        }
        changed |= remove(&self.conf_directory.join(FILE_NAME))?;
        if self.conflist != Conflist::Custom {
            changed |= remove(&self.bin_directory.join(PLUGIN))?;
        }
        Ok(changed)
    }

    /// What was put out of the runtime's sight.
    fn put_aside(&self) -> Result<Vec<PathBuf>, InstallError> {
        let directory: &Path = &self.conf_directory;
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).map_err(error(directory))? {
            let path = entry.map_err(error(directory))?.path();
            if path.extension().is_some_and(|ending| ending == ASIDE) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}
