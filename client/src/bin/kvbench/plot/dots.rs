//! Rows with a dot per compared thing, on a logarithmic axis: ratios are distances.

use plotters::prelude::{ChartBuilder, Circle, IntoDrawingArea, IntoLogRange, PathElement, SVGBackend};
use plotters::style::Color;

use super::colours::{Role, STYLE, themed};
use super::key;
use super::{PlotError, count, text_style};

const WIDTH: u32 = 860;
const ROW_HEIGHT: u32 = 30;

/// Axis, key and margins.
const FRAME_HEIGHT: u32 = 96;

/// Room for the names of rows.
const NAME_WIDTH: i32 = 220;

/// A picture of a whole comparison, as a file of its own.
#[derive(Debug)]
pub(crate) struct DotPlot {
    pub(crate) x_label: &'static str,
    /// What is compared.
    pub(crate) names: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// One row: a value per name, where there is one.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) values: Vec<Option<f64>>,
}

impl DotPlot {
    /// # Errors
    /// If the plotting crate can not draw it.
    pub(crate) fn svg(&self) -> Result<String, PlotError> {
        let mut svg = String::new();
        self.draw(&mut svg)?;
        let style = format!("<style>{STYLE}svg{{background:var(--paper)}}</style>");
        let body_at = svg.find('>').map_or(0, |end| end + 1);
        svg.insert_str(body_at, &style);
        Ok(themed(&svg))
    }

    fn draw(&self, svg: &mut String) -> Result<(), PlotError> {
        let values = || {
            self.rows
                .iter()
                .flat_map(|row| row.values.iter().flatten().copied())
        };
        let least = values().fold(f64::INFINITY, f64::min).clamp(0.1, 1e9);
        let most = values().fold(least * 10.0, f64::max);
        let rows = self.rows.len();
        let height = FRAME_HEIGHT + ROW_HEIGHT * rows as u32;
        let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .margin_top(key::HEIGHT)
            .margin_right(24)
            .x_label_area_size(44)
            .y_label_area_size(NAME_WIDTH)
            .build_cartesian_2d((least / 1.5..most * 1.5).log_scale(), -0.5..rows as f64 - 0.5)?;
        let text = text_style();
        let grid = Role::Grid.colour();
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(grid.mix(0.0))
            .bold_line_style(grid)
            .axis_style(grid)
            .label_style(text.clone())
            .x_desc(self.x_label)
            .x_label_formatter(&|x| count(*x))
            .y_labels(rows * 2 + 1)
            .y_label_formatter(&|y| self.row_name(*y))
            .draw()?;
        for (place, row) in self.rows.iter().rev().enumerate() {
            let at = |value: f64| (value, place as f64);
            let known = || row.values.iter().flatten().copied();
            let ends = [known().fold(f64::INFINITY, f64::min), known().fold(0.0, f64::max)];
            if ends[0] < ends[1] {
                let line = PathElement::new(ends.map(at).to_vec(), grid.stroke_width(2));
                chart.draw_series(std::iter::once(line))?;
            }
            for (series, value) in row.values.iter().enumerate() {
                let dot = value.map(|value| {
                    Circle::new(at(value), key::DOT_RADIUS, Role::Series(series).colour().filled())
                });
                chart.draw_series(dot)?;
            }
        }
        key::draw(&root, NAME_WIDTH, self.names.iter().map(String::as_str))?;
        root.present()
    }

    /// Rows stand from top to bottom, places from bottom to top, and labels between places are none.
    fn row_name(&self, place: f64) -> String {
        let is_row = place.fract() == 0.0 && place >= 0.0;
        let row = is_row
            .then(|| self.rows.iter().rev().nth(place as usize))
            .flatten();
        row.map_or_else(String::new, |row| row.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_a_dot_and_every_row_and_name_is_written() {
        let plot = DotPlot {
            x_label: "operations per second",
            names: vec!["raftkv".to_owned(), "etcd 3.5.1".to_owned()],
            rows: vec![
                Row {
                    name: "put, 1 client".to_owned(),
                    values: vec![Some(3_000.0), Some(1_000.0)],
                },
                Row {
                    name: "http-get, 256 clients".to_owned(),
                    values: vec![Some(100_000.0), None],
                },
            ],
        };
        let svg = plot.svg().unwrap();
        assert_eq!(
            svg.matches("<circle").count(),
            3 + 2,
            "three values, and two in the key"
        );
        for text in [
            "put, 1 client",
            "http-get, 256 clients",
            "etcd 3.5.1",
            "operations per second",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(svg.contains("prefers-color-scheme"));
    }
}
