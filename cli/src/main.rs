//! The `axoneme` command, also found by kubectl as `kubectl axoneme` when installed under the name `kubectl-axoneme`.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Definition;

/// Tools for clusters whose network is Axoneme.
#[derive(Debug, Parser)]
#[command(
    name = "axoneme",
    version,
    arg_required_else_help = true,
    after_help = "\
To install the network itself, use the Helm chart:
  helm install axoneme charts/axoneme --namespace kube-system \\
      --set k8sServiceHost=ADDRESS --set k8sServicePort=PORT

To see what it does, ask Kubernetes:
  kubectl get ciliumnodes             nodes, their addresses and CIDRs
  kubectl get ciliumendpoints -A      pods, their identities and addresses
  kubectl get ciliumidentities        the label sets that policies tell apart"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
    /// Prints the version of this command and of the definitions it has
    Version,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Crds { kinds } => print(&crds(kinds)?),
        Command::Version => print(&format!(
            "axoneme {}\ncilium.io schemas {}\n",
            env!("CARGO_PKG_VERSION"),
            axoneme_crds::schema_version()
        )),
    }
}

/// The definitions of these kinds, or all, as a YAML stream.
fn crds(kinds: &[String]) -> Result<String> {
    let all = axoneme_crds::all();
    if let Some(unknown) = kinds.iter().find(|kind| !all.iter().any(|definition| is_named(definition, kind))) {
        let known: Vec<&str> = all.iter().map(|definition| definition.spec.names.plural.as_str()).collect();
        bail!("unknown kind {unknown}; there are {}", known.join(", "));
    }
    let wanted = |definition: &&Definition| kinds.is_empty() || kinds.iter().any(|kind| is_named(definition, kind));
    let mut yaml = String::new();
    for definition in all.iter().filter(wanted) {
        yaml.push_str("---\n");
        yaml.push_str(&axoneme_crds::yaml(definition).context("cannot write a definition as YAML")?);
    }
    Ok(yaml)
}

/// Whether kubectl, too, would take `name` for this kind.
fn is_named(definition: &Definition, name: &str) -> bool {
    let names = &definition.spec.names;
    let long = [Some(&names.kind), Some(&names.plural), names.singular.as_ref()].into_iter().flatten();
    long.chain(names.short_names.iter().flatten()).any(|known| known.eq_ignore_ascii_case(name))
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn definitions_are_found_by_all_their_names() {
        let one = crds(&["ciliumnodes".into()]).unwrap();
        assert!(one.contains("name: ciliumnodes.cilium.io") && one.matches("---\n").count() == 1, "{one}");
        for name in ["cn", "CiliumNode", "ciliumnode"] {
            assert_eq!(crds(&[name.into()]).unwrap(), one);
        }
        assert_eq!(crds(&[]).unwrap(), axoneme_crds::to_yaml().unwrap());
    }

    #[test]
    fn an_unknown_kind_is_named_with_those_that_exist() {
        let error = crds(&["cep".into(), "pods".into()]).unwrap_err().to_string();
        assert!(error.starts_with("unknown kind pods; there are ciliumbgpadvertisements, "), "{error}");
        assert!(error.ends_with(", ciliumnodes, ciliumpodippools"), "{error}");
    }
}
