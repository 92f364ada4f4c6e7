//! In which portions a gather asks workers for results.
//!
//! Short results are asked for in pieces, few of them at a time: what has come is read while the
//! next is on its way, and the memory that it came in is used again while it is warm. One answer for
//! all of them would take as much new memory as they have bytes, besides what they become.

use crate::data::SHARE_FROM;
use hashbrown::HashMap;
use std::collections::VecDeque;
use taskloom_types::{TaskId, WorkerNo};

/// A piece is full with this many bytes, or this many results.
const PIECE_BYTES: u64 = 1024 * 1024;
const PIECE_RESULTS: usize = 1024;

/// Pieces that a worker is asked for and that have not come.
const UNDER_WAY: usize = 2;

/// A result that is with a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// In the gather.
    pub position: usize,
    pub task: TaskId,
    /// As estimated by its worker.
    pub size_bytes: u64,
}

/// What one question asks for.
#[derive(Debug, Default, Clone)]
pub(super) struct Piece {
    /// Positions in the gather and the tasks' numbers.
    pub results: Vec<(usize, TaskId)>,
    /// They come in memory of their own, and are not held back.
    is_long: bool,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Piece>,
    /// Of short results.
    under_way: usize,
    /// Of long ones.
    long_under_way: usize,
}

impl Line {
    fn next(&mut self) -> Option<Piece> {
        if self.waiting.front()?.is_long {
            self.long_under_way += 1;
        } else if self.under_way < UNDER_WAY {
            self.under_way += 1;
        } else {
            return None;
        }
        self.waiting.pop_front()
    }
}

/// What each worker is still to be asked for.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: HashMap<WorkerNo, Line>,
}

impl Lines {
    /// Puts results of one worker into its line.
    pub(super) fn add(&mut self, worker: WorkerNo, wanted: &[Wanted]) {
        let line = self.lines.entry(worker).or_default();
        let (mut long, mut piece) = (Piece { is_long: true, ..Piece::default() }, Piece::default());
        let mut bytes: u64 = 0;
        for one in wanted {
            let result = (one.position, one.task);
            if one.size_bytes >= SHARE_FROM as u64 {
                long.results.push(result);
                continue;
            }
            piece.results.push(result);
            bytes = bytes.saturating_add(one.size_bytes);
            if bytes >= PIECE_BYTES || piece.results.len() >= PIECE_RESULTS {
                line.waiting.push_back(std::mem::take(&mut piece));
                bytes = 0;
            }
        }
        if !piece.results.is_empty() {
            line.waiting.push_back(piece);
        }
        if !long.results.is_empty() {
            line.waiting.push_front(long);
        }
    }

    /// What is to be asked for now.
    pub(super) fn next(&mut self) -> Vec<(WorkerNo, Piece)> {
        let mut pieces = Vec::new();
        for (worker, line) in &mut self.lines {
            while let Some(piece) = line.next() {
                pieces.push((*worker, piece));
            }
        }
        pieces
    }

    /// A piece has come, or never will.
    pub(super) fn end(&mut self, worker: WorkerNo, piece: &Piece) {
        let Some(line) = self.lines.get_mut(&worker) else { return };
        let count = if piece.is_long { &mut line.long_under_way } else { &mut line.under_way };
        *count = count.saturating_sub(1);
        if line.waiting.is_empty() && line.under_way + line.long_under_way == 0 {
            self.lines.remove(&worker);
        }
    }

    /// Whether everything was asked for and has come.
    pub(super) fn are_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(range: std::ops::Range<usize>, size_bytes: u64) -> Vec<Wanted> {
        let task = |at: usize| TaskId { index: at as u32, generation: 1 };
        range.map(|position| Wanted { position, task: task(position), size_bytes }).collect()
    }

    fn positions(piece: &Piece) -> Vec<usize> {
        piece.results.iter().map(|(position, _)| *position).collect()
    }

    #[test]
    fn short_results_come_in_few_pieces_at_a_time_each_once() {
        let mut lines = Lines::default();
        lines.add(WorkerNo(1), &wanted(0..1000, 10_000));
        let mut got = Vec::new();
        let mut under_way = VecDeque::new();
        while !lines.are_empty() {
            under_way.extend(lines.next());
            assert!(under_way.len() <= UNDER_WAY);
            let (worker, piece) = under_way.pop_front().expect("something is under way");
            assert!(piece.results.len() as u64 * 10_000 < PIECE_BYTES + 10_000);
            got.extend(positions(&piece));
            lines.end(worker, &piece);
        }
        assert_eq!(got, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn results_without_a_size_are_not_asked_for_all_at_once() {
        let mut lines = Lines::default();
        lines.add(WorkerNo(1), &wanted(0..10_000, 0));
        let asked: usize = lines.next().iter().map(|(_, piece)| piece.results.len()).sum();
        assert_eq!(asked, UNDER_WAY * PIECE_RESULTS);
    }

    #[test]
    fn long_results_are_asked_for_at_once_and_before_short_ones() {
        let mut lines = Lines::default();
        let mut all = wanted(0..300, 10_000);
        all.extend(wanted(300..350, u64::MAX));
        lines.add(WorkerNo(1), &all);
        let asked = lines.next();
        assert_eq!(positions(&asked[0].1), (300..350).collect::<Vec<_>>());
        assert_eq!(asked.len(), 1 + UNDER_WAY);
        asked.iter().for_each(|(worker, piece)| lines.end(*worker, piece));
        assert!(!lines.are_empty());
    }

    #[test]
    fn each_worker_has_a_line_of_its_own() {
        let mut lines = Lines::default();
        lines.add(WorkerNo(1), &wanted(0..1000, 10_000));
        lines.add(WorkerNo(2), &wanted(1000..2000, 10_000));
        let of = |worker, asked: &[(WorkerNo, Piece)]| {
            asked.iter().filter(|(its, _)| *its == WorkerNo(worker)).count()
        };
        let asked = lines.next();
        assert_eq!((of(1, &asked), of(2, &asked)), (UNDER_WAY, UNDER_WAY));
        assert!(lines.next().is_empty());
    }
}
