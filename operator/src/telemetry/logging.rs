//! Logs: lines for people on a terminal, JSON for everything else.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// What cannot be logged.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The flag is no filter.
    #[error("--log: {0}")]
    Filter(#[from] ParseError),
    /// Logging was set up before.
    #[error("logging is set up already")]
    Twice,
}

/// Sets up logging to standard error for the process.
///
/// # Errors
/// When `filter` is none.
pub fn init(filter: &str) -> Result<(), LoggingError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = if std::io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    result.map_err(|_| LoggingError::Twice)
}
