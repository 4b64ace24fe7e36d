//! Columns that line up.

/// So many rows are measured together, so that a listing larger than memory can be a table.
const MEASURED_ROWS: usize = 1_000;

/// Rows under a header, as wide as their widest cell but for the last, two spaces between.
#[derive(Debug)]
pub(crate) struct Table {
    header: Option<Vec<String>>,
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Table {
        Table {
            header: Some(header.iter().map(|&name| name.to_owned()).collect()),
            rows: Vec::new(),
            widths: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// What is to be printed, if many rows wait.
    pub(crate) fn take_full(&mut self) -> Vec<u8> {
        match self.rows.len() < MEASURED_ROWS {
            true => Vec::new(),
            false => self.take(),
        }
    }

    /// What is to be printed of the rows that wait, if there are any: a listing that fails before its first row prints no header.
    pub(crate) fn take_rows(&mut self) -> Vec<u8> {
        match self.rows.is_empty() {
            true => Vec::new(),
            false => self.take(),
        }
    }

    /// What is to be printed of the rows that wait; the header even if there are none.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut rows: Vec<Vec<String>> = self.header.take().into_iter().collect();
        rows.append(&mut self.rows);
        widen(&mut self.widths, &rows);
        aligned(&self.widths, &rows).into_bytes()
    }
}

/// Columns as wide as their widest cell, two spaces between them, one line per row.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let mut widths = Vec::new();
    widen(&mut widths, rows);
    aligned(&widths, rows)
}

fn widen(widths: &mut Vec<usize>, rows: &[Vec<String>]) {
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
}

fn aligned(widths: &[usize], rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for row in rows {
        let last = row.len().saturating_sub(1);
        for (place, (cell, width)) in row.iter().zip(widths).enumerate() {
            match place == last {
                true => text.push_str(cell),
                false => text.push_str(&format!("{cell:width$}  ")),
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 2]) -> Vec<String> {
        cells.map(str::to_owned).into()
    }

    #[test]
    fn columns_line_up_and_end_without_spaces() {
        let rows = [row(["a", "long"]), row(["bcd", "e"])];
        assert_eq!(columns(&rows), "a    long\nbcd  e\n");
    }

    #[test]
    fn a_table_keeps_its_columns_from_one_part_to_the_next() {
        let mut table = Table::new(&["KEY", "VALUE"]);
        table.push(row(["longer", "x"]));
        assert_eq!(table.take_full(), b"");
        assert_eq!(table.take(), b"KEY     VALUE\nlonger  x\n");
        table.push(row(["b", ""]));
        assert_eq!(table.take(), b"b\n");
    }

    #[test]
    fn a_header_is_printed_with_the_first_row_or_at_the_end() {
        let mut table = Table::new(&["KEY", "VALUE"]);
        assert_eq!(table.take_rows(), b"");
        table.push(row(["a", "x"]));
        assert_eq!(table.take_rows(), b"KEY  VALUE\na    x\n");
        assert_eq!(table.take_rows(), b"");
        assert_eq!(Table::new(&["KEY"]).take(), b"KEY\n", "an empty listing");
    }
}
