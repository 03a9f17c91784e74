//! The network after whose plugins this one is chained.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{InstallError, PLUGIN, configurations};

/// The configuration of the network of this name in `directory`, with `entry` after its plugins.
///
/// # Errors
/// When there is no such network, or the directory cannot be read.
pub(super) fn chained(directory: &Path, name: &str, entry: &Value) -> Result<Value, InstallError> {
    for path in configurations(directory)? {
        // What is being written, or is none: its time may come.
        let Ok(text) = fs::read(&path) else { continue };
        let Ok(found) = serde_json::from_slice::<Value>(&text) else { continue };
        if found["name"] == name
            && let Some(list) = with(found, entry)
        {
            return Ok(list);
        }
    }
    Err(InstallError::NoTarget { directory: directory.to_owned(), name: name.to_owned() })
}

/// A list of plugins, or a configuration of one, with another one at the end.
fn with(mut found: Value, entry: &Value) -> Option<Value> {
    if found.get("plugins").is_none() {
        let single = found.as_object_mut()?;
        let name = single.remove("name");
        let version = single.remove("cniVersion");
        found = json!({ "cniVersion": version.unwrap_or("0.3.1".into()), "name": name, "plugins": [single] });
    }
    let plugins = found["plugins"].as_array_mut()?;
    plugins.retain(|plugin| plugin["type"] != PLUGIN);
    plugins.push(entry.clone());
    Some(found)
}
