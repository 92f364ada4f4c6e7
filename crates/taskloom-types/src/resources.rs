//! Abstract resources of a worker and needs of a task, such as `GPU=1`.

use std::fmt;

/// A quantity in millionths, so that adding and subtracting fractions is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(pub i64);

impl Amount {
    const SCALE: f64 = 1e6;

    /// `None` when the value is negative, not finite or beyond what fits.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        let scaled = (value * Self::SCALE).round();
        (scaled.is_finite() && (0.0..9e18).contains(&scaled)).then_some(Self(scaled as i64))
    }

    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / Self::SCALE
    }
}

/// Named amounts, sorted by name and free of duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Resources(Vec<(String, Amount)>);

impl Resources {
    /// Sorts by name; of two entries with one name the last counts.
    #[must_use]
    pub fn new(mut entries: Vec<(String, Amount)>) -> Self {
        entries.reverse();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|later, kept| later.0 == kept.0);
        Self(entries)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, Amount)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Amount {
        self.0.iter().find(|(n, _)| n == name).map_or(Amount(0), |(_, amount)| *amount)
    }

    /// Whether `self` has at least what `needed` asks for.
    #[must_use]
    pub fn covers(&self, needed: &Self) -> bool {
        needed.iter().all(|(name, amount)| self.get(name) >= amount)
    }

    /// Takes `needed` away. Call only after [`Resources::covers`].
    pub fn take(&mut self, needed: &Self) {
        self.change(needed, -1);
    }

    /// Gives back what [`Resources::take`] took.
    pub fn give_back(&mut self, needed: &Self) {
        self.change(needed, 1);
    }

    fn change(&mut self, needed: &Self, sign: i64) {
        for (name, amount) in &mut self.0 {
            amount.0 += sign * needed.get(name).0;
        }
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, amount)) in self.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{name}: {}", amount.as_f64())?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(entries: &[(&str, f64)]) -> Resources {
        let entry = |(n, v): &(&str, f64)| (n.to_string(), Amount::from_f64(*v).unwrap());
        Resources::new(entries.iter().map(entry).collect())
    }

    #[test]
    fn taking_and_giving_back_fractions_is_exact() {
        let total = resources(&[("GPU", 1.0), ("MEM", 0.3)]);
        let tenth = resources(&[("MEM", 0.1)]);
        let mut left = total.clone();
        for _ in 0..3 {
            assert!(left.covers(&tenth));
            left.take(&tenth);
        }
        assert!(!left.covers(&tenth));
        (0..3).for_each(|_| left.give_back(&tenth));
        assert_eq!(left, total);
    }

    #[test]
    fn nonsense_amounts_are_refused() {
        assert_eq!(Amount::from_f64(f64::NAN), None);
        assert_eq!(Amount::from_f64(-1.0), None);
        assert_eq!(Amount::from_f64(f64::INFINITY), None);
        assert!(!resources(&[]).covers(&resources(&[("GPU", 1.0)])));
    }

    #[test]
    fn the_last_of_two_equal_names_counts() {
        assert_eq!(resources(&[("a", 1.0), ("a", 2.0)]).get("a"), Amount(2_000_000));
    }
}
