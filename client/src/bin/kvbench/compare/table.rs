//! The comparison as Markdown and as a plot.

use std::fmt::Write;
use std::path::Path;

use super::cell::Cell;
use super::figures::{Figures, LoadFigures};
use super::{Comparison, StoreResults};
use crate::plot::{DotPlot, Row, microseconds};
use crate::report::write_file;
use crate::trouble::Trouble;

impl Comparison {
    /// Two tables: what each did and by how much ours is better, then what it cost.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        self.write_markdown(&mut out)
            .expect("writing to a string does not fail");
        out
    }

    /// Writes the Markdown, and the plot beside it.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Trouble> {
        let plot_path = path.with_extension("svg");
        let plot_name = plot_path.file_name().unwrap_or_default().to_string_lossy();
        let text = format!("{}\n![operations per second]({plot_name})\n", self.markdown());
        write_file(path, &text)?;
        write_file(&plot_path, &self.plot().svg().map_err(Trouble::Plot)?)
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        let plan = &self.plan;
        writeln!(
            out,
            "Rounds: {}, of {:?} after {:?} of warm-up; medians. {} connections, {} keys of 16 bytes, values of {} bytes.\n\
             {}; kvbench {}.\n",
            plan.rounds,
            plan.duration,
            plan.warmup,
            plan.connections,
            plan.keys,
            plan.value_bytes,
            self.machine,
            env!("CARGO_PKG_VERSION")
        )?;
        self.write_ratios(out)?;
        out.push('\n');
        self.write_costs(out)?;
        self.write_failures(out)
    }

    /// Ratios above 1 mean that the first store is better: it does more, or takes less time.
    fn write_ratios(&self, out: &mut String) -> std::fmt::Result {
        let names: Vec<String> = self.results.iter().map(title).collect();
        let others = names.iter().skip(1);
        let ratios: Vec<String> = others.map(|other| format!("{} : {other}", names[0])).collect();
        let columns: Vec<&str> = names.iter().chain(&ratios).map(String::as_str).collect();
        write_header(out, "load", &columns)?;
        for (place, cell) in self.plan.cells.iter().enumerate() {
            let figures = || self.results.iter().map(|results| &results.cells[place]);
            let first = figures().next().and_then(|figures| merit(cell, figures));
            write!(out, "| {cell} |")?;
            for figures in figures() {
                write!(out, " {} |", figure(cell, figures))?;
            }
            for other in figures().skip(1) {
                match (first, merit(cell, other)) {
                    (Some(first), Some(other)) => write!(out, " {} |", ratio(first / other))?,
                    _ => out.push_str(" – |"),
                }
            }
            out.push('\n');
        }
        Ok(())
    }

    fn write_costs(&self, out: &mut String) -> std::fmt::Result {
        let columns: Vec<String> = self
            .results
            .iter()
            .map(|results| {
                format!(
                    "{}: p50 · p99 · server CPU µs · load CPU µs · failed",
                    results.store
                )
            })
            .collect();
        write_header(
            out,
            "load",
            &columns.iter().map(String::as_str).collect::<Vec<_>>(),
        )?;
        let loads = self.plan.cells.iter().enumerate();
        for (place, cell) in loads.filter(|(_, cell)| matches!(cell, Cell::Load(_))) {
            write!(out, "| {cell} |")?;
            for results in &self.results {
                match results.cells[place].load() {
                    Some(figures) => write!(out, " {} |", cost(&figures))?,
                    None => out.push_str(" – |"),
                }
            }
            out.push('\n');
        }
        Ok(())
    }

    fn write_failures(&self, out: &mut String) -> std::fmt::Result {
        for results in &self.results {
            for (cell, figures) in self.plan.cells.iter().zip(&results.cells) {
                if let Some(why) = figures.failure() {
                    writeln!(out, "\n{}, {cell}: {why}", results.store)?;
                }
            }
        }
        Ok(())
    }

    /// Rates of what has no fixed rate.
    fn plot(&self) -> DotPlot {
        let cells = self.plan.cells.iter().enumerate();
        let rates = cells.filter(|(_, cell)| matches!(cell, Cell::Load(_)) && cell.rate_due().is_none());
        let rows = rates.map(|(place, cell)| Row {
            name: cell.to_string(),
            values: self
                .results
                .iter()
                .map(|results| results.cells[place].load().map(|figures| figures.rate))
                .collect(),
        });
        DotPlot {
            x_label: "operations per second",
            names: self.results.iter().map(title).collect(),
            rows: rows.collect(),
        }
    }
}

fn title(results: &StoreResults) -> String {
    format!("{} {}", results.store, results.version)
}

fn write_header(out: &mut String, first: &str, columns: &[&str]) -> std::fmt::Result {
    writeln!(out, "| {first} | {} |", columns.join(" | "))?;
    writeln!(out, "|---|{}", "---|".repeat(columns.len()))
}

/// What stands in the first table.
fn figure(cell: &Cell, figures: &Figures) -> String {
    if let Some((median, most)) = figures.gap_ms() {
        return format!("{median:.0} ms, at most {most:.0}");
    }
    let Some(load) = figures.load() else {
        return if figures.failure().is_some() {
            "failed"
        } else {
            "–"
        }
        .to_owned();
    };
    match cell.rate_due() {
        None => format!("{}/s", thousands(load.rate)),
        Some(due) if !load.keeps_up(due) => format!("out of reach ({}/s)", thousands(load.rate)),
        Some(_) => format!(
            "p50 {}, p99 {}",
            microseconds(load.p50_us),
            microseconds(load.p99_us)
        ),
    }
}

/// What is compared: more is better. `None` where there is nothing to compare.
fn merit(cell: &Cell, figures: &Figures) -> Option<f64> {
    let load = figures.load()?;
    match cell.rate_due() {
        None => (load.rate > 0.0).then_some(load.rate),
        Some(due) => (load.keeps_up(due) && load.p50_us > 0.0).then(|| load.p50_us.recip()),
    }
}

fn ratio(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 10.0 => format!("{ratio:.0}"),
        ratio => format!("{ratio:.2}"),
    }
}

fn cost(figures: &LoadFigures) -> String {
    // Nothing that was due in the measured time was answered: behind by more than that.
    let latency = |us: f64| match us > 0.0 {
        true => microseconds(us),
        false => "–".to_owned(),
    };
    format!(
        "{} · {} · {:.1} · {:.1} · {}",
        latency(figures.p50_us),
        latency(figures.p99_us),
        figures.server_cpu_us,
        figures.client_cpu_us,
        figures.failures
    )
}

/// A whole number with its thousands apart.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests;
