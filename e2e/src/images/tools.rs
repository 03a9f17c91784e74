//! The image with what measurements need inside of pods.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Content, Image, TOOLS};

/// What busybox is called as.
const APPLETS: [&str; 12] =
    ["sh", "sleep", "nc", "wget", "ping", "ip", "cat", "ls", "httpd", "hostname", "true", "timeout"];

/// Dynamic programs that go with their libraries.
const PROGRAMS: [&str; 2] = ["/usr/bin/iperf3", "/usr/bin/sockperf"];

/// busybox, iperf3 and sockperf.
pub(super) fn image() -> Result<Image> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let busybox = busybox.context("there is no busybox (package busybox-static); run `make deps`")?;
    let mut image = Image::new(TOOLS)
        .entry("bin/busybox", Content::File(busybox.into()))
        .entrypoint("/bin/sleep")
        .command("infinity");
    for applet in APPLETS {
        image = image.entry(format!("bin/{applet}"), Content::Link("busybox".to_owned()));
    }
    let mut files: BTreeSet<PathBuf> = BTreeSet::new();
    for program in PROGRAMS {
        files.insert(program.into());
        files.extend(libraries(program)?);
    }
    for file in files {
        // The dynamic loader is asked for by the path that the program names, so links are followed and paths are kept.
        let target = file.to_string_lossy().trim_start_matches('/').to_owned();
        image = image.entry(target, Content::File(file.canonicalize()?));
    }
    Ok(image)
}

/// The shared libraries that a program is linked with, by `ldd`.
fn libraries(program: &str) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    if !output.status.success() {
        bail!("there is no {program}; run `make deps`");
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|w| w.starts_with('/')).map(PathBuf::from).collect())
}
