//! The metrics of a node in OpenMetrics text: those the rooms count, and the meters of all mailboxes.
//!
//! Names and labels are kept sorted, so the same node renders the same text. A family is encoded under one description,
//! which is why this is one collector and not `prometheus-client`'s own families, whose order is random.

use crate::{report::ActorReport, stats::Counts};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry as Exposition,
};
use std::{collections::BTreeMap, fmt};

/// The content type of `Registry::render_metrics`.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// What the rooms count, by name and labels.
#[derive(Default)]
pub(crate) struct Metrics {
    families: BTreeMap<&'static str, Family>,
}

struct Family {
    help: &'static str,
    kind: Kind,
    label_names: Vec<&'static str>,
    series: BTreeMap<Labels, Series>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Clone)]
enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

impl Metrics {
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        match self.series(name, help, labels, Kind::Counter, || Series::Counter(Counter::default())) {
            Series::Counter(counter) => counter,
            Series::Gauge(_) | Series::Histogram(_) => unreachable!("a family holds one kind"),
        }
    }

    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        match self.series(name, help, labels, Kind::Gauge, || Series::Gauge(Gauge::default())) {
            Series::Gauge(gauge) => gauge,
            Series::Counter(_) | Series::Histogram(_) => unreachable!("a family holds one kind"),
        }
    }

    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        edges: &[f64],
    ) -> Histogram {
        let make = || Series::Histogram(Histogram::new(edges.iter().copied()));
        match self.series(name, help, labels, Kind::Histogram, make) {
            Series::Histogram(histogram) => histogram,
            Series::Counter(_) | Series::Gauge(_) => unreachable!("a family holds one kind"),
        }
    }

    fn series(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        kind: Kind,
        make: impl FnOnce() -> Series,
    ) -> Series {
        let label_names: Vec<_> = labels.iter().map(|(label, _)| *label).collect();
        let new = || Family { help, kind, label_names: label_names.clone(), series: BTreeMap::new() };
        let family = self.families.entry(name).or_insert_with(new);
        assert_eq!(family.kind, kind, "the metric {name} is used as two kinds");
        assert_eq!(family.label_names, label_names, "the metric {name} is used with other labels");
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        family.series.entry(labels).or_insert_with(make).clone()
    }

    /// All of it, with the meters of these actors.
    pub fn render(&self, actors: Vec<(Counts, ActorReport)>) -> String {
        let rooms = self.families.iter();
        let rooms = rooms.map(|(name, family)| (*name, family.help, family.kind, family.series.clone())).collect();
        let mut exposition = Exposition::default();
        exposition.register_collector(Box::new(Page { rooms, actors }));
        let mut text = String::new();
        // Writing to a string cannot fail, and neither does anything below.
        let written = encode(&mut text, &exposition);
        assert!(written.is_ok(), "metrics always render");
        text
    }
}

/// One rendering: a copy of everything it shows.
struct Page {
    rooms: Vec<(&'static str, &'static str, Kind, BTreeMap<Labels, Series>)>,
    actors: Vec<(Counts, ActorReport)>,
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        self.encode_mailboxes(&mut encoder)?;
        for (name, help, kind, series) in &self.rooms {
            let lines = series.iter().map(|(labels, series)| (labels.clone(), series));
            encode_family(&mut encoder, name, help, kind.metric_type(), lines)?;
        }
        Ok(())
    }
}

impl Page {
    fn encode_mailboxes(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        self.gauge(encoder, "kula_mailbox_depth", "Messages that wait", |actor| actor.1.depth as f64)?;
        self.gauge(encoder, "kula_mailbox_cap", "Messages that may wait", |actor| actor.1.cap as f64)?;
        self.gauge(encoder, "kula_actor_busy_ratio", "Part of the window in which the actor ran", |actor| {
            actor.1.busy
        })?;
        self.counter(encoder, "kula_mailbox_shed", "Messages refused because the mailbox was full", |actor| {
            actor.0.shed
        })?;
        self.counter(encoder, "kula_actor_restarts", "Times the actor was started again", |actor| actor.0.restarts)?;
        let waits = self.actors.iter().flat_map(|(_, report)| {
            let quantiles = [("0.5", report.wait_us.p50), ("0.99", report.wait_us.p99), ("1", report.wait_us.max)];
            quantiles.map(|(quantile, micros)| {
                let labels = vec![("path", report.path.to_string()), ("quantile", quantile.to_owned())];
                (labels, ConstGauge::new(micros as f64 / 1e6))
            })
        });
        let help = "How long messages of the window waited";
        encode_family(encoder, "kula_mailbox_wait_seconds", help, MetricType::Gauge, waits)?;
        let messages = self.actors.iter().flat_map(|(counts, report)| {
            counts.by_message.iter().map(|(name, taken)| {
                (vec![("path", report.path.to_string()), ("message", name.to_string())], ConstCounter::new(*taken))
            })
        });
        encode_family(encoder, "kula_mailbox_taken", "Messages taken, by type", MetricType::Counter, messages)
    }

    fn gauge(
        &self,
        encoder: &mut DescriptorEncoder,
        name: &str,
        help: &str,
        value: impl Fn(&(Counts, ActorReport)) -> f64,
    ) -> Result<(), fmt::Error> {
        let lines = self.actors.iter().map(|actor| (path_of(actor), ConstGauge::new(value(actor))));
        encode_family(encoder, name, help, MetricType::Gauge, lines)
    }

    fn counter(
        &self,
        encoder: &mut DescriptorEncoder,
        name: &str,
        help: &str,
        value: impl Fn(&(Counts, ActorReport)) -> u64,
    ) -> Result<(), fmt::Error> {
        let lines = self.actors.iter().map(|actor| (path_of(actor), ConstCounter::new(value(actor))));
        encode_family(encoder, name, help, MetricType::Counter, lines)
    }
}

fn path_of(actor: &(Counts, ActorReport)) -> Labels {
    vec![("path", actor.1.path.to_string())]
}

/// One description, then a line for each series. A family without series is left out.
fn encode_family<S: EncodeMetric>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    kind: MetricType,
    lines: impl Iterator<Item = (Labels, S)>,
) -> Result<(), fmt::Error> {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, series) in lines {
        if labels.is_empty() {
            // All series of a family have the same labels: this is the only one.
            return series.encode(family);
        }
        series.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Kind {
    fn metric_type(self) -> MetricType {
        match self {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        }
    }
}

impl EncodeMetric for &Series {
    fn encode(&self, encoder: prometheus_client::encoding::MetricEncoder) -> Result<(), fmt::Error> {
        match self {
            Series::Counter(counter) => counter.encode(encoder),
            Series::Gauge(gauge) => gauge.encode(encoder),
            Series::Histogram(histogram) => histogram.encode(encoder),
        }
    }

    fn metric_type(&self) -> MetricType {
        match self {
            Series::Counter(_) => MetricType::Counter,
            Series::Gauge(_) => MetricType::Gauge,
            Series::Histogram(_) => MetricType::Histogram,
        }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Page")
    }
}
