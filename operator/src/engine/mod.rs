//! The one task that owns index, compiler and journal.
//!
//! ```text
//! let (engine, handle, outputs) = Engine::new(config);
//! tokio::spawn(engine.run());                 // ends when the last handle is gone
//!
//! handle.send(Input::Upsert(object)).await    // watch/, server's observations
//! outputs.demands                             // watch::Receiver<Arc<Demands>>: identity/, ipam/
//! outputs.reports                             // mpsc::UnboundedReceiver<Report>: status/
//!
//! let mut session = handle.open(node, hello).await?;      // publish/server, after the certificate was checked
//! send(session.welcome());                                // Welcome without `operators`, to be filled in
//! loop { select! {
//!     delta = session.next() => send(delta?),             // one chunk; cancel safe; waits for news and for the window
//!     message = stream.next() => session.ack(ack).await,  // Ack
//! } }
//! drop(session)                                           // says Closed itself
//! ```

mod demands;
mod input;
mod reports;

pub use demands::{
    AddressDemand, Adoption, Demands, Families, IdentityDemand, NodeDemand, Release, Unmet, UnmetReason,
};
pub use input::{Input, Observed, SessionEvent};
pub use reports::{Diagnostic, EndpointReport, EndpointState, Reason, Report};
