//! Reading what daemons and container runtimes count.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;

/// Metrics in the text format of Prometheus.
#[derive(Debug, Clone)]
pub struct Metrics(String);

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The node daemon of this project, as the chart configures it.
    Daemon,
    /// containerd, as the harness configures it.
    Containerd,
}

impl Cluster {
    /// Metrics of node `index`.
    pub fn node_metrics(&self, index: u8, source: Source) -> Result<Metrics> {
        let (port, path) = match source {
            Source::Daemon => (9962, "/metrics"),
            Source::Containerd => (1338, "/v1/metrics"),
        };
        let address = self.folder.expect()?.addresses().node(index)[0].addr();
        let what = || format!("no metrics of {source:?} from {}", self.folder.node_name(index));
        fetch(SocketAddr::new(address, port), path).with_context(what)
    }
}

fn fetch(address: SocketAddr, path: &str) -> Result<Metrics> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(Metrics(body.to_owned())),
        _ => bail!("{address} answers: {}", answer.lines().next().unwrap_or("nothing")),
    }
}

impl Metrics {
    /// The sum of all series of a metric whose labels contain `labels`.
    pub fn sum(&self, name: &str, labels: &str) -> f64 {
        self.series(name, labels).map(|(_, value)| value).sum()
    }

    /// A histogram, over all series whose labels contain `labels`.
    pub fn histogram(&self, name: &str, labels: &str) -> Histogram {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (series, count) in self.series(&format!("{name}_bucket"), labels) {
            let bound = series.split("le=\"").nth(1).and_then(|b| b.split('"').next()).unwrap_or_default();
            let bound = bound.parse().unwrap_or(f64::INFINITY);
            match buckets.iter_mut().find(|(b, _)| *b == bound) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Histogram {
            buckets,
            sum: self.sum(&format!("{name}_sum"), labels),
            count: self.sum(&format!("{name}_count"), labels),
        }
    }

    fn series<'a>(&'a self, name: &'a str, labels: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0
            .lines()
            .filter(move |line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter_map(move |line| {
                let (series, value) = line.rsplit_once(' ')?;
                series.contains(labels).then_some((series, value.parse().ok()?))
            })
    }
}

/// A histogram: upper bounds with the number of values up to each, and all values' sum and number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    buckets: Vec<(f64, f64)>,
    sum: f64,
    /// How many values.
    pub count: f64,
}

impl Histogram {
    /// What came after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| earlier.buckets.iter().find(|(b, _)| *b == bound).map_or(0.0, |(_, n)| *n);
        let buckets = self.buckets.iter().map(|(bound, n)| (*bound, n - before(*bound))).collect();
        Self { buckets, sum: self.sum - earlier.sum, count: self.count - earlier.count }
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// The bound of the bucket in which the quantile lies.
    pub fn quantile(&self, share: f64) -> f64 {
        self.buckets.iter().find(|(_, n)| *n >= self.count * share).map_or(f64::INFINITY, |(bound, _)| *bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_read_and_subtracted() {
        let text = |n: u32| {
            let (a, b) = (n, 2 * n);
            format!(
                "# TYPE x histogram\nx_bucket{{m=\"add\",le=\"0.1\"}} {a}\nx_bucket{{m=\"add\",le=\"+Inf\"}} {b}\nx_sum{{m=\"add\"}} {b}\nx_count{{m=\"add\"}} {b}\nx_count{{m=\"del\"}} 9\n"
            )
        };
        let read = |n| Metrics(text(n)).histogram("x", "m=\"add\"");
        let new = read(3).since(&read(1));
        assert_eq!((new.count, new.mean(), new.quantile(0.5)), (4.0, 1.0, 0.1));
    }
}
