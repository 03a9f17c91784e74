//! Compiles the BPF programs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Older ones lack enums with a fixed type in C.
const OLDEST_CLANG: u32 = 17;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for folder in ["include", "lib", "progs"] {
        println!("cargo:rerun-if-changed={folder}");
    }
    println!("cargo:rerun-if-env-changed=CLANG");

    let object = PathBuf::from(env::var("OUT_DIR")?).join("axoneme.o");
    let clang = find_clang()?;
    let mut compile = Command::new(&clang);
    compile
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-std=gnu23"])
        .args(["-Wall", "-Wextra", "-Werror", "-Wno-unused-function"])
        .args(["-I", "include"]);
    // Debian keeps <asm/types.h> in a folder of the architecture, which clang does not look into for another target.
    let multiarch = format!("{}-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH")?);
    let native = Path::new("/usr/include").join(&multiarch);
    // A cross compiler's headers stand apart.
    let cross = Path::new("/usr").join(&multiarch).join("include");
    if let Some(folder) = [native, cross].into_iter().find(|folder| folder.exists()) {
        compile.arg("-I").arg(folder);
    }
    run(compile.args(["-c", "progs/axoneme.c", "-o"]).arg(&object), "apt install clang-19 linux-libc-dev")?;
    // The maps' BTF stays; DWARF is ten times its size.
    run(Command::new(strip_beside(&clang)).arg("-g").arg(&object), "apt install llvm-19")
}

fn find_clang() -> Result<String, String> {
    let candidates = match env::var("CLANG") {
        Ok(clang) => vec![clang],
        Err(_) => vec!["clang-19".to_owned(), "clang".to_owned()],
    };
    for clang in &candidates {
        if version(clang).is_some_and(|version| version >= OLDEST_CLANG) {
            return Ok(clang.clone());
        }
    }
    Err(format!("no clang >= {OLDEST_CLANG} among {candidates:?}: apt install clang-19 llvm-19 linux-libc-dev"))
}

/// Major version of a clang, if it can be run.
fn version(clang: &str) -> Option<u32> {
    let output = Command::new(clang).arg("-dumpversion").output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().split('.').next()?.parse().ok()
}

/// `clang-19` -> `llvm-strip-19`, `/opt/bin/clang` -> `/opt/bin/llvm-strip`.
fn strip_beside(clang: &str) -> PathBuf {
    let path = Path::new(clang);
    let name = path.file_name().map(|name| name.to_string_lossy().replacen("clang", "llvm-strip", 1));
    path.with_file_name(name.unwrap_or_else(|| "llvm-strip".to_owned()))
}

fn run(command: &mut Command, remedy: &str) -> Result<(), Box<dyn std::error::Error>> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} failed ({status})").into()),
        Err(error) => Err(format!("{command:?}: {error}; {remedy}").into()),
    }
}
