//! `axoneme policy lint`: what is wrong with the policies that there are.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use axoneme_admin::table::{Cell, Table, Tone};
use axoneme_operator::lint::{Code, Finding};
use axoneme_operator::object::{Kind, ObjectKey};
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use crate::cluster::Access;
use crate::gather::{self, Gathered};

const POLICIES: [Kind; 4] =
    [Kind::NetworkPolicy, Kind::CiliumNetworkPolicy, Kind::CiliumClusterwideNetworkPolicy, Kind::ClusterNetworkPolicy];

/// Which policies are told of, and what is.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only of these policies: NAMESPACE, NAMESPACE/NAME, KIND/NAMESPACE/NAME, or KIND/NAME of one without a namespace
    #[arg(value_name = "POLICIES")]
    select: Vec<String>,
    /// What is not told of
    #[arg(long, value_name = "FINDING", value_delimiter = ',', value_parser = PossibleValuesParser::new(Code::ALL.map(Code::as_str)))]
    ignore: Vec<String>,
    /// What there is: files and folders of manifests in place of a cluster, which is not asked then. Policies of nodes hold there,
    /// but for the ways that hostFirewall.emergencyPorts keeps open by default
    #[arg(long = "in", value_name = "FOLDER")]
    within: Vec<PathBuf>,
}

/// What is wrong with policies.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What it is.
    pub findings: Vec<Row>,
    /// How many policies were looked at.
    pub policies: usize,
    /// What could not be understood.
    pub notes: Vec<String>,
}

/// Something that is wrong with a policy.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The policy's kind.
    pub kind: String,
    /// Its namespace; empty if it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Path of the field, like `spec.ingress[0]`.
    pub field: String,
    /// What is wrong, in one word that stays the same.
    pub finding: &'static str,
    /// In words.
    pub message: String,
    /// What to do about it; empty where that is plain.
    pub advice: &'static str,
}

/// What is wrong with policies.
///
/// # Errors
/// When manifests cannot be read, the API server does not tell what there is, or no policy is what was asked for.
pub async fn lint(access: &Access, options: &Options) -> Result<Report> {
    let Gathered { state, settings, mut notes } = gather::gather(access, &options.within).await?;
    let selected = options.select.iter().map(|text| Selected::parse(text)).collect::<Result<Vec<_>>>()?;
    let wanted = |key: &ObjectKey| selected.is_empty() || selected.iter().any(|selected| selected.means(key));
    let policies = || state.keys().filter(|key| POLICIES.contains(&key.kind));
    for (text, selected) in options.select.iter().zip(&selected) {
        if !policies().any(|key| selected.means(key)) {
            bail!("there is no policy {text}");
        }
    }
    if state.pods() == 0 {
        notes.push("there are no pods, and nothing that makes some: nothing is said of whom policies mean".to_owned());
    }
    if state.lacks_nodes() {
        notes.push(gather::NO_NODES.to_owned());
    }
    let told = |finding: &Finding| {
        wanted(&finding.policy) && !options.ignore.iter().any(|ignored| ignored == finding.code.as_str())
    };
    let findings = axoneme_operator::lint::lint(&state, &settings);
    let findings = findings.into_iter().filter(told).map(row).collect();
    Ok(Report { findings, policies: policies().filter(|key| wanted(key)).count(), notes })
}

fn row(finding: Finding) -> Row {
    let Finding { policy, field, code, message, advice } = finding;
    Row {
        kind: policy.kind.to_string(),
        namespace: policy.name.namespace.to_string(),
        name: policy.name.name.to_string(),
        field,
        finding: code.as_str(),
        message,
        advice,
    }
}

/// Some policies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selected {
    kind: Option<Kind>,
    namespace: String,
    name: Option<String>,
}

impl Selected {
    /// Like `shop`, `shop/db`, `NetworkPolicy/shop/db` or `CiliumClusterwideNetworkPolicy/deny`.
    fn parse(text: &str) -> Result<Self> {
        let kind = |text: &str| POLICIES.into_iter().find(|kind| kind.to_string().eq_ignore_ascii_case(text));
        let selected = |kind, namespace: &str, name: Option<&str>| Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.map(str::to_owned),
        };
        match text.split('/').collect::<Vec<_>>()[..] {
            [namespace] if !namespace.is_empty() => Ok(selected(None, namespace, None)),
            [first, name] => Ok(match kind(first) {
                Some(kind) => selected(Some(kind), "", Some(name)),
                None => selected(None, first, Some(name)),
            }),
            [of, namespace, name] => {
                let kind = kind(of).ok_or_else(|| anyhow!("{text}: {of} is no kind of policies"))?;
                Ok(selected(Some(kind), namespace, Some(name)))
            }
            _ => bail!(
                "{text:?}: write NAMESPACE, NAMESPACE/NAME, KIND/NAMESPACE/NAME, or KIND/NAME of what has no namespace"
            ),
        }
    }

    fn means(&self, key: &ObjectKey) -> bool {
        self.kind.is_none_or(|kind| kind == key.kind)
            && *self.namespace == *key.name.namespace
            && self.name.as_ref().is_none_or(|name| **name == *key.name.name)
    }
}

/// As text.
#[must_use]
pub fn render(report: &Report, colours: bool) -> String {
    let mut table = Table::new(&["POLICY", "FIELD", "FINDING", "WHY"]);
    for row in &report.findings {
        let name = [&*row.namespace, &*row.name].join("/");
        let policy = format!("{} {}", row.kind, name.trim_start_matches('/'));
        let why = if row.advice.is_empty() { row.message.clone() } else { format!("{}; {}", row.message, row.advice) };
        let finding = Cell::new(row.finding, Tone::Warning);
        table.row([policy.into(), row.field.as_str().into(), finding, why.into()]);
    }
    let mut out = if report.findings.is_empty() { String::new() } else { table.render(colours) + "\n" };
    for note in &report.notes {
        out.push_str(&format!("{} {note}\n", Tone::Warning.paint("note:", colours)));
    }
    let policies = if report.policies == 1 { "1 policy".to_owned() } else { format!("{} policies", report.policies) };
    out.push_str(&match report.findings.len() {
        0 => format!("nothing is found in {policies}\n"),
        1 => format!("1 finding in {policies}\n"),
        more => format!("{more} findings in {policies}\n"),
    });
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const APPS: &str = "
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: web}}}}
---
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec: {template: {metadata: {labels: {app: db}}, spec: {containers: [{ports: [{name: sql, containerPort: 5432}]}]}}}
";
    const POLICIES: &str = "
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - {from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: sql}]}
  - {from: [{podSelector: {matchLabels: {app: wbe}}}]}
---
kind: CiliumNetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  description: Only tcp/5432.
  endpointSelector: {matchLabels: {app: db}}
  ingress: [{fromEndpoints: [{}]}]
---
kind: CiliumClusterwideNetworkPolicy
metadata: {name: old}
spec: {endpointSelector: {matchLabels: {app: old}}, ingress: [{}]}
";

    fn written(policies: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("apps.yaml"), APPS).unwrap();
        std::fs::write(folder.path().join("policies.yaml"), policies).unwrap();
        folder
    }

    fn options(arguments: &[&str], within: &Path) -> Result<Options, clap::Error> {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            options: Options,
        }
        let within = ["lint", "--in", within.to_str().unwrap()];
        <Command as clap::Parser>::try_parse_from(within.iter().chain(arguments)).map(|command| command.options)
    }

    async fn report(arguments: &[&str], within: &Path) -> Result<Report> {
        let access = Access { context: None, namespace: "kube-system".into() };
        lint(&access, &options(arguments, within).unwrap()).await
    }

    #[tokio::test]
    async fn findings_are_a_table() {
        let folder = written(POLICIES);
        let report = report(&[], folder.path()).await.unwrap();
        assert_eq!(
            render(&report, false),
            "\
POLICY                              FIELD                  FINDING                    WHY
NetworkPolicy shop/db               spec.ingress[0]        redundant                  spec.ingress[0] of CiliumNetworkPolicy shop/db says the same of all that it is about; delete it, as long as a rule is left to isolate the pods
NetworkPolicy shop/db               spec.ingress[1]        never-matches              is about nobody: no pod is in namespace shop and has app=wbe; correct it, or delete it if nobody is to come
CiliumNetworkPolicy shop/db         spec.ingress[0]        opens-more-than-described  opens ports all but 5432/TCP, of which the policy's description does not speak
CiliumClusterwideNetworkPolicy old  spec.endpointSelector  selects-nothing            no pod has app=old; correct the labels, or delete the policy if its pods are gone

4 findings in 3 policies
"
        );
    }

    #[tokio::test]
    async fn some_policies_and_findings_are_told_of_alone() {
        let folder = written(POLICIES);
        let found = async |arguments: &[&str]| -> Vec<&'static str> {
            let report = report(arguments, folder.path()).await.unwrap();
            report.findings.iter().map(|row| row.finding).collect()
        };
        assert_eq!(found(&["shop"]).await.len(), 3);
        assert_eq!(found(&["NetworkPolicy/shop/db", "--ignore", "redundant"]).await, ["never-matches"]);
        assert_eq!(found(&["shop/db", "--ignore", "redundant,never-matches"]).await, ["opens-more-than-described"]);
        assert_eq!(found(&["ciliumclusterwidenetworkpolicy/old"]).await, ["selects-nothing"]);
        let refused = report(&["shop/web"], folder.path()).await.unwrap_err();
        assert_eq!(refused.to_string(), "there is no policy shop/web");
        assert!(options(&["--ignore", "typo"], folder.path()).is_err());
    }

    #[tokio::test]
    async fn where_nothing_is_wrong_nothing_is_found() {
        let policy = POLICIES.split("---").next().unwrap().replace("app: wbe", "app: db");
        let folder = written(&policy);
        let text = render(&report(&[], folder.path()).await.unwrap(), false);
        assert_eq!(text, "nothing is found in 1 policy\n");
        std::fs::remove_file(folder.path().join("apps.yaml")).unwrap();
        let text = render(&report(&[], folder.path()).await.unwrap(), false);
        assert!(
            text.starts_with("note: there are no pods") && text.ends_with("nothing is found in 1 policy\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn in_folders_policies_of_nodes_hold() {
        let policy = "
{kind: Node, metadata: {name: n1, labels: {role: edge}}}
---
kind: CiliumClusterwideNetworkPolicy
metadata: {name: edge}
specs:
- {nodeSelector: {matchLabels: {role: egde}}, ingress: [{fromEntities: [all]}]}
- {nodeSelector: {matchLabels: {role: edge}}, ingressDeny: [{fromEntities: [all], toPorts: [{ports: [{port: '22', protocol: TCP}]}]}]}
";
        let folder = written(policy);
        let found: Vec<(String, &str)> = report(&[], folder.path())
            .await
            .unwrap()
            .findings
            .into_iter()
            .map(|row| (row.field, row.finding))
            .collect();
        let wanted = [("specs[0].nodeSelector", "selects-nothing"), ("specs[1].ingressDeny[0]", "shadowed")];
        assert_eq!(found, wanted.map(|(field, finding)| (field.to_owned(), finding)));
    }

    #[test]
    fn policies_are_named_in_four_ways() {
        let selected = |kind, namespace: &str, name: Option<&str>| Selected {
            kind,
            namespace: namespace.into(),
            name: name.map(Into::into),
        };
        let parse = |text| Selected::parse(text).unwrap();
        assert_eq!(parse("shop"), selected(None, "shop", None));
        assert_eq!(parse("shop/db"), selected(None, "shop", Some("db")));
        assert_eq!(parse("ClusterNetworkPolicy/deny"), selected(Some(Kind::ClusterNetworkPolicy), "", Some("deny")));
        assert_eq!(parse("networkpolicy/shop/db"), selected(Some(Kind::NetworkPolicy), "shop", Some("db")));
        for wrong in ["", "Pod/shop/db", "a/b/c/d"] {
            assert!(Selected::parse(wrong).is_err(), "{wrong}");
        }
    }
}
