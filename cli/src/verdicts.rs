//! `axoneme policy verdicts`: what became of flows on nodes, and which rule of which policy decided.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use axoneme_admin::output::{Format, print};
use axoneme_admin::show::{self, VERDICT_COLUMNS};
use axoneme_admin::table::Table;
use axoneme_admin::verdict::{End, Outcome, Verdict};

use crate::cluster::Cluster;
use crate::list::{Filter, List, On, ask};

/// How often nodes are asked while somebody follows.
const AGAIN: Duration = Duration::from_secs(1);

/// Which verdicts are wanted.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only those about pods that begin with this: NAMESPACE or NAMESPACE/POD
    select: Option<String>,
    /// Only what these nodes tell
    #[arg(long = "node", value_name = "NODE")]
    nodes: Vec<String>,
    /// Only these; more than one may be given
    #[arg(long = "verdict", value_name = "VERDICT")]
    outcomes: Vec<Outcome>,
    /// Only those by policies that begin with this: NAMESPACE, NAMESPACE/NAME, or the name of one without a namespace
    #[arg(long)]
    policy: Option<String>,
    /// So many of the newest
    #[arg(long, default_value_t = 50)]
    last: usize,
    /// Goes on as they come, until it is interrupted
    #[arg(short, long)]
    pub follow: bool,
}

impl Options {
    fn wants(&self, verdict: &Verdict) -> bool {
        let by = |select: &Option<String>| Filter { select: select.clone(), ..Filter::default() };
        let about = |end: &End| {
            let name = end.pod.as_deref().and_then(|pod| pod.split_once('/'));
            name.is_some_and(|(namespace, name)| by(&self.select).selects(namespace, name))
        };
        let decided = self.policy.is_none()
            || verdict.policy.as_ref().is_some_and(|policy| match &*policy.namespace {
                "" => by(&self.policy).selects_one(&policy.name),
                namespace => by(&self.policy).selects(namespace, &policy.name),
            });
        (self.outcomes.is_empty() || self.outcomes.contains(&verdict.outcome))
            && (self.select.is_none() || about(&verdict.source) || about(&verdict.destination))
            && decided
    }
}

/// What nodes tell now: the newest, oldest first.
///
/// # Errors
/// When the API server does not tell which nodes there are.
pub async fn verdicts(cluster: &Cluster, options: &Options, colours: bool) -> Result<List<On<Verdict>>> {
    let (told, silent) = told(cluster, options).await?;
    let skipped = told.len().saturating_sub(options.last);
    let items: Vec<_> = told.into_iter().skip(skipped).collect();
    let table = table(&items, colours);
    Ok(List { items, silent, table })
}

/// Goes on printing what nodes tell, each verdict once.
///
/// # Errors
/// When the API server does not tell which nodes there are, or nobody reads any more.
pub async fn follow(cluster: &Cluster, options: &Options, format: Format, colours: bool) -> Result<()> {
    let mut seen = Seen::default();
    loop {
        let (told, silent) = told(cluster, options).await?;
        let first = seen.is_empty();
        let mut new = seen.unseen(told);
        if first {
            new.drain(..new.len().saturating_sub(options.last));
        }
        let text = match format {
            Format::Json => new.iter().map(|one| Ok(serde_json::to_string(one)? + "\n")).collect::<Result<String>>()?,
            Format::Table if first => table(&new, colours),
            // The header stands above already.
            Format::Table => table(&new, colours).lines().skip(1).map(|line| format!("{line}\n")).collect(),
        };
        print(&text)?;
        silent.iter().for_each(|silent| crate::tell(&format!("no answer from {silent}")));
        tokio::time::sleep(AGAIN).await;
    }
}

/// What was printed already, by node.
#[derive(Debug, Default)]
struct Seen {
    newest: BTreeMap<String, u64>,
}

impl Seen {
    fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// Those that were not there before. A daemon that was restarted counts from the beginning.
    fn unseen(&mut self, told: Vec<On<Verdict>>) -> Vec<On<Verdict>> {
        let nodes: BTreeSet<String> = told.iter().map(|one| one.seen_on.clone()).collect();
        let newest = |node: &String| told.iter().filter(|one| one.seen_on == *node).map(|one| one.item.number).max();
        let newest: BTreeMap<String, u64> =
            nodes.iter().map(|node| (node.clone(), newest(node).unwrap_or_default())).collect();
        let before = std::mem::take(&mut self.newest);
        let is_new = |one: &On<Verdict>| {
            let known = before.get(&one.seen_on).copied().unwrap_or_default();
            let restarted = newest.get(&one.seen_on).is_some_and(|newest| *newest < known);
            restarted || one.item.number > known
        };
        let new = told.iter().filter(|one| is_new(one)).cloned().collect();
        self.newest = before;
        self.newest.extend(newest);
        new
    }
}

async fn told(cluster: &Cluster, options: &Options) -> Result<(Vec<On<Verdict>>, Vec<String>)> {
    let filter = Filter { nodes: options.nodes.clone(), ..Filter::default() };
    let (told, silent) = ask::<Verdict>(cluster, &filter, "verdict").await?;
    let on = |(node, verdicts): (String, Vec<Verdict>)| {
        verdicts.into_iter().map(move |item| On { seen_on: node.clone(), item })
    };
    let mut all: Vec<_> = told.into_iter().flat_map(on).filter(|one| options.wants(&one.item)).collect();
    all.sort_by(|one, other| one.item.time.cmp(&other.item.time).then(one.item.number.cmp(&other.item.number)));
    Ok((all, silent))
}

fn table(verdicts: &[On<Verdict>], colours: bool) -> String {
    let mut table = Table::new(&VERDICT_COLUMNS);
    for one in verdicts {
        show::verdicts(&mut table, &one.seen_on, [&one.item]);
    }
    table.render(colours)
}

#[cfg(test)]
mod tests {
    use axoneme_admin::verdict::Policy;
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Options {
        Line::try_parse_from(std::iter::once("verdicts").chain(line.split_whitespace())).unwrap().options
    }

    fn verdict() -> Verdict {
        let end = |pod: Option<&str>| End { pod: pod.map(str::to_owned), ..End::default() };
        Verdict {
            outcome: Outcome::Audited,
            source: end(None),
            destination: end(Some("shop/db-0")),
            policy: Some(Policy::named("networkpolicy:shop/db")),
            ..Verdict::default()
        }
    }

    #[test]
    fn verdicts_are_selected_by_pod_policy_and_outcome() {
        for line in
            ["", "shop", "shop/db", "--policy shop/db", "--verdict audited", "--verdict allowed --verdict audited"]
        {
            assert!(options(line).wants(&verdict()), "{line}");
        }
        for line in ["web", "shop/web", "--policy shop/other", "--policy db", "--verdict dropped"] {
            assert!(!options(line).wants(&verdict()), "{line}");
        }
        let clusterwide = Verdict { policy: Some(Policy::named("clusternetworkpolicy:deny")), ..verdict() };
        assert!(options("--policy deny").wants(&clusterwide) && !options("--policy shop").wants(&clusterwide));
    }

    #[test]
    fn each_verdict_is_told_once_also_when_a_daemon_begins_anew() {
        let told = |node: &str, numbers: &[u64]| -> Vec<On<Verdict>> {
            let one = |number: &u64| On { seen_on: node.into(), item: Verdict { number: *number, ..verdict() } };
            numbers.iter().map(one).collect()
        };
        let mut seen = Seen::default();
        let mut new = |node: &str, numbers: &[u64]| -> Vec<u64> {
            seen.unseen(told(node, numbers)).iter().map(|one| one.item.number).collect()
        };
        assert_eq!(new("n1", &[6, 7]), [6, 7]);
        assert_eq!(new("n2", &[1]), [1]);
        assert_eq!(new("n1", &[6, 7, 8]), [8]);
        assert_eq!(new("n1", &[]), [0; 0]);
        assert_eq!(new("n1", &[1, 2]), [1, 2], "it was restarted");
        assert_eq!(new("n1", &[1, 2, 3]), [3]);
    }
}
