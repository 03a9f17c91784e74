//! Compiles the protocol without protoc.

use std::io;

fn main() -> io::Result<()> {
    let files = ["proto/nodesync.proto", "proto/tables.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"]).map_err(io::Error::other)?;
    tonic_prost_build::configure().bytes(".axoneme.nodesync.v1.Row.payload").compile_fds(descriptors)
}
