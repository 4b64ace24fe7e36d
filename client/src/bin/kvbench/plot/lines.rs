//! Lines over an axis.

use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::{ChartBuilder, IntoDrawingArea, IntoLogRange, LineSeries, SVGBackend};
use plotters::style::Color;

use super::colours::{Role, themed};
use super::key;
use super::{PlotError, text_style};

const SIZE: (u32, u32) = (860, 320);

/// Room for what stands at the axis.
const Y_LABEL_WIDTH: i32 = 72;

/// A plot of lines.
#[derive(Debug)]
pub(crate) struct LinePlot {
    pub(crate) x_label: &'static str,
    pub(crate) x: Range<f64>,
    /// What stands at a place of the axis.
    pub(crate) x_text: fn(f64) -> String,
    pub(crate) scale: Scale,
    pub(crate) y_text: fn(f64) -> String,
    pub(crate) lines: Vec<Line>,
}

/// One line; where a point is `None` it is broken.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<Option<(f64, f64)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero.
    Linear,
    Logarithmic,
}

impl LinePlot {
    /// # Errors
    /// If the plotting crate can not draw it.
    pub(crate) fn svg(&self) -> Result<String, PlotError> {
        let values = self.lines.iter().flat_map(|line| line.points.iter().flatten());
        let (mut least, mut most) = (f64::INFINITY, 1.0_f64);
        for (_, y) in values {
            least = least.min(*y);
            most = most.max(*y);
        }
        let mut svg = String::new();
        match self.scale {
            Scale::Linear => self.draw(&mut svg, 0.0..most * 1.1)?,
            Scale::Logarithmic => {
                // Whole powers of ten, so that at least two are labelled.
                let floor = 10_f64.powf(least.min(most).max(0.001).log10().floor());
                let ceiling = 10_f64.powf(most.log10().ceil()).max(floor * 10.0);
                self.draw(&mut svg, (floor..ceiling).log_scale())?;
            }
        }
        Ok(themed(&svg))
    }

    fn draw<Y>(&self, svg: &mut String, y: Y) -> Result<(), PlotError>
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .margin_right(24)
            .x_label_area_size(44)
            .margin_top(key::HEIGHT)
            .y_label_area_size(Y_LABEL_WIDTH)
            .build_cartesian_2d(self.x.clone(), y)?;
        let text = text_style();
        let grid = Role::Grid.colour();
        chart
            .configure_mesh()
            .x_labels(11)
            .y_labels(6)
            .light_line_style(grid.mix(0.0))
            .bold_line_style(grid)
            .axis_style(grid)
            .label_style(text.clone())
            .x_desc(self.x_label)
            .x_label_formatter(&|x| (self.x_text)(*x))
            .y_label_formatter(&|y| (self.y_text)(*y))
            .draw()?;
        for (place, line) in self.lines.iter().enumerate() {
            let colour = Role::Series(place).colour().stroke_width(2);
            let parts = line.points.split(Option::is_none).filter(|part| !part.is_empty());
            for part in parts {
                chart.draw_series(LineSeries::new(part.iter().flatten().copied(), colour))?;
            }
        }
        if self.lines.len() > 1 {
            key::draw(&root, Y_LABEL_WIDTH, self.lines.iter().map(|line| line.name))?;
        }
        root.present()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{count, microseconds};

    #[test]
    fn lines_are_drawn_in_the_colours_of_the_page_and_broken_where_nothing_was() {
        let line = |name, at: f64| Line {
            name,
            points: vec![
                Some((0.0, at)),
                Some((1.0, at)),
                None,
                Some((3.0, at)),
                Some((4.0, at)),
            ],
        };
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let plot = LinePlot {
                x_label: "seconds",
                x: 0.0..4.0,
                x_text: count,
                scale,
                y_text: microseconds,
                lines: vec![line("p50", 100.0), line("p99", 20_000.0)],
            };
            let svg = plot.svg().unwrap();
            let lines_of = |place| svg.matches(&format!("stroke=\"var(--series-{place})\"")).count();
            assert_eq!((lines_of(0), lines_of(1)), (2, 2), "each in two parts");
            assert!(svg.contains("p99") && svg.contains("seconds") && !svg.contains("#0101"));
        }
    }

    #[test]
    fn a_plot_of_nothing_is_empty_and_no_error() {
        let plot = LinePlot {
            x_label: "seconds",
            x: 0.0..1.0,
            x_text: count,
            scale: Scale::Logarithmic,
            y_text: count,
            lines: Vec::new(),
        };
        assert!(plot.svg().unwrap().starts_with("<svg"));
    }
}
