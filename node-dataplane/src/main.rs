//! The node daemon and its loader.

use std::process::ExitCode;

use axoneme_node::config::{Command, Flags, HELP};
use axoneme_node::{app, telemetry};

fn main() -> ExitCode {
    app::memory::tune();
    let result = match Command::parse(std::env::args().skip(1)) {
        Ok(Command::Version) => {
            println!("axoneme-node {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Ok(Command::Help) => {
            print!("{HELP}");
            Ok(())
        }
        Ok(Command::Probe(probe)) => probe.run().map_err(Into::into),
        Ok(Command::Ask(question)) => question.ask(),
        Ok(Command::Check(check)) => match check.run() {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(err) => Err(err),
        },
        Ok(Command::Load(flags)) => logged(&flags).and_then(|()| app::load_programs(&flags)),
        Ok(Command::Cleanup { flags, stay }) => {
            logged(&flags).and_then(|()| app::runtime()?.block_on(app::cleanup::run(&flags, stay)))
        }
        Ok(Command::Agent(flags)) => logged(&flags).and_then(|()| app::runtime()?.block_on(app::run(flags))),
        Err(err) => Err(err.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("axoneme-node: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn logged(flags: &Flags) -> anyhow::Result<()> {
    telemetry::log(&flags.log, flags.log_json)?;
    Ok(())
}
