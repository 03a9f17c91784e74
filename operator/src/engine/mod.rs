//! The one task that owns index, compiler and journal.
//!
//! ```text
//! let (engine, handle, outputs) = Engine::new(Config::new(settings), epoch);
//! tokio::spawn(engine.run());                 // ends when the last handle is gone
//!
//! handle.send(Input::Upsert(object)).await    // watch/, server's observations
//! outputs.demands                             // watch::Receiver<Arc<Demands>>: identity/, ipam/
//! outputs.reports                             // mpsc::UnboundedReceiver<Report>: status/
//!
//! handle.catch_up(&hello).await                           // publish/server, after the certificate was checked
//! let mut session = handle.open(&node, &hello)?;
//! send(session.welcome());                                // Welcome without `operators`, to be filled in
//! loop { select! {
//!     news = session.next() => send(news?),               // a chunk or a Told; cancel safe; waits for the window
//!     message = stream.next() => session.ack(ack),        // Ack
//! } }
//! drop(session)                                           // says Closed itself
//! ```

mod barrier;
mod core;
mod demands;
mod freshness;
mod input;
mod ledger;
mod mailbox;
mod metrics;
mod policies;
mod pools;
mod publication;
mod release;
mod reports;
mod task;
#[cfg(test)]
mod tests;

pub use barrier::Telling;
pub use core::{Config, Core, Outcome};

pub use demands::{
    AddressDemand, Adoption, Demands, Families, IdentityDemand, NodeDemand, Release, Unmet, UnmetReason,
};
pub use freshness::CaughtUp;
pub use input::{Input, Observed, SessionEvent};
pub use metrics::PodMetrics;
pub use pools::{MultiPool, PreAllocation, take_back};
pub use reports::{Diagnostic, EndpointReport, EndpointState, Reason, Report};
pub use task::{Engine, EngineEnded, Handle, News, Outputs, Session, SessionEnded};
