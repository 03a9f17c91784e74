//! Prints the definitions, or writes them as files: `crdgen [directory]`.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    match env::args_os().nth(1) {
        None => print!("{}", axoneme_crds::to_yaml()?),
        Some(directory) => {
            for manifest in axoneme_crds::manifests()? {
                fs::write(Path::new(&directory).join(manifest.file), manifest.yaml)?;
            }
        }
    }
    Ok(())
}
