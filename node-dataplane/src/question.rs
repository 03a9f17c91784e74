//! What this binary asks the daemon that runs on this node, and shows.

use std::path::PathBuf;

use axoneme_admin::node::{Endpoint, Identity, Node, Policy, Service, Status, subject};
use axoneme_admin::output::{Format, colours, json, print};
use axoneme_admin::table::Table;
use axoneme_admin::verdict::Verdict;
use axoneme_admin::{DEFAULT_SOCKET, client, show};
use serde::Serialize;

use crate::config::ConfigError;

/// Which subject, from where, and how it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    subject: &'static str,
    socket: PathBuf,
    format: Format,
}

/// Words and the subjects that they ask for.
const WORDS: &[(&str, &str)] = &[
    ("status", subject::STATUS),
    ("endpoint", subject::ENDPOINTS),
    ("identity", subject::IDENTITIES),
    ("node", subject::NODES),
    ("policy", subject::POLICIES),
    ("service", subject::SERVICES),
    ("verdict", subject::VERDICTS),
];

impl Question {
    /// The question that begins with `word`, if it is one. The word `list` may follow.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let (_, subject) = WORDS.iter().find(|(known, _)| *known == word)?;
        Some(Self { subject, socket: DEFAULT_SOCKET.into(), format: Format::Table })
    }

    /// Reads what follows the word.
    ///
    /// # Errors
    /// When it is not known.
    pub fn parse(mut self, arguments: impl Iterator<Item = String>) -> Result<Self, ConfigError> {
        let mut arguments = arguments.peekable();
        arguments.next_if(|next| next == "list");
        while let Some(argument) = arguments.next() {
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let mut value = |name| attached.clone().or_else(|| arguments.next()).ok_or(ConfigError::NoValue(name));
            match name {
                "-o" | "--output" => self.format = value("--output")?.parse()?,
                "--socket" => self.socket = value("--socket")?.into(),
                _ => return Err(ConfigError::UnknownArgument(argument)),
            }
        }
        Ok(self)
    }

    /// Asks, and writes the answer to standard output.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn ask(&self) -> anyhow::Result<()> {
        let text = match self.subject {
            subject::ENDPOINTS => self.list(&show::ENDPOINT_COLUMNS, |table, all: &[Endpoint]| {
                show::endpoints(table, "", all);
            })?,
            subject::IDENTITIES => self.list(&show::IDENTITY_COLUMNS, |table, all: &[Identity]| {
                show::identities(table, "", all, |_| String::new());
            })?,
            subject::NODES => self.list(&show::NODE_COLUMNS, |table, all: &[Node]| show::nodes(table, "", all))?,
            subject::POLICIES => {
                self.list(&show::POLICY_COLUMNS, |table, all: &[Policy]| show::policies(table, "", all))?
            }
            subject::SERVICES => {
                self.list(&show::SERVICE_COLUMNS, |table, all: &[Service]| show::services(table, "", all))?
            }
            subject::VERDICTS => {
                self.list(&show::VERDICT_COLUMNS, |table, all: &[Verdict]| show::verdicts(table, "", all))?
            }
            _ => {
                let status: Status = client::ask(&self.socket, self.subject)?;
                self.render(&status, |colours| show::status(&status, colours))?
            }
        };
        Ok(print(&text)?)
    }

    fn list<T: serde::de::DeserializeOwned + Serialize>(
        &self,
        columns: &[&'static str],
        fill: impl FnOnce(&mut Table, &[T]),
    ) -> anyhow::Result<String> {
        let all: Vec<T> = client::ask(&self.socket, self.subject)?;
        self.render(&all, |colours| {
            let mut table = Table::new(columns);
            fill(&mut table, &all);
            table.render(colours)
        })
    }

    fn render(&self, value: &impl Serialize, text: impl FnOnce(bool) -> String) -> anyhow::Result<String> {
        match self.format {
            Format::Json => Ok(json(value)?),
            Format::Table => Ok(text(colours(crate::config::no_color().as_deref()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let parse = |text: &str| {
            let mut words = text.split_whitespace().map(str::to_owned);
            let question = Question::of(&words.next().unwrap()).unwrap();
            question.parse(words).map_err(|err| err.to_string())
        };
        let question = Question { subject: "endpoints", socket: "/s".into(), format: Format::Json };
        assert_eq!(parse("endpoint list -o json --socket /s"), Ok(question.clone()));
        assert_eq!(parse("endpoint --output=json --socket=/s"), Ok(question));
        assert_eq!(parse("status").unwrap().socket, PathBuf::from(DEFAULT_SOCKET));
        assert_eq!(parse("status -o xml"), Err("there is no output \"xml\"; there are table and json".into()));
        assert!(parse("status all").is_err() && Question::of("agent").is_none());
    }
}
