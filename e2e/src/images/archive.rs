//! The archive format: one layer, its config, and a manifest that names both.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// What stands at a path of an image.
#[derive(Debug, Clone)]
pub enum Content {
    /// A copy of a file of this machine, executable.
    File(PathBuf),
    /// A symbolic link.
    Link(String),
    /// An empty folder that everybody may write to.
    Folder,
}

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Registry, name and tag.
    pub name: String,
    entries: Vec<(String, Content)>,
    entrypoint: Vec<String>,
    command: Vec<String>,
}

impl Image {
    /// An image that holds nothing but `/tmp`.
    pub fn new(name: impl Into<String>) -> Self {
        let entries = vec![("tmp".to_owned(), Content::Folder)];
        Self { name: name.into(), entries, entrypoint: Vec::new(), command: Vec::new() }
    }

    /// Adds a path, without a leading slash.
    pub fn entry(mut self, path: impl Into<String>, content: Content) -> Self {
        self.entries.push((path.into(), content));
        self
    }

    /// What runs in a container.
    pub fn entrypoint(mut self, program: &str) -> Self {
        self.entrypoint.push(program.to_owned());
        self
    }

    /// Its default arguments.
    pub fn command(mut self, argument: &str) -> Self {
        self.command.push(argument.to_owned());
        self
    }

    /// Writes the archive into `dir`, unless it is there, and gives its path. The name of the file tells its content, so
    /// that a node can tell whether it has it.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        let short = self.name.rsplit('/').next().unwrap_or(&self.name).replace(':', "-");
        let path = dir.join(format!("{short}-{}.tar", self.fingerprint()?));
        if path.exists() {
            return Ok(path);
        }
        std::fs::create_dir_all(dir)?;
        remove_older(dir, &short);
        let layer = tempfile::NamedTempFile::new_in(dir)?;
        self.write_layer(layer.as_file())?;
        let digest = digest(layer.path())?;
        let config = serde_json::to_vec(&self.config(&digest))?;
        let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
        let layer_name = format!("{digest}/layer.tar");
        let manifest = json!([{"Config": config_name, "RepoTags": [self.name], "Layers": [layer_name]}]);

        let unfinished = tempfile::NamedTempFile::new_in(dir)?;
        let mut archive = Builder::new(BufWriter::new(unfinished.as_file()));
        append_bytes(&mut archive, &config_name, &config)?;
        let mut header = header(EntryType::Regular, 0o644);
        header.set_size(layer.path().metadata()?.len());
        archive.append_data(&mut header, &layer_name, File::open(layer.path())?)?;
        append_bytes(&mut archive, "manifest.json", &serde_json::to_vec(&manifest)?)?;
        archive.into_inner()?.flush()?;
        unfinished.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn write_layer(&self, file: &File) -> Result<()> {
        let mut layer = Builder::new(BufWriter::new(file));
        let mut folders = Vec::new();
        for (path, content) in &self.entries {
            for parent in Path::new(path)
                .ancestors()
                .skip(1)
                .filter(|p| *p != Path::new(""))
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
            {
                if !folders.contains(&parent.to_owned()) {
                    layer.append_data(&mut header(EntryType::Directory, 0o755), parent, std::io::empty())?;
                    folders.push(parent.to_owned());
                }
            }
            match content {
                Content::Folder => {
                    layer.append_data(&mut header(EntryType::Directory, 0o1777), path, std::io::empty())?
                }
                Content::Link(target) => layer.append_link(&mut header(EntryType::Symlink, 0o777), path, target)?,
                Content::File(source) => {
                    let file =
                        File::open(source).with_context(|| format!("{} needs {}", self.name, source.display()))?;
                    let mut header = header(EntryType::Regular, 0o755);
                    header.set_size(file.metadata()?.len());
                    layer.append_data(&mut header, path, file)?;
                }
            }
        }
        layer.into_inner()?.flush()?;
        Ok(())
    }

    fn config(&self, layer: &str) -> serde_json::Value {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Cmd": self.command, "Env": ["PATH=/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
            "history": [{"created_by": "axoneme-e2e"}],
        })
    }

    /// A hash of the image's description and of its files' sizes and times: reading all files each time would be slow.
    fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!("{self:?}"));
        for (_, content) in &self.entries {
            if let Content::File(source) = content {
                let data =
                    std::fs::metadata(source).with_context(|| format!("{} needs {}", self.name, source.display()))?;
                hash.update(format!("{} {}.{}", data.size(), data.mtime(), data.mtime_nsec()));
            }
        }
        Ok(hex(&hash.finalize()[..6]))
    }
}

/// Earlier archives of the same image: nothing refers to them any more.
fn remove_older(dir: &Path, short: &str) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name
            .strip_prefix(short)
            .is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".tar") && rest.len() == 17)
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header
}

fn append_bytes<W: Write>(archive: &mut Builder<W>, name: &str, bytes: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, 0o644);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, name, bytes)?;
    Ok(())
}

fn digest(file: &Path) -> Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(file)?, Sha256::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_names_its_image_and_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, "#!").unwrap();
        let image = Image::new("localhost/test:1")
            .entry("usr/bin/program", Content::File(program))
            .entrypoint("/usr/bin/program");
        let first = image.write(dir.path()).unwrap();
        let written = first.metadata().unwrap().ino();
        assert_eq!(image.write(dir.path()).unwrap(), first);
        assert_eq!(first.metadata().unwrap().ino(), written);

        let mut archive = tar::Archive::new(File::open(&first).unwrap());
        let mut manifest = String::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap() == Path::new("manifest.json") {
                entry.read_to_string(&mut manifest).unwrap();
            }
        }
        assert!(manifest.contains("localhost/test:1"), "{manifest}");
    }
}
