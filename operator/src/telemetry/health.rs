//! What the operator is doing, for probes and people.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// Where an operator is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has not found out yet whether it leads.
    Starting,
    /// Another one leads: ready, as it would take over at any time.
    StandingBy {
        /// Who.
        leader: String,
    },
    /// It must not lead.
    Refusing {
        /// Why.
        reason: String,
    },
    /// It leads and does what has to be done before nodes can be served.
    Preparing {
        /// What.
        step: &'static str,
    },
    /// It leads and serves nodes.
    Leading,
    /// It was told to stop.
    Stopping,
}

impl Phase {
    /// Whether all is well.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::StandingBy { .. } | Self::Leading)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::StandingBy { leader } => write!(f, "standing by, {leader} leads"),
            Self::Refusing { reason } => write!(f, "does not lead: {reason}"),
            Self::Preparing { step } => write!(f, "leads, not yet serving: {step}"),
            Self::Leading => f.write_str("leads"),
            Self::Stopping => f.write_str("stopping"),
        }
    }
}

/// The phase, shared.
#[derive(Clone, Debug)]
pub struct Health(Arc<ArcSwap<Phase>>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Phase::Starting)))
    }
}

impl Health {
    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        let former = self.0.swap(Arc::new(phase));
        let now = self.0.load();
        if **now != *former {
            tracing::info!(phase = %now, "now");
        }
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Arc<Phase> {
        self.0.load_full()
    }
}
