//! Columns for people.

use std::fmt::Write as _;

use hashmesh_protocol::text::escaped;

/// Aligns rows under a header; the last column runs free. What others wrote is escaped, so that it cannot speak to the
/// terminal or pass for another row.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| escaped(cell)).collect()).collect();
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:<width$}  ").expect("writing to memory");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["cccc".to_owned(), String::new()]];
        assert_eq!(table(&["x", "y"], &rows), "x     y\na     bb\ncccc\n");
    }

    /// A member's note cleared the screens of the others' operators and drew rows of its own.
    #[test]
    fn cells_do_not_speak_to_the_terminal() {
        let rows = [vec!["evil\u{1b}[2J\u{1b}[31mred\nnew line".to_owned()]];
        assert_eq!(table(&["note"], &rows), "note\nevil\\u{1b}[2J\\u{1b}[31mred\\nnew line\n");
    }
}
