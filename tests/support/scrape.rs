//! Metrics in Prometheus' text format.

use std::fmt;

/// One reading of all metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    /// As written: `disposition="done",sink="main"`.
    labels: String,
    value: f64,
}

impl Metrics {
    /// Lines that are no sample are left out.
    #[must_use]
    pub fn parse(text: &str) -> Metrics {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.trim().rsplit_once(' ')?;
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.trim_end_matches('}')),
                None => (series, ""),
            };
            Some(Sample { name: name.to_owned(), labels: labels.to_owned(), value: value.parse().ok()? })
        });
        Metrics { samples: samples.collect() }
    }

    /// The sum over all labels; `None` where there is no such metric.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.sum(name, "")
    }

    /// The sum over the samples that have `label`, written as `disposition="done"`.
    #[must_use]
    pub fn sum(&self, name: &str, label: &str) -> Option<f64> {
        self.samples
            .iter()
            .filter(|sample| sample.name == name && sample.labels.contains(label))
            .map(|sample| sample.value)
            .reduce(|a, b| a + b)
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for sample in &self.samples {
            writeln!(f, "{}{{{}}} {}", sample.name, sample.labels, sample.value)?;
        }
        Ok(())
    }
}
