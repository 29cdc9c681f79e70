//! The text format itself.

use std::fmt::Write as _;

/// Metrics and their samples, in the order in which they are added.
#[derive(Debug, Default)]
pub(super) struct Text {
    out: String,
    current: &'static str,
}

/// What the samples that follow are of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
}

// === impl Metric ===

impl Metric {
    /// Goes up and down.
    pub(super) fn gauge(name: &'static str, help: &'static str) -> Self {
        let kind = "gauge";
        Self { name, kind, help }
    }

    /// Only grows, until the process or what is counted ends.
    pub(super) fn counter(name: &'static str, help: &'static str) -> Self {
        let kind = "counter";
        Self { name, kind, help }
    }
}

// === impl Text ===

impl Text {
    /// Begins a metric.
    pub(super) fn metric(&mut self, Metric { name, kind, help }: Metric) {
        self.current = name;
        // Writing to memory can't fail.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample of the metric begun last.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.out.push_str(self.current);
        for (index, (label, value)) in labels.iter().enumerate() {
            let begin = if index == 0 { '{' } else { ',' };
            let value = escaped(value);
            let _ = write!(self.out, "{begin}{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }

    /// The whole.
    pub(super) fn finish(self) -> String {
        self.out
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_prometheus_reads_it() {
        let mut text = Text::default();
        text.metric(Metric::gauge("a", "An a."));
        text.sample(&[], 1);
        text.metric(Metric::counter("b_total", "Some b."));
        text.sample(&[("x", "1"), ("y", "a\"b\\c\nd")], 2);
        assert_eq!(
            text.finish(),
            "# HELP a An a.\n# TYPE a gauge\na 1\n\
             # HELP b_total Some b.\n# TYPE b_total counter\n\
             b_total{x=\"1\",y=\"a\\\"b\\\\c\\nd\"} 2\n"
        );
    }
}
