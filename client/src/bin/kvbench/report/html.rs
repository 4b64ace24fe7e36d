//! The result as one page that needs nothing beside it.

use std::fmt::Write;

use super::Report;
use super::settings_table::rows;
use crate::plot::{Line, LinePlot, PlotError, STYLE, Scale, count, microseconds};
use crate::recorder::{Latencies, percentile_us};
use crate::series::{Point, PointLatency};

const LAYOUT: &str = "\
body{font:16px/1.5 system-ui,sans-serif;background:var(--paper);color:var(--text);max-width:56rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .25rem}svg{width:100%;height:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.2rem .8rem;border-bottom:1px solid var(--grid)}th:first-child,td:first-child{text-align:left;padding-left:0}
.settings td{text-align:left;vertical-align:top}.bad{color:var(--series-1)}
";

/// The percentile curve ends where fewer than so many operations are left to tell more.
const LEAST_BEYOND: f64 = 1.0;

impl Report {
    /// # Errors
    /// If a plot can not be drawn.
    pub(crate) fn html(&self) -> Result<String, PlotError> {
        let plots = [
            (
                "Throughput over time, operations per second",
                throughput(&self.series),
            ),
            ("Latency over time", latency(&self.series)),
            ("Latency by percentile", percentiles(self)),
        ];
        let mut page = String::new();
        self.write_head(&mut page)
            .expect("writing to a string does not fail");
        for (title, plot) in plots {
            let svg = plot.svg()?;
            write!(page, "<h2>{title}</h2>\n{svg}").expect("writing to a string does not fail");
        }
        page.push_str("</body>\n</html>\n");
        Ok(page)
    }

    fn write_head(&self, out: &mut String) -> std::fmt::Result {
        let rate = self.operations_per_second();
        writeln!(
            out,
            "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>kvbench: {rate:.0} operations per second</title>\
             <style>{STYLE}{LAYOUT}</style></head>\n<body>\n<h1>{rate:.0} operations per second</h1>"
        )?;
        out.push_str("<table class=\"settings\">\n");
        for (name, value) in rows(self) {
            writeln!(out, "<tr><td>{name}</td><td>{}</td></tr>", escaped(&value))?;
        }
        out.push_str("</table>\n");
        self.write_latencies(out)?;
        self.write_remarks(out)
    }

    fn write_latencies(&self, out: &mut String) -> std::fmt::Result {
        out.push_str(
            "<h2>Latency</h2>\n<table><tr><th></th><th>count</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th>\
             <th>max</th></tr>\n",
        );
        for (name, latencies) in [("get", &self.recorder.reads), ("put", &self.recorder.writes)] {
            if latencies.is_empty() {
                continue;
            }
            write!(out, "<tr><td>{name}</td><td>{}</td>", latencies.len())?;
            for percentile in [50.0, 90.0, 99.0, 99.9, 100.0] {
                write!(
                    out,
                    "<td>{}</td>",
                    microseconds(percentile_us(latencies, percentile))
                )?;
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</table>\n");
        Ok(())
    }

    /// What else there is to know, good or bad.
    fn write_remarks(&self, out: &mut String) -> std::fmt::Result {
        if let Some(server) = self.server_cpu_us() {
            let client = self.client_cpu_us();
            writeln!(
                out,
                "<p>CPU per operation: servers {server:.1} µs together, the load {client:.1} µs</p>"
            )?;
        }
        for (reason, count) in &self.recorder.errors {
            writeln!(out, "<p class=\"bad\">failed ({reason}): {count}</p>")?;
        }
        for (what, count) in [
            ("gets that found no key", self.recorder.misses),
            ("compares that another came before", self.recorder.conflicts),
            ("due but not started, for want of a free client", self.unstarted),
        ] {
            if count > 0 {
                writeln!(out, "<p>{what}: {count}</p>")?;
            }
        }
        let Some(ledger) = &self.ledger else {
            return Ok(());
        };
        let (acknowledged, wrong) = (ledger.acknowledged(), ledger.violations().len());
        writeln!(
            out,
            "<p>Read back: {acknowledged} acknowledged writes, {wrong} wrong</p>"
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn over_time(series: &[Point], scale: Scale, y_text: fn(f64) -> String, lines: Vec<Line>) -> LinePlot {
    LinePlot {
        x_label: "seconds since the begin of the measurement",
        x: 0.0..series.last().map_or(1.0, |point| point.at_s + series[0].at_s),
        x_text: count,
        scale,
        y_text,
        lines,
    }
}

fn throughput(series: &[Point]) -> LinePlot {
    let points = series.iter().map(|point| Some((point.at_s, point.rate)));
    let line = Line {
        name: "operations per second",
        points: points.collect(),
    };
    over_time(series, Scale::Linear, count, vec![line])
}

fn latency(series: &[Point]) -> LinePlot {
    let line = |name, of: fn(&PointLatency) -> f64| Line {
        name,
        points: series
            .iter()
            .map(|point| Some((point.at_s, of(point.latency.as_ref()?))))
            .collect(),
    };
    let lines = vec![
        line("p50", |latency| latency.p50_us),
        line("p99", |latency| latency.p99_us),
        line("max", |latency| latency.max_us),
    ];
    over_time(series, Scale::Logarithmic, microseconds, lines)
}

/// Each step to the right is a tenth of what was left: the tail takes as much room as the rest.
fn percentiles(report: &Report) -> LinePlot {
    let recorded = [("get", &report.recorder.reads), ("put", &report.recorder.writes)];
    let recorded = recorded
        .into_iter()
        .filter(|(_, latencies)| !latencies.is_empty());
    let lines: Vec<Line> = recorded
        .map(|(name, latencies)| Line {
            name,
            points: curve(latencies),
        })
        .collect();
    let ends = lines
        .iter()
        .filter_map(|line| line.points.last().copied().flatten());
    LinePlot {
        x_label: "share of operations that were faster",
        x: 0.0..ends.map(|(nines, _)| nines).fold(1.0, f64::max),
        x_text: share,
        scale: Scale::Logarithmic,
        y_text: microseconds,
        lines,
    }
}

/// Points at the numbers of nines that the count of operations can tell.
fn curve(latencies: &Latencies) -> Vec<Option<(f64, f64)>> {
    const STEPS_PER_NINE: usize = 20;
    let most = (latencies.len() as f64 / LEAST_BEYOND).log10();
    (0..=(most * STEPS_PER_NINE as f64) as usize)
        .map(|step| {
            let nines = step as f64 / STEPS_PER_NINE as f64;
            let percentile = 100.0 * (1.0 - 10_f64.powf(-nines));
            Some((nines, percentile_us(latencies, percentile)))
        })
        .collect()
}

/// A number of nines as a percentage; nothing between whole ones.
fn share(nines: f64) -> String {
    if nines.fract().abs() > 1e-9 {
        return String::new();
    }
    let digits = (nines - 2.0).max(0.0) as usize;
    format!("{:.digits$} %", 100.0 * (1.0 - 10_f64.powf(-nines)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{latencies, record};
    use std::time::Duration;

    #[test]
    fn the_curve_goes_as_far_as_the_operations_can_tell() {
        let mut recorded = latencies();
        for ms in 1..=1000 {
            record(&mut recorded, Duration::from_millis(ms));
        }
        let points: Vec<(f64, f64)> = curve(&recorded).into_iter().flatten().collect();
        assert_eq!(points.len(), 61, "three nines of a thousand operations");
        let (nines, us) = points[20];
        assert!(
            (nines - 1.0).abs() < 1e-9 && (us - 900_000.0).abs() < 2_000.0,
            "{nines} {us}"
        );
        assert_eq!(
            (share(0.0), share(1.0), share(3.0)),
            ("0 %".into(), "90 %".into(), "99.9 %".into())
        );
        assert_eq!(share(1.5), "");
    }

    #[test]
    fn text_is_not_taken_for_markup() {
        assert_eq!(escaped("<b> & c"), "&lt;b&gt; &amp; c");
    }
}
