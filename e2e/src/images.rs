//! Images without a container engine: a few files in one layer, written as the archive that `docker save` writes, which
//! containerd imports. Nothing is pulled from a registry.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::cargo;
use crate::gobuild::{AGNHOST, Binary, COREDNS, KUBE};
use crate::paths::Paths;
use crate::progress;

mod archive;
mod tools;

pub use archive::{Content, Image};

/// The image of pods' sandboxes.
pub const PAUSE: &str = "localhost/axoneme/pause:dev";
/// A shell, iperf3, sockperf and nc, to measure from within pods.
pub const TOOLS: &str = "localhost/axoneme/tools:dev";
/// A cluster's DNS, for the scenario that needs one.
pub const DNS: &str = "localhost/axoneme/coredns:dev";
/// What the images of the operator and the node hold.
pub const BINARIES: [&str; 3] = ["axoneme-operator", "axoneme-node", "axoneme-cni"];

/// The platform that static binaries are built for; musl is not needed, glibc links statically too.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Writes the images that test clusters use, and gives their archives.
pub fn test_images(paths: &Paths) -> Result<Vec<PathBuf>> {
    let images = [pause(paths)?, agnhost(paths)?, tools::image()?];
    images.iter().map(|image| image.write(&paths.images())).collect()
}

/// Writes the images of the operator and the node with the binaries in a folder, and gives their archives.
pub fn write_images(paths: &Paths, binaries: &Path, tag: &str) -> Result<[PathBuf; 2]> {
    let binary = |image: Image, name: &str| image.entry(format!("usr/bin/{name}"), Content::File(binaries.join(name)));
    let [operator, node, cni] = BINARIES;
    let named = |component: &str| Image::new(format!("localhost/axoneme/{component}:{tag}"));
    let images = [
        binary(named("operator"), operator).entrypoint("/usr/bin/axoneme-operator"),
        binary(binary(named("node"), node), cni).entrypoint("/usr/bin/axoneme-node"),
    ];
    progress::step("write the images operator and node", || {
        let [operator, node] = images.map(|image| image.write(&paths.images()));
        Ok([operator?, node?])
    })
}

/// Builds the operator, the node daemon and the CNI plugin as static binaries from a workspace's sources; gives the folder that
/// holds them.
pub fn static_binaries(sources: &Path, target: &Path) -> Result<PathBuf> {
    let mut cargo = cargo(sources, target);
    cargo.args([
        "build",
        "--release",
        "--locked",
        "--target",
        STATIC_TARGET,
        "-p",
        "axoneme-operator",
        "-p",
        "axoneme-node",
    ]);
    cargo.env("RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let output = cargo.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo could not build the images' binaries:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(target.join(STATIC_TARGET).join("release"))
}

fn pause(paths: &Paths) -> Result<Image> {
    let source = paths.repository.join("e2e/images/pause.c");
    let binary = paths.images().join("pause");
    std::fs::create_dir_all(paths.images())?;
    let modified = |file: &Path| std::fs::metadata(file).and_then(|m| m.modified()).ok();
    if modified(&binary) < modified(&source) {
        let unfinished = paths.images().join(format!(".pause.{}", std::process::id()));
        let output = Command::new("cc").args(["-Os", "-s", "-static", "-o"]).args([&unfinished, &source]).output();
        let output = output.context("cannot run cc (package gcc)")?;
        if !output.status.success() {
            bail!("cc could not build pause:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        std::fs::rename(unfinished, &binary)?;
    }
    Ok(Image::new(PAUSE).entry("pause", Content::File(binary)).entrypoint("/pause"))
}

fn agnhost(paths: &Paths) -> Result<Image> {
    let binary = AGNHOST.build(paths)?;
    let tag = agnhost_tag(paths, &binary)?;
    Ok(agnhost_image(&tag, binary))
}

fn agnhost_image(tag: &str, binary: PathBuf) -> Image {
    let name = format!("registry.k8s.io/e2e-test-images/agnhost:{tag}");
    Image::new(name).entry("agnhost", Content::File(binary)).entrypoint("/agnhost").command("pause")
}

/// Writes agnhost's image as the conformance tests of ClusterNetworkPolicy ask for it, with the shell that they call; gives the
/// archive.
pub fn agnhost_with_bash(paths: &Paths) -> Result<PathBuf> {
    let bash = Path::new("/bin/bash-static");
    if !bash.exists() {
        bail!("there is no {} (package bash-static); run `make deps`", bash.display());
    }
    let image = agnhost_image("2.45", AGNHOST.build(paths)?);
    image.entry("bin/bash", Content::File(bash.into())).write(&paths.images())
}

/// Builds a cluster's DNS, writes its image, and gives the archive.
pub fn dns_image(paths: &Paths) -> Result<PathBuf> {
    let binary = COREDNS.build(paths)?;
    Image::new(DNS).entry("coredns", Content::File(binary)).entrypoint("/coredns").write(&paths.images())
}

/// The name under which pods of the harness and upstream's specs ask for agnhost.
pub fn agnhost_name(paths: &Paths) -> Result<String> {
    Ok(agnhost(paths)?.name)
}

/// The version of agnhost that this Kubernetes' specs ask for, as their table of images says. Kept beside the binary.
fn agnhost_tag(paths: &Paths, binary: &Path) -> Result<String> {
    let kept = binary.with_file_name("agnhost.tag");
    if let Ok(tag) = std::fs::read_to_string(&kept) {
        return Ok(tag);
    }
    let dir = AGNHOST.dependency(paths, "k8s.io/kubernetes")?;
    let table = std::fs::read_to_string(dir.join("test/utils/image/manifest.go"))
        .with_context(|| format!("Kubernetes' table of test images is not in {}", dir.display()))?;
    let line =
        table.lines().find(|l| l.contains("configs[Agnhost] =")).context("the table of test images has no agnhost")?;
    let tag = line
        .split('"')
        .rfind(|part| part.starts_with(|c: char| c.is_ascii_digit()))
        .context("agnhost has no version")?;
    std::fs::write(&kept, tag)?;
    Ok(tag.to_owned())
}

/// Everything that must be built before a cluster can start.
pub fn prerequisites() -> Vec<Binary> {
    let mut binaries = crate::gobuild::CLUSTER.to_vec();
    debug_assert!(binaries.contains(&KUBE));
    binaries.push(crate::gobuild::HELM);
    binaries
}
