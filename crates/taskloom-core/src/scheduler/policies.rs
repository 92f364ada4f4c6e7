//! The rarely used options of tasks, each different set of them once: a task has only a number.

use super::Map;
use taskloom_proto::policy::TaskPolicy;
use taskloom_proto::wire::Wire;

#[derive(Debug, Default)]
struct PolicyRecord {
    /// By which it is found again.
    bytes: Vec<u8>,
    policy: TaskPolicy,
    /// Live tasks, and batches under way, that name it.
    uses: u32,
}

/// Policies by number, from 1 on; 0 means none.
#[derive(Debug, Default)]
pub struct PolicyTable {
    records: Vec<PolicyRecord>,
    by_bytes: Map<Vec<u8>, u32>,
    free: Vec<u32>,
}

impl PolicyTable {
    /// The policy's number, used once by the caller.
    pub fn intern(&mut self, policy: &TaskPolicy) -> u32 {
        let mut bytes = Vec::new();
        policy.write(&mut bytes);
        if let Some(number) = self.by_bytes.get(&bytes).copied() {
            self.add_use(number);
            return number;
        }
        let record = PolicyRecord { bytes: bytes.clone(), policy: policy.clone(), uses: 1 };
        let number = if let Some(number) = self.free.pop() {
            self.records[number as usize - 1] = record;
            number
        } else {
            self.records.push(record);
            self.records.len() as u32
        };
        self.by_bytes.insert(bytes, number);
        number
    }

    pub fn get(&self, number: u32) -> Option<&TaskPolicy> {
        let record = self.records.get((number as usize).checked_sub(1)?)?;
        Some(&record.policy)
    }

    pub fn add_use(&mut self, number: u32) {
        if let Some(record) = self.record(number) {
            record.uses += 1;
        }
    }

    pub fn release(&mut self, number: u32) {
        let Some(record) = self.record(number) else { return };
        record.uses = record.uses.saturating_sub(1);
        if record.uses == 0 {
            let record = std::mem::take(record);
            self.by_bytes.remove(&record.bytes);
            self.free.push(number);
        }
    }

    fn record(&mut self, number: u32) -> Option<&mut PolicyRecord> {
        self.records.get_mut((number as usize).checked_sub(1)?)
    }

    /// Numbers in use, with how often; for checks.
    pub fn uses(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let numbered = self.records.iter().enumerate();
        numbered.map(|(at, record)| (at as u32 + 1, record.uses)).filter(|(_, uses)| *uses > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_policies_are_one_and_go_with_their_last_user() {
        let mut table = PolicyTable::default();
        let of = |timeout_ns| TaskPolicy { timeout_ns, ..TaskPolicy::default() };
        let (a, b) = (table.intern(&of(1)), table.intern(&of(2)));
        assert_eq!((a, b, table.intern(&of(1))), (1, 2, 1));
        table.release(a);
        assert_eq!(table.get(a), Some(&of(1)));
        table.release(a);
        table.release(0);
        assert_eq!(table.uses().collect::<Vec<_>>(), [(b, 1)]);
        assert_eq!(table.intern(&of(3)), a);
        assert_eq!((table.get(0), table.get(9)), (None, None));
    }
}
