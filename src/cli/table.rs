//! Tables for people.

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Width, presets};

/// At most so many characters of a cell are drawn, however wide the table may be: what a person can
/// still look at.
const CELL_CHARS_MAX: usize = 10_000;

/// What a column that may be cut keeps before one that should stay whole is cut as well.
const CUT_TO_MIN: u16 = 8;

/// A column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    /// Cut last: what it holds is of no use in part, such as an id.
    whole: bool,
    /// At least so wide, if there is room: for rows that come one after the other.
    width_min: u16,
}

impl Column {
    /// A column that may be cut.
    pub(super) const fn new(name: &'static str) -> Column {
        Column { name, whole: false, width_min: 0 }
    }

    /// A column that is cut last.
    pub(super) const fn whole(name: &'static str) -> Column {
        Column { whole: true, ..Column::new(name) }
    }

    /// The column, at least so wide.
    pub(super) const fn at_least(self, width_min: u16) -> Column {
        Column { width_min, ..self }
    }
}

/// Columns aligned on the left, two spaces between, as wide as they need to be.
pub(super) fn draw(head: &[&'static str], rows: &[Vec<String>]) -> String {
    let columns: Vec<Column> = head.iter().map(|name| Column::new(name)).collect();
    draw_within(None, &columns, true, rows)
}

/// The same, one line a row, cut to `width` if there is one; the names of the columns come first if
/// they are `headed`.
pub(super) fn draw_within(
    width: Option<u16>,
    columns: &[Column],
    headed: bool,
    rows: &[Vec<String>],
) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    // Cut anywhere: this character is in no cell.
    table.set_delimiter('\0');
    let line = |cells: Vec<String>| {
        let mut row = Row::from(cells);
        row.max_height(1);
        row
    };
    if headed {
        table.set_header(line(columns.iter().map(|column| column.name.to_owned()).collect()));
    }
    for row in rows {
        table.add_row(line(row.iter().map(|cell| bounded(harmless(cell))).collect()));
    }
    let widths = table.column_max_content_widths();
    let widths: Vec<u16> =
        columns.iter().zip(widths).map(|(column, width)| width.max(column.width_min)).collect();
    let gaps = 2 * u16::try_from(columns.len().saturating_sub(1)).unwrap_or(u16::MAX);
    let needed = |cut: &dyn Fn(&Column, u16) -> u16| {
        columns
            .iter()
            .zip(&widths)
            .fold(gaps, |sum, (column, width)| sum.saturating_add(cut(column, *width)))
    };
    // All of it fits, or all that should stay whole does beside a little of the rest.
    let fits = width.is_none_or(|width| needed(&|_, width| width) <= width);
    let whole_fits = width.is_none_or(|width| {
        needed(&|column, width| {
            if column.whole { width } else { width.min(CUT_TO_MIN.max(column.width_min)) }
        }) <= width
    });
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    let last = columns.len().saturating_sub(1);
    for (at, (column, width)) in columns.iter().zip(&widths).enumerate() {
        let Some(drawn) = table.column_mut(at) else { continue };
        drawn.set_padding((0, if at == last { 0 } else { 2 }));
        if fits || (whole_fits && column.whole) {
            let padding = if at == last { 0 } else { 2 };
            drawn.set_constraint(ColumnConstraint::Absolute(Width::Fixed(
                width.saturating_add(padding),
            )));
        }
    }
    let mut text = table.trim_fmt();
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn bounded(mut cell: String) -> String {
    if let Some((end, _)) = cell.char_indices().nth(CELL_CHARS_MAX) {
        cell.truncate(end);
        cell.push('…');
    }
    cell
}

/// A text that does nothing to a terminal: control characters, and those that turn or hide what
/// stands beside them, are written out.
pub(super) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hides = matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
        if c.is_control() || hides { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
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
    fn a_wide_character_takes_two_places_and_an_accent_none() {
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
    fn what_would_reach_the_terminal_is_written_out() {
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
    fn a_cell_without_end_is_cut_whatever_the_width() {
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
    fn rows_that_come_later_stand_under_those_that_came_before() {
        let columns = [Column::whole("a").at_least(5), Column::new("b")];
        assert_eq!(draw_within(Some(40), &columns, true, &[]), "a      b\n");
        assert_eq!(
            draw_within(Some(40), &columns, false, &[vec!["x".into(), "y".into()]]),
            "x      y\n"
        );
    }
}
