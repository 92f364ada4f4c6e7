//! What was measured: as text for people and as JSON lines for programs.

use std::fmt;

/// One measurement: numbers with their units, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub case: &'static str,
    pub workers: usize,
    pub numbers: Vec<(&'static str, f64)>,
}

impl Sample {
    #[must_use]
    pub fn new(case: &'static str, workers: usize) -> Self {
        Self { case, workers, numbers: Vec::new() }
    }

    /// Adds a number. The unit is the end of its name, such as `cpu_us`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: f64) -> Self {
        self.numbers.push((name, value));
        self
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.numbers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// `{"case": "idle", "workers": 5000, "cpu_percent": 3.5}`
    #[must_use]
    pub fn to_json(&self) -> String {
        let number = |(name, value): &(&str, f64)| format!(", \"{name}\": {value}");
        let numbers: String = self.numbers.iter().map(number).collect();
        format!("{{\"case\": \"{}\", \"workers\": {}{numbers}}}", self.case, self.workers)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12} {:>5} workers", self.case, self.workers)?;
        self.numbers.iter().try_for_each(|(name, value)| write!(f, "  {name} {value:.3}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_one_line_of_json() {
        let sample = Sample::new("idle", 10).with("cpu_percent", 1.5).with("lost", 0.0);
        let expected = r#"{"case": "idle", "workers": 10, "cpu_percent": 1.5, "lost": 0}"#;
        assert_eq!(sample.to_json(), expected);
        assert_eq!(sample.get("lost"), Some(0.0));
    }
}
