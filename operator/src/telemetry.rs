//! How the operator can be looked at: logs, health, metrics.

mod health;
mod http;
mod logging;

pub use health::{Health, Phase};
pub use http::{ServeError, listen, serve};
pub use logging::{LoggingError, init};
