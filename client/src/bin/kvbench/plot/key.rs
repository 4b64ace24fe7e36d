//! Which colour is what, above the plot, where it hides nothing.

use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::prelude::{Circle, SVGBackend};
use plotters::style::Color;

use super::colours::Role;
use super::{PlotError, text_style};

/// Room for the key above a plot.
pub(super) const HEIGHT: u32 = 34;

const ENTRY_WIDTH: usize = 190;
pub(super) const DOT_RADIUS: i32 = 6;

/// Draws one entry per series, from `left` on.
pub(super) fn draw<'a>(
    root: &DrawingArea<SVGBackend<'_>, Shift>,
    left: i32,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<(), PlotError> {
    let text = text_style();
    for (series, name) in names.into_iter().enumerate() {
        let x = left + (series * ENTRY_WIDTH) as i32;
        root.draw(&Circle::new(
            (x, 18),
            DOT_RADIUS,
            Role::Series(series).colour().filled(),
        ))?;
        root.draw_text(name, &text, (x + 12, 12))?;
    }
    Ok(())
}
