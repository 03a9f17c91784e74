//! `axoneme policy diff`: which flows a change would allow or deny, before it is made.

mod render;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use axoneme_operator::diff::State;
use axoneme_operator::object::{Kind, Name, ObjectKey};

use crate::cluster::Access;
use crate::gather::{self, Gathered};

pub use render::{Report, render};

/// A change, and what it is compared with.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").args(["files", "delete", "label_namespace", "label_node"]).required(true).multiple(true))]
pub struct Options {
    /// Manifests that would be applied: files and folders, - for standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// An object that would be deleted, like NetworkPolicy/shop/db or CiliumClusterwideNetworkPolicy/deny
    #[arg(long, value_name = "KIND/[NAMESPACE/]NAME")]
    delete: Vec<String>,
    /// A label that a namespace would get, like shop:team=a, or lose, like shop:team-
    #[arg(long, value_name = "NAMESPACE:LABEL")]
    label_namespace: Vec<String>,
    /// A label that a node would get, like n1:role=edge, or lose, like n1:role-
    #[arg(long, value_name = "NODE:LABEL")]
    label_node: Vec<String>,
    /// What there is now: files and folders of manifests in place of a cluster, which is not asked then. Policies of nodes hold there,
    /// but for the ways that hostFirewall.emergencyPorts keeps open by default
    #[arg(long = "in", value_name = "FOLDER")]
    within: Vec<PathBuf>,
}

/// What a change would do.
///
/// # Errors
/// When manifests cannot be read, or the API server does not tell what there is.
pub async fn diff(access: &Access, options: &Options) -> Result<Report> {
    let Gathered { state: before, settings, mut notes } = gather::gather(access, &options.within).await?;
    if before.pods() == 0 {
        notes.push("there are no pods, and nothing that makes some: nobody is reached".to_owned());
    }
    let mut after = before.clone();
    for path in &options.files {
        gather::apply(path, &mut after, &mut notes)?;
    }
    for text in &options.delete {
        let key = key(text)?;
        if !after.delete(&key) {
            bail!("--delete {text}: there is no {key}");
        }
    }
    for text in &options.label_namespace {
        relabel(text, Kind::Namespace, &mut after).with_context(|| format!("--label-namespace {text}"))?;
    }
    for text in &options.label_node {
        relabel(text, Kind::Node, &mut after).with_context(|| format!("--label-node {text}"))?;
    }
    if before.lacks_nodes() || after.lacks_nodes() {
        notes.push(gather::NO_NODES.to_owned());
    }
    Ok(Report::new(axoneme_operator::diff::diff(&before, &after, &settings), notes))
}

/// Like `NetworkPolicy/shop/db`.
fn key(text: &str) -> Result<ObjectKey> {
    let parts: Vec<&str> = text.split('/').collect();
    let (kind, namespace, name) = match parts[..] {
        [kind, name] => (kind, "", name),
        [kind, namespace, name] => (kind, namespace, name),
        _ => bail!("--delete {text}: write KIND/NAMESPACE/NAME, or KIND/NAME of what has no namespace"),
    };
    let known = Kind::ALL.into_iter().find(|known| known.to_string().eq_ignore_ascii_case(kind));
    let kind = known.ok_or_else(|| anyhow!("--delete {text}: kind {kind} has nothing to do with policies"))?;
    Ok(ObjectKey { kind, name: Name::new(namespace, name) })
}

/// Like `shop:team=a` or `shop:team-`.
fn relabel(text: &str, kind: Kind, state: &mut State) -> Result<()> {
    let what = kind.to_string();
    let wrong = || anyhow!("write {what}:KEY=VALUE, or {what}:KEY- to take it away", what = what.to_uppercase());
    let (name, label) = text.split_once(':').ok_or_else(wrong)?;
    let (key, value) = match label.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (label.strip_suffix('-').ok_or_else(wrong)?, None),
    };
    if !state.label(&ObjectKey { kind, name: Name::new("", name) }, key, value) {
        bail!("there is no {} {name}", what.to_lowercase());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const NOW: &str = "
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: web}}}}
---
kind: Deployment
metadata: {name: batch, namespace: shop}
spec: {template: {metadata: {labels: {app: batch}}}}
---
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec: {template: {metadata: {labels: {app: db}}, spec: {containers: [{ports: [{name: sql, containerPort: 5432}]}]}}}
---
kind: ServiceMonitor
metadata: {name: other}
";
    const NEW: &str = "
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - {from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: sql}]}
  - {from: [{ipBlock: {cidr: 192.0.2.0/24}}]}
  - {from: [{podSelector: {matchLabels: {app: web}}, ipBlock: {cidr: 192.0.2.0/24}}]}
";

    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn options(change: &[&str], within: &Path) -> Options {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            options: Options,
        }
        let within = ["diff", "--in", within.to_str().unwrap()];
        <Command as clap::Parser>::try_parse_from(within.iter().chain(change)).unwrap().options
    }

    async fn told(change: &[&str], within: &Path) -> Result<String> {
        let access = Access { context: None, namespace: "kube-system".into() };
        diff(&access, &options(change, within)).await.map(|report| render(&report, false))
    }

    #[tokio::test]
    async fn a_new_policy_is_told_by_what_it_denies() {
        let folder = written(&[("now/all.yaml", NOW), ("now/readme.md", "not: [a manifest"), ("new.yaml", NEW)]);
        let new = folder.path().join("new.yaml");
        let text = told(&["-f", new.to_str().unwrap()], &folder.path().join("now")).await.unwrap();
        assert_eq!(
            text,
            "\
FROM             TO            PORTS             BECOMES
shop: app=batch  shop: app=db  all               denied
shop: app=web    shop: app=db  all but 5432/TCP  denied
world            shop: app=db  all               denied

note: NetworkPolicy shop/db: spec.ingress[2].from[0].ipBlock: excludes podSelector and namespaceSelector: allows nothing
3 flows would be denied that pass now
"
        );
    }

    #[tokio::test]
    async fn deletions_and_labels_of_namespaces_are_changes_too() {
        let isolated = "
kind: NetworkPolicy
metadata: {name: batch, namespace: shop}
spec: {podSelector: {matchLabels: {app: batch}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: a}}}]}]}
";
        let folder = written(&[("all.yaml", NOW), ("policy.yaml", isolated)]);
        let text = told(&["--label-namespace", "shop:team=a"], folder.path()).await.unwrap();
        assert!(
            text.starts_with(
                "FROM             TO             PORTS  BECOMES\nshop: app=batch  shop: app=db   all    allowed\n"
            ),
            "{text}"
        );
        assert!(text.ends_with("2 flows would pass that are denied now\n"), "{text}");
        let text = told(&["--delete", "NetworkPolicy/shop/batch"], folder.path()).await.unwrap();
        assert!(text.contains("shop: app=batch  world           all    allowed\n"), "{text}");
        let text = told(&["--label-namespace", "shop:team-"], folder.path()).await.unwrap();
        assert_eq!(text, "no flow would be judged otherwise than now\n");
        let refused = told(&["--delete", "NetworkPolicy/shop/other"], folder.path()).await.unwrap_err();
        assert!(refused.to_string().contains("there is no NetworkPolicy shop/other"), "{refused}");
    }

    #[tokio::test]
    async fn policies_of_nodes_are_told_by_who_reaches_them_no_more() {
        let node = |name: &str, role: &str| {
            format!(
                "---\n{{kind: Node, metadata: {{name: {name}, labels: {{role: {role}}}}}, status: {{addresses: [{{type: InternalIP, address: 172.18.0.{}}}]}}}}\n",
                &name[1..]
            )
        };
        let now = [&*node("n1", "edge"), &node("n2", "edge"), &node("n3", "core")].concat();
        let pod = |app: &str, node: &str| {
            format!(
                "---\n{{kind: Pod, metadata: {{name: {app}, namespace: shop, labels: {{app: {app}}}}}, spec: {{nodeName: {node}}}}}\n"
            )
        };
        let now = [&*now, &pod("web", "n1"), &pod("batch", "n3")].concat();
        let policy = "
kind: CiliumClusterwideNetworkPolicy
metadata: {name: edge}
spec:
  nodeSelector: {matchLabels: {role: edge}}
  ingress: [{fromEndpoints: [{matchLabels: {app: web}}]}]
";
        let folder = written(&[("now/now.yaml", &now), ("policy.yaml", policy)]);
        let (path, within) = (folder.path().join("policy.yaml"), folder.path().join("now"));
        let text = told(&["-f", path.to_str().unwrap()], &within).await.unwrap();
        let ports = "all but 22/TCP, 4246/TCP, 6443/TCP, 10250/TCP, 68/UDP, 546/UDP";
        let width = ports.len();
        assert_eq!(
            text,
            format!(
                "\
FROM              TO            {:width$}  BECOMES
shop: app=batch   nodes n1, n2  {ports}  denied
nodes n1, n2, n3  nodes n1, n2  {ports}  denied
world             nodes n1, n2  {ports}  denied

3 flows would be denied that pass now
",
                "PORTS"
            )
        );
        let text = told(&["-f", path.to_str().unwrap()], &path).await.unwrap();
        assert!(text.contains("note: there are no nodes: nothing is said of policies of nodes\n"), "{text}");
        std::fs::rename(&path, within.join("policy.yaml")).unwrap();
        let text = told(&["--delete", "CiliumClusterwideNetworkPolicy/edge"], &within).await.unwrap();
        assert!(text.ends_with("3 flows would pass that are denied now\n"), "{text}");
        let text = told(&["--label-node", "n3:role=edge"], &within).await.unwrap();
        assert!(text.contains("shop: app=batch  the pod's node  "), "{text}");
        assert!(text.contains("nodes n1, n2     nodes n3        "), "{text}");
        let refused = told(&["--label-node", "n4:role=edge"], &within).await.unwrap_err();
        assert!(format!("{refused:#}").contains("--label-node n4:role=edge: there is no node n4"), "{refused:#}");
    }

    #[test]
    fn objects_are_named_by_kind_and_name() {
        assert_eq!(key("networkpolicy/shop/db").unwrap().to_string(), "NetworkPolicy shop/db");
        assert_eq!(
            key("CiliumClusterwideNetworkPolicy/deny").unwrap().to_string(),
            "CiliumClusterwideNetworkPolicy deny"
        );
        assert!(key("Deployment/shop/db").is_err() && key("db").is_err());
    }
}
