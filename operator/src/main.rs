//! The operator's process.

use std::process::ExitCode;

use axoneme_operator::config::{Flags, Question};
use axoneme_operator::{app, memory, uninstall};
use clap::Parser;

fn main() -> ExitCode {
    memory::one_heap_a_cpu();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let verb = arguments.peek().and_then(|first| first.to_str());
    // Programs of their own in all but the file: they have nothing of the operator's flags.
    let result = match verb {
        Some("uninstall") => uninstall::run(uninstall::Flags::parse_from(arguments)).await,
        Some(_) if Question::is_asked(verb) => Question::parse().ask(),
        _ => app::run(Flags::parse()).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("axoneme-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
