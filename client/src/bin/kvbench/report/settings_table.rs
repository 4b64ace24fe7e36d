//! Settings, versions and machine in words: what a figure is worth nothing without.

use clap::ValueEnum;

use super::Report;
use crate::settings::{Length, Settings, WorkloadName};

/// A setting as it is spelt on the command line.
pub(super) fn name_of(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

/// What was measured, with what, and on what.
pub(super) fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let settings = &report.settings;
    vec![
        ("workload", workload(settings)),
        ("load", load(settings)),
        ("data", data(settings)),
        ("target", target(report)),
        ("machine", report.machine.to_string()),
    ]
}

fn workload(settings: &Settings) -> String {
    let name = name_of(&settings.workload);
    let promise = name_of(&settings.promise);
    match settings.workload {
        WorkloadName::Put => format!("{name}, {}", name_of(&settings.writes)),
        WorkloadName::Get | WorkloadName::Cas | WorkloadName::Txn => format!("{name}, reads {promise}"),
        WorkloadName::Lease => format!("{name}: grant, put, revoke, {}", name_of(&settings.writes)),
        WorkloadName::Scan => format!("{name}, pages of {} keys, {promise}", settings.scan_keys),
        WorkloadName::Mixed => format!("{name}, {:.0} % reads, {promise}", settings.read_ratio * 100.0),
    }
}

fn load(settings: &Settings) -> String {
    let pace = settings.rate.map_or("closed loop".to_owned(), |rate| {
        format!("open loop, {rate} per second due, latency from the due time")
    });
    let length = match settings.length {
        Length::Time(duration) => format!("{duration:?}"),
        Length::Operations(count) => format!("{count} operations"),
    };
    let (clients, connections, warmup) = (settings.clients, settings.connections, settings.warmup);
    format!("{clients} clients over {connections} connections, {pace}, {length} after {warmup:?} of warm-up")
}

fn data(settings: &Settings) -> String {
    let (keys, distribution) = (settings.keys, name_of(&settings.distribution));
    let preload = match settings.preload {
        true => ", each written before",
        false => "",
    };
    let (key_bytes, value_bytes, seed) = (settings.key_bytes, settings.value_bytes, settings.seed);
    format!(
        "{keys} keys of {key_bytes} bytes, {distribution}{preload}; values of {value_bytes} bytes; seed {seed}"
    )
}

fn target(report: &Report) -> String {
    let settings = &report.settings;
    format!(
        "{} {}, connections to {} of {}; kvbench {}",
        name_of(&settings.target),
        report.server_version,
        name_of(&settings.route),
        settings.endpoints.join(", "),
        env!("CARGO_PKG_VERSION")
    )
}
