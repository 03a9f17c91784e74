//! `axoneme-node check`.

use std::path::PathBuf;

use axoneme_admin::check::{Level, Report};
use axoneme_admin::node::Status;
use axoneme_admin::output::{Format, colours, json, print};
use axoneme_admin::{DEFAULT_SOCKET, client, show};

use super::{Host, Kernel};
use crate::config::{Config, ConfigError, Flags, no_color};

/// What is looked at, and how it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    root: PathBuf,
    config: Option<PathBuf>,
    socket: PathBuf,
    format: Format,
    all: bool,
}

impl Default for Check {
    fn default() -> Self {
        Self { root: "/".into(), config: None, socket: DEFAULT_SOCKET.into(), format: Format::Table, all: false }
    }
}

impl Check {
    /// Reads what follows the word.
    ///
    /// # Errors
    /// When it is not known.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, ConfigError> {
        let mut check = Self::default();
        while let Some(argument) = arguments.next() {
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let mut value = |name| attached.clone().or_else(|| arguments.next()).ok_or(ConfigError::NoValue(name));
            match name {
                "--root" => check.root = value("--root")?.into(),
                "--config" => check.config = Some(value("--config")?.into()),
                "--socket" => check.socket = value("--socket")?.into(),
                "-o" | "--output" => check.format = value("--output")?.parse()?,
                "--all" => check.all = true,
                _ => return Err(ConfigError::UnknownArgument(argument)),
            }
        }
        Ok(check)
    }

    /// Looks, and writes what was found to standard output. Whether nothing is bad.
    ///
    /// # Errors
    /// When the daemon's settings cannot be read.
    pub fn run(&self) -> anyhow::Result<bool> {
        let usual = Flags::default().config;
        let config = match &self.config {
            Some(path) => Config::read(path)?,
            // In the daemon's own pod its settings count; where nothing is installed, there are none.
            None if usual.exists() => Config::read(&usual)?,
            None => Config::default(),
        };
        let installed = client::ask::<Status>(&self.socket, axoneme_admin::node::subject::STATUS).is_ok();
        let report = Host { root: self.root.clone(), config, installed, probe: Kernel }.look();
        print(&match self.format {
            Format::Json => json(&report)?,
            Format::Table => self.text(&report, colours(no_color().as_deref())),
        })?;
        Ok(report.level() < Level::Bad)
    }

    fn text(&self, report: &Report, colours: bool) -> String {
        let text = show::report(report, self.all, colours);
        if text.is_empty() { format!("ok    {} is fit for this network\n", report.host) } else { text }
    }
}
