//! Tables for people: columns as wide as they have to be, and colours where they are shown.

/// What a text means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Somebody should look at it.
    Warning,
    /// It does not work.
    Bad,
    /// It stands behind the rest.
    Faint,
    /// It stands out.
    Strong,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
            Self::Faint => "2",
            Self::Strong => "1",
        }
    }

    /// The text, coloured if `colours`.
    #[must_use]
    pub fn paint(self, text: &str, colours: bool) -> String {
        if !colours || self == Self::Plain || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", self.code())
    }
}

/// One field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text with a meaning.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// One with these columns.
    #[must_use]
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, with as many cells as there are columns.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.header.len(), "{:?}", self.header);
        self.rows.push(cells.into());
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As text: a line for the header and one for each row, columns two blanks apart. An empty field is a dash.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let header: Vec<Cell> = self.header.iter().map(|title| Cell::new(*title, Tone::Strong)).collect();
        let all = || std::iter::once(&header).chain(&self.rows);
        let width = |column: usize| all().map(|row| row[column].text.chars().count().max(1)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let mut out = String::new();
        for row in all() {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let text = if cell.text.is_empty() { "-" } else { &cell.text };
                line.push_str(&cell.tone.paint(text, colours));
                if column + 1 < row.len() {
                    line.push_str(&" ".repeat(widths[column].saturating_sub(text.chars().count()) + 2));
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_field() {
        let mut table = Table::new(&["NODE", "STATE"]);
        table.row(["a".into(), Cell::new("ready", Tone::Good)]);
        table.row(["longer-name".into(), "".into()]);
        assert_eq!(table.render(false), "NODE         STATE\na            ready\nlonger-name  -\n");
        assert_eq!(
            table.render(true),
            "\x1b[1mNODE\x1b[0m         \x1b[1mSTATE\x1b[0m\na            \x1b[32mready\x1b[0m\nlonger-name  -\n"
        );
    }
}
