//! Plots as SVG that stands within a page, and takes its colours from it: light or dark.

mod colours;
mod dots;
mod key;
mod lines;

use std::io;

use plotters::drawing::DrawingAreaErrorKind;
use plotters::style::{IntoFont, TextStyle};

pub(crate) use colours::STYLE;
pub(crate) use dots::{DotPlot, Row};
pub(crate) use lines::{Line, LinePlot, Scale};

/// Why there is no picture.
pub(crate) type PlotError = DrawingAreaErrorKind<io::Error>;

/// The family of the page around it.
const FONT: &str = "sans-serif";
const FONT_SIZE: u32 = 15;

fn text_style() -> TextStyle<'static> {
    TextStyle::from((FONT, FONT_SIZE).into_font()).color(&colours::TEXT)
}

/// Microseconds as a person would say them.
pub(crate) fn microseconds(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", rounded(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", rounded(us / 1e3)),
        us => format!("{} µs", rounded(us)),
    }
}

/// A count, in thousands or millions if it is large.
pub(crate) fn count(count: f64) -> String {
    match count {
        count if count >= 1e6 => format!("{}M", rounded(count / 1e6)),
        count if count >= 1e4 => format!("{}k", rounded(count / 1e3)),
        count => rounded(count),
    }
}

/// Two digits below ten, none beyond.
fn rounded(number: f64) -> String {
    if number >= 10.0 {
        return format!("{number:.0}");
    }
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(microseconds(250.0), "250 µs");
        assert_eq!(microseconds(1_500.0), "1.5 ms");
        assert_eq!(microseconds(2e6), "2 s");
        assert_eq!(count(9_000.0), "9000");
        assert_eq!(count(186_994.0), "187k");
        assert_eq!(count(0.0), "0");
    }
}
