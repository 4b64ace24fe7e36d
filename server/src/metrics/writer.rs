//! Writes one metric after another: its help, its type, and a line for each label set.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use super::Durations;

/// The encoder adds what each counter's name ends with.
fn without_suffix(counter: &str) -> &str {
    counter.strip_suffix("_total").unwrap_or(counter)
}

const NO_LABELS: [(&str, &str); 0] = [];

/// See the module.
pub(super) struct Writer<'a>(pub(super) DescriptorEncoder<'a>);

impl Writer<'_> {
    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    /// One of each label set; not even its name where there is none.
    pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        values.try_for_each(|(labels, value)| metric.encode_family(&labels)?.encode_gauge(&value))
    }

    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeCounterValue + Copy,
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(without_suffix(name), help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        mut values: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(without_suffix(name), help, None, MetricType::Counter)?;
        values.try_for_each(|(labels, value)| {
            let mut of = metric.encode_family(&labels)?;
            of.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, durations: &Durations) -> fmt::Result {
        self.histograms(name, help, std::iter::once((NO_LABELS, durations)))
    }

    pub(super) fn histograms<'d, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        mut values: impl Iterator<Item = (L, &'d Durations)>,
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        values.try_for_each(|(labels, durations)| {
            let mut of = metric.encode_family(&labels)?;
            let (sum, count) = (durations.sum().as_secs_f64(), durations.count());
            of.encode_histogram::<NoLabelSet>(sum, count, &durations.buckets(), None)
        })
    }
}
