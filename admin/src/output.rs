//! In which form something is shown.

use std::io::{self, IsTerminal, Write};
use std::str::FromStr;

use serde::Serialize;

/// In which form something is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: tables, with colours on a terminal.
    #[default]
    Table,
    /// For programs.
    Json,
}

impl Format {
    /// `value` in this form, of which `table` is the one for people.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn text(self, value: &impl Serialize, table: impl FnOnce() -> String) -> Result<String, serde_json::Error> {
        match self {
            Self::Json => json(value),
            Self::Table => Ok(table()),
        }
    }
}

/// No such form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no output {0:?}; there are table and json")]
pub struct NoFormat(String);

impl FromStr for Format {
    type Err = NoFormat;

    fn from_str(text: &str) -> Result<Self, NoFormat> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            other => Err(NoFormat(other.to_owned())),
        }
    }
}

/// Whether standard output shows colours: it is a terminal, and nobody has said `NO_COLOR` (see no-color.org). `no_color` is that
/// variable's value.
#[must_use]
pub fn colours(no_color: Option<&str>) -> bool {
    io::stdout().is_terminal() && no_color.is_none_or(str::is_empty)
}

/// `value` as indented JSON.
///
/// # Errors
/// When it cannot be written as such.
pub fn json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(value).map(|text| text + "\n")
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// When it cannot be written.
pub fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
