//! `GET /metrics` for Prometheus, and the writer of metrics.
//!
//! All metrics are computed from the status when they are asked for; nothing here waits for a
//! device or a worker, and nothing is counted twice. `docs/METRICS.md` has the meaning of each
//! metric and the number of series. Labels contain names of paths and words of fixed lists, never
//! error texts.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Extract;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, EncodeMetric,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::{Registry, Unit};

use super::daemon::MetricsSource;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of a daemon.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Registry>);

impl Metrics {
    pub(crate) fn new(source: MetricsSource) -> Metrics {
        let mut registry = Registry::with_prefix("pathpulse");
        registry.register_collector(Box::new(source));
        Metrics(Arc::new(registry))
    }

    fn text(&self, open_metrics: bool) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.0)?;
        if open_metrics {
            encode_eof(&mut text)?;
            return Ok(text);
        }
        plain(&text)
    }
}

/// `GET /metrics`: OpenMetrics for clients that accept it, as Prometheus does; the older text
/// format for others.
pub(crate) async fn answer(Extract(metrics): Extract<Metrics>, headers: HeaderMap) -> Response {
    let accepts = headers.get_all(header::ACCEPT).iter();
    let open_metrics = accepts
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("application/openmetrics-text"));
    let kind = if open_metrics { OPEN_METRICS } else { PLAIN };
    // Thousands of paths take a while, and other requests must not wait.
    let text = tokio::task::spawn_blocking(move || metrics.text(open_metrics));
    match text.await.unwrap_or(Err(fmt::Error)) {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Converts OpenMetrics to the older text format of Prometheus. There, the description of a counter
/// has the name of its samples, with `_total`, and there are no units.
fn plain(open_metrics: &str) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(help) = line.strip_prefix("# HELP ") else {
            if !line.starts_with("# UNIT ") {
                writeln!(text, "{line}")?;
            }
            continue;
        };
        let kind = lines.next_if(|line| line.starts_with("# TYPE "));
        let kind = kind.and_then(|line| line.rsplit(' ').next());
        let kind = kind.unwrap_or("untyped");
        let (name, help) = help.split_once(' ').unwrap_or((help, ""));
        let total = if kind == "counter" { "_total" } else { "" };
        writeln!(text, "# HELP {name}{total} {help}")?;
        writeln!(text, "# TYPE {name}{total} {kind}")?;
    }
    Ok(text)
}

/// A distribution of time spans.
pub(crate) struct Histogram {
    pub(crate) sum: Duration,
    pub(crate) count: u64,
    pub(crate) buckets: Vec<(f64, u64)>,
}

/// Writes metrics with their descriptions.
pub(crate) struct MetricsWriter<'a>(DescriptorEncoder<'a>);

impl<'a> MetricsWriter<'a> {
    pub(crate) fn new(encoder: DescriptorEncoder<'a>) -> MetricsWriter<'a> {
        MetricsWriter(encoder)
    }
}

impl MetricsWriter<'_> {
    /// A number without labels.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    /// A time span or a time; the name gets the unit as suffix.
    pub(crate) fn seconds(&mut self, name: &str, help: &str, value: Duration) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let mut metric = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        metric.encode_gauge(&value.as_secs_f64())
    }

    /// Numbers with labels.
    pub(crate) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.gauges_in(None, name, help, samples)
    }

    /// Time spans or times with labels; the name gets the unit as suffix.
    pub(crate) fn all_seconds<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, Duration)>,
    ) -> fmt::Result {
        self.gauges_in(Some(&Unit::Seconds), name, help, in_seconds(samples))
    }

    fn gauges_in<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        unit: Option<&Unit>,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut metric = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in samples {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A count since the start; the name gets the suffix `_total`.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        let metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        counter.encode(metric)
    }

    /// Counts since the start with labels; the name gets the suffix `_total`.
    pub(crate) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.counters_in(None, name, help, samples)
    }

    /// Sums of time spans since the start with labels; the name gets the unit and `_total` as
    /// suffix.
    pub(crate) fn seconds_counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, Duration)>,
    ) -> fmt::Result {
        self.counters_in(Some(&Unit::Seconds), name, help, in_seconds(samples))
    }

    fn counters_in<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        unit: Option<&Unit>,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut metric = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in samples {
            let metric = metric.encode_family(&labels)?;
            ConstCounter::new(value).encode(metric)?;
        }
        Ok(())
    }

    /// Histograms of time spans with labels; the name gets the unit as suffix. A bucket has its
    /// upper limit in seconds, and the number of values above the limit of the bucket before.
    pub(crate) fn histograms<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, Histogram)>,
    ) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let mut metric = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Histogram)?;
        for (labels, of) in samples {
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(
                of.sum.as_secs_f64(),
                of.count,
                &of.buckets,
                None,
            )?;
        }
        Ok(())
    }
}

fn in_seconds<L>(
    samples: impl IntoIterator<Item = (L, Duration)>,
) -> impl Iterator<Item = (L, f64)> {
    let samples = samples.into_iter();
    samples.map(|(labels, span)| (labels, span.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_text_names_counters_as_their_samples_do() {
        let open = "# HELP a_b Of b.\n# TYPE a_b counter\na_b_total{x=\"# HELP y\"} 1\n\
            # HELP c_seconds Of c.\n# TYPE c_seconds gauge\n# UNIT c_seconds seconds\nc_seconds 2.5\n";
        let old = "# HELP a_b_total Of b.\n# TYPE a_b_total counter\na_b_total{x=\"# HELP y\"} 1\n\
            # HELP c_seconds Of c.\n# TYPE c_seconds gauge\nc_seconds 2.5\n";
        assert_eq!(plain(open).expect("text"), old);
    }
}
