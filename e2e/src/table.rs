//! Tables on a terminal.

use crate::progress::{Colour, paint};

/// A cell: its text, and a colour.
pub type Cell = (String, Option<Colour>);

/// A cell without a colour.
pub fn plain(text: impl Into<String>) -> Cell {
    (text.into(), None)
}

/// Renders rows below a heading, each column as wide as its widest cell.
pub fn render(heading: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, (text, _)) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    let pad = |text: &str, width: usize| format!("{text}{}", " ".repeat(width - text.chars().count()));
    let mut out = String::new();
    let heads = heading.iter().zip(&widths).map(|(h, w)| paint(Colour::Bold, &pad(h, *w)));
    out += &format!("    {}\n", heads.collect::<Vec<_>>().join("  ").trim_end());
    for row in rows {
        let cells = row.iter().zip(&widths).map(|((text, colour), width)| {
            let text = pad(text, *width);
            colour.map_or(text.clone(), |c| paint(c, &text))
        });
        out += &format!("    {}\n", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec![plain("a"), plain("1")], vec![plain("long"), plain("✓ 22")]];
        assert_eq!(render(&["name", "value"], &rows), "    name  value\n    a     1\n    long  ✓ 22\n");
    }
}
