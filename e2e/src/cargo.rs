//! cargo, as the harness calls it.

use std::path::Path;
use std::process::Command;

/// cargo in a workspace, building into a folder.
///
/// What `cargo run` has told this program of itself is not passed on: ring's build script would run again for it, and everything
/// that needs ring be built anew, each time that somebody calls cargo without the harness in between.
pub(crate) fn cargo(sources: &Path, target: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(sources).env("CARGO_TARGET_DIR", target);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
        cargo.env_remove(name);
    }
    cargo
}
