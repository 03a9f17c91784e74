//! The programs' counters as Cilium's metrics, read when somebody asks.

use std::io;

use axoneme_bpf::metrics::{Metrics, MetricsKey, Reason};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use super::reason;

/// Where counters are read from.
pub trait Counters: Send + Sync + 'static {
    /// All of them, summed over CPUs.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn read(&self) -> io::Result<Vec<(MetricsKey, Metrics)>>;
}

impl Counters for crate::maps::per_cpu::Counters {
    fn read(&self) -> io::Result<Vec<(MetricsKey, Metrics)>> {
        Self::read(self)
    }
}

/// Shows [`Counters`] as metrics.
#[derive(Debug)]
pub struct Packets<C>(pub C);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Dropped {
    direction: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Forwarded {
    direction: String,
}

impl<C: Counters + std::fmt::Debug> Collector for Packets<C> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counters = match self.0.read() {
            Ok(counters) => counters,
            Err(err) => {
                tracing::warn!(%err, "packet counters cannot be read");
                return Ok(());
            }
        };
        let dropped = |counters: &[(MetricsKey, Metrics)]| {
            let drops = counters.iter().filter(|(key, _)| key.reason.is_drop());
            drops.map(|(key, value)| (labels(key), *value)).collect::<Vec<_>>()
        };
        let forwarded = || {
            let forwarded = counters.iter().filter(|(key, _)| key.reason == Reason::FORWARDED);
            forwarded.map(|(key, value)| (Forwarded { direction: direction(key) }, *value))
        };
        let drops = dropped(&counters);
        let packets = drops.iter().map(|(labels, value)| (labels.clone(), value.packets));
        family(&mut encoder, "cilium_drop_count", "Dropped packets, by reason and direction", packets)?;
        let bytes = drops.iter().map(|(labels, value)| (labels.clone(), value.bytes));
        family(&mut encoder, "cilium_drop_bytes", "Dropped bytes, by reason and direction", bytes)?;
        let packets = forwarded().map(|(labels, value)| (labels, value.packets));
        family(&mut encoder, "cilium_forward_count", "Forwarded packets, by direction", packets)?;
        let bytes = forwarded().map(|(labels, value)| (labels, value.bytes));
        family(&mut encoder, "cilium_forward_bytes", "Forwarded bytes, by direction", bytes)?;
        let counted = |reason| {
            let of = counters.iter().filter(move |(key, _)| key.reason == reason);
            of.map(|(key, value)| (Forwarded { direction: direction(key) }, value.packets))
        };
        let help =
            "Packets that passed and that policies which only audit would have dropped, once a flow, by direction";
        family(&mut encoder, "axoneme_policy_audited", help, counted(Reason::AUDITED))?;
        let help =
            "Packets of which nothing could be told, because what programs tell was not read in time, by direction";
        family(&mut encoder, "axoneme_events_lost", help, counted(Reason::EVENT_LOST))
    }
}

fn labels(key: &MetricsKey) -> Dropped {
    let reason = reason::text(key.reason).map_or_else(|| key.reason.to_string(), str::to_owned);
    Dropped { direction: direction(key), reason }
}

/// In capitals, as Cilium's metrics have it.
fn direction(key: &MetricsKey) -> String {
    key.direction.to_string().to_ascii_uppercase()
}

fn family<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (L, u64)>,
) -> Result<(), std::fmt::Error> {
    let kind = prometheus_client::metrics::MetricType::Counter;
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axoneme_bpf::inet::Direction;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[derive(Debug)]
    struct Fixed;

    impl Counters for Fixed {
        fn read(&self) -> io::Result<Vec<(MetricsKey, Metrics)>> {
            let counted = |reason, packets| {
                (MetricsKey { reason, direction: Direction::INGRESS }, Metrics { packets, bytes: packets * 100 })
            };
            let others = [counted(Reason::EVENT_LOST, 1), counted(Reason::AUDITED, 2)];
            Ok([counted(Reason::FORWARDED, 7), counted(Reason::POLICY_DENY, 3)].into_iter().chain(others).collect())
        }
    }

    #[test]
    fn counters_have_the_names_that_dashboards_know() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Packets(Fixed)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "cilium_drop_count_total{direction=\"INGRESS\",reason=\"Policy denied by denylist\"} 3",
                "cilium_drop_bytes_total{direction=\"INGRESS\",reason=\"Policy denied by denylist\"} 300",
                "cilium_forward_count_total{direction=\"INGRESS\"} 7",
                "cilium_forward_bytes_total{direction=\"INGRESS\"} 700",
                "axoneme_policy_audited_total{direction=\"INGRESS\"} 2",
                "axoneme_events_lost_total{direction=\"INGRESS\"} 1",
            ]
        );
    }
}
