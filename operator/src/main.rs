//! The operator's process.

use std::process::ExitCode;

use axoneme_operator::{app, config::Flags};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match app::run(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("axoneme-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
