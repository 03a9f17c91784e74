//! Compiles the protocol without protoc.

use std::io;

fn main() -> io::Result<()> {
    let files = ["proto/nodesync.proto", "proto/tables.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"]).map_err(io::Error::other)?;
    // Sorted maps: equal rows must have equal bytes, because their hashes are compared.
    let build = tonic_prost_build::configure()
        .btree_map(".")
        .codec_path("crate::codec::Fitting")
        // Encoded once, sent to many: see there.
        .extern_path(".axoneme.nodesync.v1.Row", "crate::row::Row");
    build.compile_fds(descriptors)
}
