//! Families of metrics, and their text for Prometheus
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4).
//!
//! Events are counted as they happen, in a [`Registry`]. What is counted or known elsewhere becomes
//! a family when it is asked for: [`counter`], [`gauge`].

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, TextEncoder,
};

/// The media type of the text.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A family: its name, its help, its type and its values.
pub type Family = MetricFamily;

/// One value of a family, with the values of its labels.
pub struct Sample<'a> {
    labels: Vec<(&'static str, &'a str)>,
    value: f64,
}

impl<'a> Sample<'a> {
    /// Makes a value with labels.
    pub fn new(
        labels: impl IntoIterator<Item = (&'static str, &'a str)>,
        value: f64,
    ) -> Sample<'a> {
        Sample { labels: labels.into_iter().collect(), value }
    }

    /// Makes the only value of a family.
    pub fn alone(value: f64) -> Sample<'static> {
        Sample { labels: Vec::new(), value }
    }
}

/// Makes a family of counters from what was counted elsewhere. Without a value it is not written.
pub fn counter<'a>(
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = Sample<'a>>,
) -> Family {
    let set = |metric: &mut Metric, value| {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    };
    family(name, help, MetricType::COUNTER, samples, set)
}

/// Makes a family of gauges from what is known elsewhere. Without a value it is not written.
pub fn gauge<'a>(name: &str, help: &str, samples: impl IntoIterator<Item = Sample<'a>>) -> Family {
    let set = |metric: &mut Metric, value| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    };
    family(name, help, MetricType::GAUGE, samples, set)
}

fn family<'a>(
    name: &str,
    help: &str,
    kind: MetricType,
    samples: impl IntoIterator<Item = Sample<'a>>,
    set: impl Fn(&mut Metric, f64),
) -> Family {
    let mut family = Family::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    let metric = |Sample { labels, value }: Sample<'a>| {
        let mut metric = Metric::from_label(labels.into_iter().map(pair).collect());
        set(&mut metric, value);
        metric
    };
    family.set_metric(samples.into_iter().map(metric).collect());
    family
}

fn pair((name, value): (&'static str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// Writes families in order of name. Those without a value are left out.
pub fn text(mut families: Vec<Family>) -> String {
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|one, other| one.name().cmp(other.name()));
    let text = TextEncoder::new().encode_to_string(&families);
    text.inspect_err(|error| tracing::error!(%error, "metrics cannot be written"))
        .unwrap_or_default()
}

/// What is counted as it happens.
#[derive(Default)]
pub struct Registry(prometheus::Registry);

/// A family of counters, by the values of its labels.
pub struct Counters(Option<IntCounterVec>);

/// One counter of a family.
#[derive(Clone)]
pub struct OneCounter(Option<IntCounter>);

/// A family of histograms, by the values of its labels.
pub struct Histograms(Option<HistogramVec>);

/// One histogram of a family.
#[derive(Clone)]
pub struct OneHistogram(Option<Histogram>);

impl Registry {
    /// Makes a family of counters. None of its values is written before it is counted or
    /// [`Counters::begin`] was called.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Counters {
        let counters = IntCounterVec::new(Opts::new(name, help), labels);
        Counters(self.register(counters))
    }

    /// Makes a family of histograms with these upper bounds, in ascending order.
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        bounds: &[f64],
    ) -> Histograms {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        Histograms(self.register(HistogramVec::new(options, labels)))
    }

    /// Returns the families with all that was counted since the start.
    pub fn families(&self) -> Vec<Family> {
        self.0.gather()
    }

    /// Registers a family. A malformed name or one that is taken leaves it out, which a test would
    /// notice: names are constants.
    fn register<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> Option<C> {
        let registered = made.and_then(|family| {
            self.0.register(Box::new(family.clone()))?;
            Ok(family)
        });
        registered.inspect_err(|error| tracing::error!(%error, "a metric is left out")).ok()
    }
}

impl Counters {
    /// Counts one more.
    pub fn count(&self, labels: &[&str]) {
        self.one(labels).count();
    }

    /// Begins to write a counter, at 0: only what was there before can be seen to rise.
    pub fn begin(&self, labels: &[&str]) {
        self.one(labels);
    }

    /// Looks for a counter, which is written from now on.
    pub fn one(&self, labels: &[&str]) -> OneCounter {
        OneCounter(self.0.as_ref().and_then(|all| all.get_metric_with_label_values(labels).ok()))
    }
}

impl OneCounter {
    /// Counts one more.
    pub fn count(&self) {
        self.0.iter().for_each(IntCounter::inc);
    }
}

impl Histograms {
    /// Counts a value.
    pub fn observe(&self, labels: &[&str], value: f64) {
        self.one(labels).observe(value);
    }

    /// Begins to write a histogram, without any value in it.
    pub fn begin(&self, labels: &[&str]) {
        self.one(labels);
    }

    /// Looks for a histogram, which is written from now on.
    pub fn one(&self, labels: &[&str]) -> OneHistogram {
        OneHistogram(self.0.as_ref().and_then(|all| all.get_metric_with_label_values(labels).ok()))
    }
}

impl OneHistogram {
    /// Counts a value.
    pub fn observe(&self, value: f64) {
        self.0.iter().for_each(|histogram| histogram.observe(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_in_order_and_those_without_a_value_are_not() {
        let registry = Registry::default();
        let counters = registry.counters("b_total", "Counts.", &["kind"]);
        let times = registry.histograms("c_seconds", "Times.", &[], &[0.5, 2.0]);
        registry.counters("never_total", "Never counted.", &["kind"]);
        counters.begin(&["none"]);
        counters.count(&["some"]);
        times.observe(&[], 0.5);
        times.observe(&[], 3.0);
        let states = [Sample::new([("id", "a\"b\\c\nd"), ("state", "x")], 1.5)];
        let mut families = registry.families();
        families.extend([gauge("a", "Is.\nSo.", states), gauge("e", "Empty.", [])]);
        families.push(counter("d_total", "Elsewhere.", [Sample::alone(7.0)]));
        let expected = r##"# HELP a Is.\nSo.
# TYPE a gauge
a{id="a\"b\\c\nd",state="x"} 1.5
# HELP b_total Counts.
# TYPE b_total counter
b_total{kind="none"} 0
b_total{kind="some"} 1
# HELP c_seconds Times.
# TYPE c_seconds histogram
c_seconds_bucket{le="0.5"} 1
c_seconds_bucket{le="2"} 1
c_seconds_bucket{le="+Inf"} 2
c_seconds_sum 3.5
c_seconds_count 2
# HELP d_total Elsewhere.
# TYPE d_total counter
d_total 7
"##;
        assert_eq!(text(families), expected);
    }
}
