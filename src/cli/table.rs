//! Tables for terminals.

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Width, presets};

/// The most characters of a cell that are drawn, however wide the table may be.
const CELL_CHARS_MAX: usize = 10_000;

/// The width that other columns keep before those that should stay whole are cut too.
const CUT_TO_MIN: u16 = 8;

/// The spaces between two columns.
const GAP: u16 = 2;

/// A column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    /// The column is cut last, since part of its text is useless, as of an id.
    whole: bool,
    key: bool,
    /// The least width, if there is room. It aligns rows that are drawn one after the other.
    width_min: u16,
}

impl Column {
    /// Returns a column that may be cut.
    pub(super) const fn new(name: &'static str) -> Column {
        Column { name, whole: false, key: false, width_min: 0 }
    }

    /// Returns a column that is cut last.
    pub(super) const fn whole(name: &'static str) -> Column {
        Column { whole: true, ..Column::new(name) }
    }

    /// Returns a column that is never cut: it identifies the row. A terminal that is narrower still
    /// wraps it.
    pub(super) const fn key(name: &'static str) -> Column {
        Column { key: true, ..Column::whole(name) }
    }

    /// Returns the column with this least width.
    pub(super) const fn at_least(self, width_min: u16) -> Column {
        Column { width_min, ..self }
    }

    /// Returns the width after a cut that spares the columns that should stay whole.
    fn cut(&self, width: u16) -> u16 {
        if self.whole { width } else { width.min(CUT_TO_MIN.max(self.width_min)) }
    }
}

/// Draws a table whose columns are aligned on the left and as wide as their widest cell.
pub(super) fn draw(head: &[&'static str], rows: &[Vec<String>]) -> String {
    let columns: Vec<Column> = head.iter().map(|name| Column::new(name)).collect();
    draw_within(None, &columns, true, rows)
}

/// Draws a table with one line a row, cut to `width` if one is given. The names of the columns
/// come first if `headed` is set.
pub(super) fn draw_within(
    width: Option<u16>,
    columns: &[Column],
    headed: bool,
    rows: &[Vec<String>],
) -> String {
    let mut table = filled(columns, headed, rows);
    let widths: Vec<u16> = columns
        .iter()
        .zip(table.column_max_content_widths())
        .map(|(column, width)| width.max(column.width_min))
        .collect();
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    let fit = Fit::of(columns, &widths, width);
    let last = columns.len().saturating_sub(1);
    for (at, (column, width)) in columns.iter().zip(&widths).enumerate() {
        let Some(drawn) = table.column_mut(at) else { continue };
        let padding = if at == last { 0 } else { GAP };
        drawn.set_padding((0, padding));
        if fit.keeps(column) {
            let width = Width::Fixed(width.saturating_add(padding));
            drawn.set_constraint(ColumnConstraint::Absolute(width));
        }
    }
    let mut text = table.trim_fmt();
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn filled(columns: &[Column], headed: bool, rows: &[Vec<String>]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    // No cell has this character, so that a cell may be cut anywhere.
    table.set_delimiter('\0');
    if headed {
        table.set_header(line(columns.iter().map(|column| column.name.to_owned()).collect()));
    }
    for row in rows {
        table.add_row(line(row.iter().map(|cell| bounded(harmless(cell))).collect()));
    }
    table
}

fn line(cells: Vec<String>) -> Row {
    let mut row = Row::from(cells);
    row.max_height(1);
    row
}

/// The columns that keep their width.
enum Fit {
    All,
    WholeOnly,
    KeyOnly,
}

impl Fit {
    fn of(columns: &[Column], widths: &[u16], width: Option<u16>) -> Fit {
        let Some(width) = width else { return Fit::All };
        let cut: Vec<u16> =
            columns.iter().zip(widths).map(|(column, width)| column.cut(*width)).collect();
        if total(widths) <= width {
            Fit::All
        } else if total(&cut) <= width {
            Fit::WholeOnly
        } else {
            Fit::KeyOnly
        }
    }

    fn keeps(&self, column: &Column) -> bool {
        match self {
            Fit::All => true,
            Fit::WholeOnly => column.whole,
            Fit::KeyOnly => column.key,
        }
    }
}

/// Returns the width of a table whose columns have these widths.
fn total(widths: &[u16]) -> u16 {
    let gaps = u16::try_from(widths.len().saturating_sub(1)).unwrap_or(u16::MAX);
    widths.iter().fold(gaps.saturating_mul(GAP), |sum, width| sum.saturating_add(*width))
}

fn bounded(mut cell: String) -> String {
    if let Some((end, _)) = cell.char_indices().nth(CELL_CHARS_MAX) {
        cell.truncate(end);
        cell.push('…');
    }
    cell
}

/// Returns the text with control characters, and characters that reorder or hide others, written
/// as escapes, so that it has no effect on a terminal.
pub(super) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if has_effect(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Returns true for a character that controls a terminal, or that reorders or hides others.
pub(super) fn has_effect(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// Returns true for format characters: they change the direction of text or take no place.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{61c}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["Zoë".into(), "1".into()], vec!["a".into(), "22".into()]];
        assert_eq!(draw(&["name", "n"], &rows), "name  n\nZoë   1\na     22\n");
        assert_eq!(draw(&["name", "n"], &[]), "name  n\n");
    }

    #[test]
    fn a_wide_character_takes_two_columns_and_an_accent_none() {
        let rows = [
            vec!["山田太郎".into(), "1".into()],
            vec!["Zoe\u{308}".into(), "2".into()],
            vec!["👩‍🚀 Bo".into(), "3".into()],
        ];
        assert_eq!(
            draw(&["name", "n"], &rows),
            "name      n\n山田太郎  1\nZoe\u{308}       2\n👩‍🚀 Bo     3\n"
        );
    }

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        assert_eq!(
            harmless("a\u{1b}[2J\n\tb\u{9b}\u{202e}c\u{7f}"),
            r"a\u{1b}[2J\n\tb\u{9b}\u{202e}c\u{7f}"
        );
        for plain in ["Zoë", "山田太郎", "👩‍🚀", r"back\slash", "a\u{a0}b"] {
            assert_eq!(harmless(plain), plain);
        }
    }

    #[test]
    fn a_table_is_cut_to_its_width_and_ids_last() {
        let columns = [Column::whole("id"), Column::new("name"), Column::new("groups")];
        let row = |id: &str, name: &str, groups: &str| {
            vec![id.to_owned(), name.to_owned(), groups.to_owned()]
        };
        let rows = [
            row("user_0123456789", "Ana", "Platform, Sales, Support, Field Service"),
            row("user_1", "Bartholomew the second", ""),
        ];
        // 15 + 2 + 22 + 2 + 39 = 80, and in 51 places 32 are left for the last two.
        let full = "\
id               name                    groups
user_0123456789  Ana                     Platform, Sales, Support, Field Service
user_1           Bartholomew the second
";
        assert_eq!(draw_within(None, &columns, true, &rows), full);
        assert_eq!(draw_within(Some(80), &columns, true, &rows), full);
        let cut = draw_within(Some(51), &columns, true, &rows);
        assert_eq!(
            cut,
            "\
id               name              groups
user_0123456789  Ana               Platform, Sales…
user_1           Bartholomew the…
"
        );
        for width in 12..100 {
            for line in draw_within(Some(width), &columns, true, &rows).lines() {
                assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
            }
            assert_eq!(
                draw_within(Some(width), &columns, true, &rows).lines().count(),
                3,
                "{width}"
            );
        }
    }

    #[test]
    fn a_key_is_whole_at_any_width() {
        let columns = [Column::new("name"), Column::key("id"), Column::whole("state")];
        let rows = [vec!["Bartholomew".into(), "user_0123456789".into(), "inactive".into()]];
        for width in 1..60 {
            let drawn = draw_within(Some(width), &columns, true, &rows);
            assert!(drawn.contains("user_0123456789"), "{width}: {drawn}");
            assert_eq!(drawn.lines().count(), 2, "{width}: {drawn}");
        }
    }

    #[test]
    fn a_very_long_cell_is_cut_at_any_width() {
        let rows = [vec!["x".repeat(100_000), "山".repeat(100_000)]];
        let drawn = draw(&["a", "b"], &rows);
        assert_eq!(
            drawn.lines().nth(1),
            Some(format!("{}…  {}…", "x".repeat(10_000), "山".repeat(10_000)).as_str())
        );
    }

    #[test]
    fn a_wide_character_is_never_cut_in_half() {
        for width in 1..12 {
            let text =
                draw_within(Some(width), &[Column::new("n")], false, &[vec!["山田太郎".into()]]);
            let places: usize = text.trim_end().chars().map(|c| if c == '…' { 1 } else { 2 }).sum();
            assert!(places <= usize::from(width), "{width}: {text}");
        }
    }

    #[test]
    fn rows_drawn_later_align_with_earlier_ones() {
        let columns = [Column::whole("a").at_least(5), Column::new("b")];
        assert_eq!(draw_within(Some(40), &columns, true, &[]), "a      b\n");
        assert_eq!(
            draw_within(Some(40), &columns, false, &[vec!["x".into(), "y".into()]]),
            "x      y\n"
        );
    }
}
