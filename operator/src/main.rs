//! The operator's process.

use std::process::ExitCode;

use axoneme_operator::config::Flags;
use axoneme_operator::{app, uninstall};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // A program of its own in all but the file: it has nothing of the operator's flags.
    let mut arguments = std::env::args_os().skip(1).peekable();
    let result = match arguments.peek().is_some_and(|verb| verb == "uninstall") {
        true => uninstall::run(uninstall::Flags::parse_from(arguments)).await,
        false => app::run(Flags::parse()).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("axoneme-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
