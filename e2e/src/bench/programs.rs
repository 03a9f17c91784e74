//! The measurements' own small programs, in C: what runs in pods, or at both ends of a connection, is static and starts at
//! once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::images::{Content, Image};
use crate::paths::Paths;

/// The image whose pods say who they are.
pub(super) const ANNOUNCE: &str = "localhost/axoneme/announce:dev";

/// Compilers that know the BPF target.
const CLANGS: [&str; 2] = ["clang-19", "clang"];

/// Programs that were built for one measurement, and go with it.
#[derive(Debug)]
pub(super) struct Programs {
    sources: PathBuf,
    folder: TempDir,
}

impl Programs {
    pub(super) fn new(paths: &Paths) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for programs")?;
        Ok(Self { sources: paths.repository.join("e2e/bench"), folder })
    }

    /// Builds `NAME.c` as a static program of this machine.
    pub(super) fn native(&self, name: &str) -> Result<PathBuf> {
        let program = self.folder.path().join(name);
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-s", "-static", "-o"]).arg(&program).arg(self.sources.join(format!("{name}.c")));
        compile(&mut cc, "package gcc")?;
        Ok(program)
    }

    /// Builds `NAME.c` for the kernel, with constants; `suffix` tells builds of it apart.
    pub(super) fn kernel(&self, name: &str, suffix: &str, constants: &[(&str, String)]) -> Result<PathBuf> {
        let object = self.folder.path().join(format!("{name}-{suffix}.o"));
        let clang = CLANGS.into_iter().find(|clang| crate::machine::in_path(clang));
        let mut clang = Command::new(clang.context("there is no clang; run `make deps`")?);
        clang.args(["-target", "bpf", "-O2", "-g"]);
        // Debian keeps <asm/types.h> in a folder of the architecture, which clang does not look into for another target.
        let multiarch = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
        if Path::new(&multiarch).exists() {
            clang.args(["-I", &multiarch]);
        }
        clang.args(constants.iter().map(|(name, value)| format!("-D{name}={value}")));
        clang.arg("-c").arg(self.sources.join(format!("{name}.c"))).arg("-o").arg(&object);
        compile(&mut clang, "packages clang-19 and libbpf-dev")?;
        Ok(object)
    }

    /// Loads the image [`ANNOUNCE`] into all nodes.
    pub(super) fn load_announce(&self, cluster: &Cluster) -> Result<()> {
        let program = self.native("announce")?;
        let image = Image::new(ANNOUNCE).entry("announce", Content::File(program)).entrypoint("/announce");
        cluster.load(&[image.write(&cluster.paths.images())?])
    }
}

fn compile(command: &mut Command, remedy: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?} ({remedy})"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({remedy}):\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
