//! Tells the runtime that this node has a network: the plugin's binary, then its configuration.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::protocol;

/// Why the runtime could not be told.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct InstallError {
    /// What could not be written.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Where things are, as the daemon sees them and as the plugin will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// The plugin as it came with the daemon.
    pub plugin: PathBuf,
    /// The runtime's directory of plugins.
    pub bin_directory: PathBuf,
    /// The runtime's directory of configurations.
    pub conf_directory: PathBuf,
    /// The daemon's socket, on the host.
    pub socket: PathBuf,
    /// The daemon's attachments, on the host.
    pub attachments: PathBuf,
}

/// Sorts before what other networks write: the runtime takes the first one.
pub const FILE_NAME: &str = "05-axoneme.conflist";
/// Name of the plugin's binary.
pub const PLUGIN: &str = "axoneme-cni";

impl Install {
    /// The usual places, with the plugin at `plugin`.
    #[must_use]
    pub fn standard(plugin: impl Into<PathBuf>) -> Self {
        Self {
            plugin: plugin.into(),
            bin_directory: "/opt/cni/bin".into(),
            conf_directory: "/etc/cni/net.d".into(),
            socket: protocol::SOCKET.into(),
            attachments: protocol::ATTACHMENTS.into(),
        }
    }

    /// Copies the plugin and writes the configuration, each atomically and only when it differs. To be called once CNI is
    /// served: the runtime reports the node's network as ready from here on. Returns whether anything changed.
    ///
    /// # Errors
    /// Naming the file that cannot be written.
    pub fn run(&self) -> Result<bool, InstallError> {
        let plugin = fs::read(&self.plugin).map_err(error(&self.plugin))?;
        let copied = replace(&self.bin_directory.join(PLUGIN), &plugin, 0o755)?;
        let written = replace(&self.conf_directory.join(FILE_NAME), self.conflist().as_bytes(), 0o644)?;
        Ok(copied || written)
    }

    /// The configuration.
    #[must_use]
    pub fn conflist(&self) -> String {
        let conflist = serde_json::json!({
            "cniVersion": "1.0.0",
            "name": "axoneme",
            "plugins": [{ "type": PLUGIN, "socket": self.socket, "attachments": self.attachments }],
        });
        format!("{conflist:#}\n")
    }
}

fn replace(path: &Path, content: &[u8], mode: u32) -> Result<bool, InstallError> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(false);
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(error(path))?;
    }
    // Hidden, because runtimes read every file of the directory whose ending they know.
    let name = path.file_name().map(|name| format!(".{}.new", name.to_string_lossy())).unwrap_or_default();
    let new = path.with_file_name(name);
    fs::write(&new, content)
        .and_then(|()| fs::set_permissions(&new, Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&new, path))
        .map_err(error(path))?;
    Ok(true)
}

fn error(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    move |source| InstallError { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_once_and_again_only_when_it_differs() {
        let directory = tempfile::tempdir().unwrap();
        let plugin = directory.path().join("built");
        fs::write(&plugin, "one").unwrap();
        let install = Install {
            plugin: plugin.clone(),
            bin_directory: directory.path().join("bin"),
            conf_directory: directory.path().join("conf"),
            ..Install::standard("")
        };
        assert!(install.run().unwrap());
        assert!(!install.run().unwrap());
        fs::write(&plugin, "two").unwrap();
        assert!(install.run().unwrap());
        let installed = install.bin_directory.join(PLUGIN);
        assert_eq!(fs::read(&installed).unwrap(), b"two");
        assert_eq!(fs::metadata(&installed).unwrap().permissions().mode() & 0o777, 0o755);
        let written: serde_json::Value =
            serde_json::from_slice(&fs::read(install.conf_directory.join(FILE_NAME)).unwrap()).unwrap();
        assert_eq!(written["plugins"][0]["type"], PLUGIN);
        assert_eq!(fs::read_dir(&install.conf_directory).unwrap().count(), 1);
    }
}
