//! A chart of how the calls grow with the log, as SVG: a bar for each call. The same figures give
//! the same bytes.

use std::fmt::Write;

/// A call: its medians in microseconds over the shortest and the longest log.
pub(crate) struct Bar {
    pub(crate) call: String,
    pub(crate) first_us: f64,
    pub(crate) last_us: f64,
}

impl Bar {
    fn growth(&self) -> f64 {
        self.last_us / self.first_us
    }
}

/// The growth up to which a call counts as one that does not grow.
pub(crate) const GROWTH_MAX: f64 = 1.5;

/// The least growth that the chart shows, and the greatest unless a call grows more.
const LEAST: f64 = 0.25;
const GREATEST: f64 = 4.0;

/// The marks of the axis.
const TICKS: [f64; 10] = [0.25, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0];

/// Pixels.
const ROW: usize = 16;
const TOP: usize = 56;
const LABELS: f64 = 330.0;
const BARS: f64 = 420.0;
const FIGURES: f64 = 150.0;

const STYLE: &str = "\
text{font:11px system-ui,sans-serif;fill:#1f2328}.title{font-size:14px;font-weight:600}\
.figure,.tick{fill:#59636e}.name{text-anchor:end}.tick{text-anchor:middle}\
.page{fill:#ffffff}.line{stroke:#d1d9e0}.one{stroke:#818b98}.goal{stroke:#bc4c00;\
stroke-dasharray:4 3}.less{fill:#2da44e}.steady{fill:#218bff}.more{fill:#bc4c00}\
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.figure,.tick{fill:#9198a1}\
.page{fill:#0d1117}.line{stroke:#3d444d}.one{stroke:#656c76}.goal{stroke:#f0883e}\
.less{fill:#3fb950}.steady{fill:#4493f8}.more{fill:#f0883e}}";

/// The axis: growth on a logarithmic scale.
struct Axis {
    greatest: f64,
}

impl Axis {
    fn x(&self, growth: f64) -> f64 {
        let growth = growth.clamp(LEAST, self.greatest);
        LABELS + BARS * (growth / LEAST).ln() / (self.greatest / LEAST).ln()
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        TICKS.into_iter().filter(|tick| *tick <= self.greatest)
    }
}

/// Draws the bars, those of the calls that grow most first. `records` are the sizes of the shortest
/// and the longest log.
pub(crate) fn draw(records: [u64; 2], mut bars: Vec<Bar>) -> String {
    bars.sort_by(|a, b| b.growth().total_cmp(&a.growth()).then_with(|| a.call.cmp(&b.call)));
    let most = bars.first().map_or(1.0, Bar::growth);
    let axis = Axis { greatest: most.max(GREATEST) };
    let (width, height) = (LABELS + BARS + FIGURES, TOP + ROW * bars.len() + 12);
    let [first, last] = records.map(thousands);
    let mut svg = String::new();
    let mut line = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    line(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height}\" \
         role=\"img\"><title>The median of each call over {last} records in parts of that over \
         {first}</title>"
    ));
    line(format!("<style>{STYLE}</style>"));
    line(format!("<rect class=\"page\" width=\"{width:.0}\" height=\"{height}\"/>"));
    line(format!(
        "<text class=\"title\" x=\"8\" y=\"20\">Median at {last} records in parts of that at \
         {first}, one connection</text>"
    ));
    for tick in axis.ticks() {
        let x = axis.x(tick);
        let class = match tick {
            1.0 => "one",
            GROWTH_MAX => "goal",
            _ => "line",
        };
        line(format!(
            "<path class=\"{class}\" d=\"M{x:.1} {}V{}\"/><text class=\"tick\" x=\"{x:.1}\" \
             y=\"{}\">{tick}</text>",
            TOP - 8,
            height - 8,
            TOP - 14
        ));
    }
    for (row, bar) in bars.iter().enumerate() {
        line(drawn(bar, TOP + ROW * row, &axis));
    }
    line("</svg>".to_owned());
    svg
}

/// Draws one bar, from 1 to its growth.
fn drawn(bar: &Bar, top: usize, axis: &Axis) -> String {
    let growth = bar.growth();
    let class = match growth {
        _ if growth > GROWTH_MAX => "more",
        _ if growth < 1.0 => "less",
        _ => "steady",
    };
    let (one, end) = (axis.x(1.0), axis.x(growth));
    let (left, width, text) = (one.min(end), (end - one).abs().max(1.0), top + 11);
    let mut svg = format!("<text class=\"name\" x=\"{:.0}\" y=\"{text}\">", LABELS - 8.0);
    push_escaped(&mut svg, &bar.call);
    let figures = format!("{growth:.2}   {:.0} → {:.0} µs", bar.first_us, bar.last_us);
    // Writing to a string cannot fail.
    let _ = write!(
        svg,
        "</text><rect class=\"{class}\" x=\"{left:.1}\" y=\"{}\" width=\"{width:.1}\" \
         height=\"{}\"/><text class=\"figure\" x=\"{:.0}\" y=\"{text}\">{figures}</text>",
        top + 2,
        ROW - 5,
        LABELS + BARS + 8.0
    );
    svg
}

fn push_escaped(svg: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => svg.push_str("&amp;"),
            '<' => svg.push_str("&lt;"),
            '>' => svg.push_str("&gt;"),
            other => svg.push(other),
        }
    }
}

/// Writes a number with a comma before each three digits.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
