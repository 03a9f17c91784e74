//! Tells the runtime that this node has a network: the plugin's binary, then its configuration.

mod removal;
mod target;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::protocol;

/// Why the runtime could not be told.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file cannot be read, written or renamed.
    #[error("cannot install {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The network to be chained after has no configuration.
    #[error("no configuration in {directory} is of the network {name:?} (cni.chainingTarget)")]
    NoTarget {
        /// Where it was looked for.
        directory: PathBuf,
        /// Its name.
        name: String,
    },
}

/// Whose configuration the runtime reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Conflist {
    /// One of this plugin alone.
    #[default]
    Own,
    /// One that somebody else writes, and that names this plugin.
    Custom,
    /// That of the network of this name, with this plugin after its own.
    After(String),
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
    /// Where the plugin leaves what it cannot tell, on the host.
    pub deferred: PathBuf,
    /// Whether configurations of other networks are put aside; only of use with an own one.
    pub exclusive: bool,
    /// Whose configuration the runtime reads.
    pub conflist: Conflist,
}

/// Sorts before what other networks write: the runtime takes the first one.
pub const FILE_NAME: &str = "05-axoneme.conflist";
/// Name of the plugin's binary.
pub const PLUGIN: &str = "axoneme-cni";
/// Name of the network.
pub const NETWORK: &str = "axoneme";
/// What is appended to the names of other networks' configurations, so that the runtime no longer reads them.
pub const ASIDE: &str = "axoneme_bak";
/// Endings that runtimes read.
const READ: [&str; 3] = ["conf", "conflist", "json"];

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
            deferred: protocol::DEFERRED.into(),
            exclusive: true,
            conflist: Conflist::Own,
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
        Ok(self.configure()? || copied)
    }

    /// The configuration alone: others may have written theirs since. Returns whether anything changed.
    ///
    /// # Errors
    /// Naming the file that cannot be written, or the network that is not there.
    pub fn configure(&self) -> Result<bool, InstallError> {
        let path = self.conf_directory.join(FILE_NAME);
        let conflist = match &self.conflist {
            Conflist::Own => self.own(),
            Conflist::After(name) => target::chained(&self.conf_directory, name, &self.entry())?,
            Conflist::Custom => return remove(&path),
        };
        let written = replace(&path, format!("{conflist:#}\n").as_bytes(), 0o644)?;
        // Only now: a node whose runtime finds no configuration at all is not ready.
        let aside = if self.exclusive && self.conflist == Conflist::Own { self.put_others_aside()? } else { 0 };
        Ok(written || aside > 0)
    }

    /// The configuration of a network of its own. Of version 1.0.0, because with 1.1.0 runtimes ask for STATUS, and a node would
    /// be not ready, and its pods out of their Services, while its daemon is replaced.
    fn own(&self) -> Value {
        json!({ "cniVersion": "1.0.0", "name": NETWORK, "plugins": [self.entry()] })
    }

    /// The plugin in a list of plugins.
    fn entry(&self) -> Value {
        json!({ "type": PLUGIN, "socket": self.socket, "attachments": self.attachments, "deferred": self.deferred })
    }

    fn put_others_aside(&self) -> Result<usize, InstallError> {
        let mut count = 0;
        for path in configurations(&self.conf_directory)? {
            let name = path.file_name().map(|name| format!("{}.{ASIDE}", name.to_string_lossy())).unwrap_or_default();
            fs::rename(&path, path.with_file_name(name)).map_err(error(&path))?;
            tracing::warn!(path = %path.display(), "another network's configuration is put aside (cni.exclusive)");
            count += 1;
        }
        Ok(count)
    }
}

/// What others have written for the runtime, in its order.
fn configurations(directory: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(error(directory))? {
        let path = entry.map_err(error(directory))?.path();
        let read = path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| READ.contains(&ending));
        // Podman and friends, which hide theirs from Kubernetes' runtimes, keep theirs.
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if read && !hidden && path.file_name().is_some_and(|name| name != FILE_NAME) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn remove(path: &Path) -> Result<bool, InstallError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map(|()| true).map_err(error(path)),
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
    move |source| InstallError::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host {
        directory: tempfile::TempDir,
        install: Install,
    }

    impl Host {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let install = Install {
                bin_directory: directory.path().join("bin"),
                conf_directory: directory.path().join("conf"),
                ..Install::standard(directory.path().join("built"))
            };
            fs::write(&install.plugin, "one").unwrap();
            fs::create_dir(&install.conf_directory).unwrap();
            Self { directory, install }
        }

        fn write(&self, name: &str, content: &Value) {
            fs::write(self.install.conf_directory.join(name), content.to_string()).unwrap();
        }

        fn read(&self, name: &str) -> Value {
            serde_json::from_slice(&fs::read(self.install.conf_directory.join(name)).unwrap()).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.install.conf_directory).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn written_once_and_again_only_when_it_differs() {
        let host = Host::new();
        assert!(host.install.run().unwrap());
        assert!(!host.install.run().unwrap());
        fs::write(host.directory.path().join("built"), "two").unwrap();
        assert!(host.install.run().unwrap());
        let installed = host.install.bin_directory.join(PLUGIN);
        assert_eq!(fs::read(&installed).unwrap(), b"two");
        assert_eq!(fs::metadata(&installed).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(host.read(FILE_NAME)["plugins"][0]["type"], PLUGIN);
        assert_eq!(host.names(), [FILE_NAME]);
    }

    #[test]
    fn other_networks_are_put_aside_only_when_this_one_is_exclusive() {
        let mut host = Host::new();
        host.install.exclusive = false;
        host.write("00-first.conf", &json!({"name": "first", "type": "bridge"}));
        host.write("10-bridge.conflist", &json!({"name": "bridge", "plugins": []}));
        host.write("notes.txt", &json!("mine"));
        assert!(host.install.run().unwrap());
        assert_eq!(host.names(), ["00-first.conf", FILE_NAME, "10-bridge.conflist", "notes.txt"]);
        host.install.exclusive = true;
        assert!(host.install.configure().unwrap());
        assert!(!host.install.configure().unwrap());
        let aside = ["00-first.conf.axoneme_bak", FILE_NAME, "10-bridge.conflist.axoneme_bak", "notes.txt"];
        assert_eq!(host.names(), aside);
    }

    #[test]
    fn what_was_put_aside_is_back_when_this_network_is_gone() {
        let mut host = Host::new();
        host.write("10-bridge.conflist", &json!({"name": "bridge", "plugins": []}));
        host.write("20-other.conf", &json!({"name": "other", "type": "ptp"}));
        assert!(host.install.run().unwrap());
        // Somebody has written it anew.
        host.write("20-other.conf", &json!({"name": "newer", "type": "ptp"}));
        assert!(host.install.remove().unwrap());
        assert_eq!(host.names(), ["10-bridge.conflist", "20-other.conf", "20-other.conf.axoneme_bak"]);
        assert_eq!(host.read("20-other.conf")["name"], "newer");
        assert!(!host.install.bin_directory.join(PLUGIN).exists());
        assert!(!host.install.remove().unwrap(), "twice");

        host.install.run().unwrap();
        host.install.conflist = Conflist::Custom;
        host.install.remove().unwrap();
        assert!(host.install.bin_directory.join(PLUGIN).exists(), "pods of somebody else's configuration need it");
    }

    #[test]
    fn chained_after_a_network_this_plugin_comes_last_and_once() {
        let mut host = Host::new();
        host.install.conflist = Conflist::After("bridge".into());
        let missing = host.install.run().unwrap_err().to_string();
        assert!(missing.contains("is of the network \"bridge\""), "{missing}");
        let bridge = json!({"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local"}});
        host.write("10-bridge.conflist", &json!({"cniVersion": "0.4.0", "name": "bridge", "plugins": [bridge]}));
        assert!(host.install.run().unwrap());
        assert!(!host.install.run().unwrap());
        let written = host.read(FILE_NAME);
        assert_eq!((&written["cniVersion"], &written["name"]), (&json!("0.4.0"), &json!("bridge")));
        assert_eq!((&written["plugins"][0], &written["plugins"][1]["type"]), (&bridge, &json!(PLUGIN)));
        assert_eq!(host.names(), [FILE_NAME, "10-bridge.conflist"]);

        // A configuration of one plugin; and one that somebody else writes.
        fs::remove_file(host.install.conf_directory.join("10-bridge.conflist")).unwrap();
        host.write("10-bridge.conf", &json!({"cniVersion": "0.3.1", "name": "bridge", "type": "ptp", "mtu": 1400}));
        assert!(host.install.configure().unwrap());
        assert_eq!(host.read(FILE_NAME)["plugins"][0], json!({"type": "ptp", "mtu": 1400}));
        host.install.conflist = Conflist::Custom;
        assert!(host.install.configure().unwrap());
        assert_eq!(host.names(), ["10-bridge.conf"]);
    }
}
