//! The `axoneme` command, also found by kubectl as `kubectl axoneme` when installed under the name `kubectl-axoneme`.

mod check;
mod cluster;
mod connectivity;
mod crds;
mod diff;
mod error;
mod explain;
mod gather;
mod lint;
mod list;
mod status;
mod verdicts;
mod version;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use axoneme_admin::explain::Flow;
use axoneme_admin::output::{Format, colours, print};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Serialize;

use cluster::{Access, Cluster};
use list::{Filter, List};

/// Tools for clusters whose network is Axoneme.
#[derive(Debug, Parser)]
#[command(
    name = "axoneme",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  axoneme status                        how the network is, what is wrong, what to do about it
  axoneme status --wait                 the same, as soon as all is well, or after five minutes
  axoneme endpoint list shop            pods of namespace shop: desired next to programmed
  axoneme service list --differing      what nodes' kernels do not have as desired
  axoneme policy list shop/deny -o json | jq
  axoneme policy explain --from shop/web --to shop/db --port 5432    whether it passes, and why
  axoneme policy verdicts shop          what became of flows of its pods, and which rules decided
  axoneme policy lint                   what is wrong with the policies that there are
  axoneme check                         whether nodes are fit, and what other networks have left there
  axoneme connectivity                  who reaches whom, end to end, with pods of its own

The cluster is the one that kubectl would speak with (KUBECONFIG, --context). Linked as kubectl-axoneme in the PATH, this
command is \"kubectl axoneme\", too. To install the network itself, use the Helm chart:
  helm install axoneme charts/axoneme --namespace kube-system \\
      --set k8sServiceHost=ADDRESS --set k8sServicePort=PORT"
)]
struct Arguments {
    #[command(flatten)]
    access: Access,
    /// table (with colours on a terminal) or json
    #[arg(short, long, global = true, default_value = "table")]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How the network is, what is wrong, and what to do about it
    ///
    /// Asks all operators and daemons. Fails (exit code 1) when something keeps the network from its work; warnings do not
    /// count.
    ///
    ///   axoneme status
    ///   axoneme status --wait --wait-duration 90s && kubectl apply -f app.yaml
    ///   axoneme status -o json | jq '.nodes[] | select(.status.progress.failing > 0)'
    #[command(verbatim_doc_comment)]
    Status {
        /// Waits until all is well
        #[arg(long)]
        wait: bool,
        /// For how long at most, like 90s, 5m or 1h
        #[arg(long, value_parser = duration, default_value = "5m")]
        wait_duration: Duration,
    },
    /// Whether nodes are fit for this network, and what is in its way, with what to do about each
    ///
    /// Looks at kernel, BTF, control groups, mounts, ports, and at what other networks have left: configurations, devices,
    /// firewall chains, pinned programs. Where a daemon runs, it is asked; where none does yet, a pod with the host's files looks
    /// for a moment. Fails (exit code 1) when something is bad.
    ///
    ///   axoneme check --image REGISTRY/axoneme/node:TAG      before an install
    ///   axoneme check                                        after it
    ///   axoneme check --node n1 --all                        also what is as it should be
    #[command(verbatim_doc_comment)]
    Check(check::Options),
    /// Checks who reaches whom in the cluster, end to end
    ///
    /// Makes a few pods of the node's own image in a namespace of their own: on one node and across two, through a service, by
    /// the cluster's DNS, to and from hosts, with a NetworkPolicy applied and removed. All of it is deleted when the check ends. Fails (exit code 1)
    /// when something is not as it should be.
    ///
    ///   axoneme connectivity
    ///   axoneme connectivity --outside 192.0.2.80:443 -o json
    #[command(verbatim_doc_comment)]
    Connectivity(connectivity::Options),
    /// Prints the versions of this command and of what runs in the cluster
    Version {
        /// Only this command's
        #[arg(long)]
        client: bool,
    },
    /// Nodes, and how many nodes' kernels have each as desired
    Node(Listing),
    /// Pods: identity and addresses as desired next to those in their node's kernel
    ///
    ///   axoneme endpoint list                    all pods
    ///   axoneme endpoint list shop/web-          pods of namespace shop whose names begin with web-
    ///   axoneme endpoint list --node n1 --differing
    #[command(verbatim_doc_comment)]
    Endpoint(Listing),
    /// Identities, their labels, and how many of their pods' addresses each node resolves to them
    Identity(Listing),
    /// What policies do: to pods of each identity, or to one flow and why
    Policy(PolicyVerbs),
    /// Services: frontends and backends as desired next to those in nodes' kernels
    Service(Listing),
    /// Prints the cilium.io definitions as YAML
    ///
    /// The operator applies them by itself. Apply them by hand where an operator may not, or to have them before it starts:
    ///
    ///   axoneme crds | kubectl apply --server-side -f -
    ///
    /// Definitions in a cluster are only replaced by ones with a higher io.cilium.k8s.crd.schema.version label; kubectl does
    /// not look at it, so compare before you apply an older release's:
    ///
    ///   kubectl get crd -L io.cilium.k8s.crd.schema.version
    #[command(verbatim_doc_comment)]
    Crds {
        /// Only these kinds, by plural or short name, e.g. ciliumnodes or cep
        kinds: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Listing {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists them; what is not as desired is marked
    List(Filter),
}

#[derive(Debug, clap::Args)]
struct PolicyVerbs {
    #[command(subcommand)]
    verb: PolicyVerb,
}

#[derive(Debug, Subcommand)]
enum PolicyVerb {
    /// What is enforced on pods of each identity: "in" and "out", rules (r) and classes of CIDRs (c)
    ///
    ///   axoneme policy list                      everything
    ///   axoneme policy list shop/deny            pods that NetworkPolicy deny of namespace shop selects
    ///   axoneme policy list 12345                pods of one identity
    #[command(verbatim_doc_comment)]
    List(Filter),
    /// Whether packets of a flow would pass, which rules decide it, and whether nodes enforce them already
    ///
    /// Asks the operator that leads, which compiles what nodes enforce. A flow to a service is explained for each of its
    /// endpoints. Succeeds (exit code 0) whatever the answer is; scripts read it with -o json.
    ///
    ///   axoneme policy explain --from shop/web --to shop/db --port 5432
    ///   axoneme policy explain --from shop/web --to service/kube-system/kube-dns --port 53/UDP
    ///   axoneme policy explain --from 192.0.2.7 --to shop/web --port 80/TCP -o json | jq .allowed
    ///   axoneme policy explain --from host --to shop/web --port 8/ICMP
    #[command(verbatim_doc_comment)]
    Explain(Flow),
    /// Which flows a change would allow or deny, before it is made
    ///
    /// Compares what there is now with what there would be, as nodes would judge: for pods that are alike, nodes, and what is
    /// outside. Works on a cluster, or on folders of manifests, where Deployments and the like stand for their pods. Fails (exit
    /// code 1) when something would be allowed or denied that is not now.
    ///
    ///   axoneme policy diff -f new-policy.yaml
    ///   axoneme policy diff --delete NetworkPolicy/shop/db --label-namespace shop:team=b
    ///   axoneme policy diff -f new-policy.yaml --in manifests/ -o json | jq '.flips[]'
    #[command(verbatim_doc_comment)]
    Diff(diff::Options),
    /// What became of flows: dropped, allowed or audited, and by which rule of which policy
    ///
    /// Nodes keep the newest thousand of what is allowed, and as many of the rest. A flow that is allowed is told when it begins,
    /// what policies that only audit would drop, too (annotation policy.axoneme.io/audit: "true"). Pods have the names that they
    /// have now.
    ///
    ///   axoneme policy verdicts shop                     flows of pods in namespace shop
    ///   axoneme policy verdicts --verdict dropped -f     drops as they come
    ///   axoneme policy verdicts --verdict audited --policy shop/db
    ///   axoneme policy verdicts -o json | jq '.items[].policy'
    #[command(verbatim_doc_comment)]
    Verdicts(verdicts::Options),
    /// What is wrong with the policies that there are: what is about nobody, or said by others, or opens more than is said of it
    ///
    /// Judges by the pods, nodes, Services and groups that there are now, in a cluster or in folders of manifests, where
    /// Deployments and the like stand for their pods. Fails (exit code 1) when something is found.
    ///
    ///   axoneme policy lint                      all policies
    ///   axoneme policy lint shop                 those of namespace shop
    ///   axoneme policy lint CiliumClusterwideNetworkPolicy/deny --ignore redundant
    ///   axoneme policy lint --in manifests/ -o json | jq '.findings[]'
    #[command(verbatim_doc_comment)]
    Lint(lint::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().next().as_deref()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&format!("error: {}", error::line(&error)));
            let server = arguments.access.config().await.ok().map(|config| config.cluster_url.to_string());
            if let Some(advice) = error::advice(&error, server.as_deref()) {
                tell(&format!("  -> {advice}"));
            }
            ExitCode::FAILURE
        }
    }
}

/// What was asked for; help calls the command as it was called.
fn arguments(called: Option<&str>) -> Result<Arguments, clap::Error> {
    let plugin = called.is_some_and(|path| path.rsplit('/').next() == Some("kubectl-axoneme"));
    let mut command = Arguments::command();
    if plugin {
        command = command.bin_name("kubectl axoneme");
    }
    Arguments::from_arg_matches(&command.get_matches())
}

/// Does it; whether all is well.
async fn run(arguments: &Arguments) -> Result<bool> {
    let show = Show { format: arguments.output, colours: colours(std::env::var("NO_COLOR").ok().as_deref()) };
    let connect = || Cluster::connect(&arguments.access);
    match &arguments.command {
        Command::Crds { kinds } => {
            print(&crds::crds(kinds)?)?;
            Ok(true)
        }
        Command::Version { client: true } => {
            let versions = version::Versions::own();
            show.print(&versions, || versions.render())
        }
        Command::Version { client: false } => {
            let overview = match connect().await {
                Ok(cluster) => status::overview(&cluster).await,
                Err(error) => Err(error),
            };
            let versions = overview.as_ref().map_or_else(|_| version::Versions::own(), version::Versions::of);
            show.print(&versions, || versions.render())?;
            overview.map(|_| true)
        }
        Command::Status { wait, wait_duration } => {
            let patience = if *wait { *wait_duration } else { Duration::ZERO };
            let overview = status::wait(&connect().await?, patience).await?;
            show.print(&overview, || status::render(&overview, show.colours))?;
            Ok(overview.healthy)
        }
        Command::Check(options) => {
            let looked = check::check(&connect().await?, options).await?;
            show.print(&looked, || check::render(&looked, options.all, show.colours))?;
            Ok(check::is_good(&looked))
        }
        Command::Connectivity(options) => {
            let report = connectivity::check(&connect().await?, options).await?;
            show.print(&report, || connectivity::render(&report, show.colours))?;
            Ok(report.passed)
        }
        Command::Node(Listing { verb: Verb::List(filter) }) => {
            show.list(&list::nodes(&connect().await?, filter, show.colours).await?)
        }
        Command::Endpoint(Listing { verb: Verb::List(filter) }) => {
            show.list(&list::endpoints(&connect().await?, filter, show.colours).await?)
        }
        Command::Identity(Listing { verb: Verb::List(filter) }) => {
            show.list(&list::identities(&connect().await?, filter, show.colours).await?)
        }
        Command::Policy(PolicyVerbs { verb: PolicyVerb::List(filter) }) => {
            show.list(&list::policies(&connect().await?, filter, show.colours).await?)
        }
        Command::Policy(PolicyVerbs { verb: PolicyVerb::Explain(flow) }) => {
            let explanation = explain::explain(&connect().await?, flow).await?;
            show.print(&explanation, || axoneme_admin::show::explanation(&explanation, show.colours))
        }
        Command::Policy(PolicyVerbs { verb: PolicyVerb::Diff(options) }) => {
            let report = diff::diff(&arguments.access, options).await?;
            show.print(&report, || diff::render(&report, show.colours))?;
            Ok(report.flips.is_empty())
        }
        Command::Policy(PolicyVerbs { verb: PolicyVerb::Verdicts(options) }) => {
            let cluster = connect().await?;
            if options.follow {
                verdicts::follow(&cluster, options, show.format, show.colours).await?;
            }
            show.list(&verdicts::verdicts(&cluster, options, show.colours).await?)
        }
        Command::Policy(PolicyVerbs { verb: PolicyVerb::Lint(options) }) => {
            let report = lint::lint(&arguments.access, options).await?;
            show.print(&report, || lint::render(&report, show.colours))?;
            Ok(report.findings.is_empty())
        }
        Command::Service(Listing { verb: Verb::List(filter) }) => {
            show.list(&list::services(&connect().await?, filter, show.colours).await?)
        }
    }
}

/// How results are shown.
#[derive(Clone, Copy)]
struct Show {
    format: Format,
    colours: bool,
}

impl Show {
    fn print(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<bool> {
        print(&self.format.text(value, text)?)?;
        Ok(true)
    }

    /// A list is not whole while somebody is silent.
    fn list<T: Serialize>(self, list: &List<T>) -> Result<bool> {
        self.print(list, || list.table.clone())?;
        list.silent.iter().for_each(|silent| tell(&format!("no answer from {silent}")));
        Ok(list.silent.is_empty())
    }
}

/// Says something beside what was asked for. Whoever does not want to hear it is not an error.
fn tell(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

/// Like 90s, 5m or 1h.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write 90s, 5m or 1h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "5", "m", "5d", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_have_filters() {
        let parse = |text: &str| Arguments::try_parse_from(text.split_whitespace()).unwrap();
        let Command::Endpoint(Listing { verb: Verb::List(filter) }) =
            parse("axoneme endpoint list shop/web --node n1 --node n2 --differing -o json").command
        else {
            panic!("not an endpoint list")
        };
        assert_eq!((filter.select.as_deref(), filter.nodes.len(), filter.differing), (Some("shop/web"), 2, true));
    }
}
