use super::*;
use taskloom_proto::memory::MemoryState;

/// A worker that may keep 100 kB of results in memory, spills when the process exceeds 150 kB, and
/// pauses beyond 200 kB.
fn script() -> Script {
    Script::with(MemoryLimits {
        limit_bytes: 250_000,
        target_bytes: 100_000,
        spill_bytes: 150_000,
        pause_bytes: 200_000,
        exhausted_after_ns: Nanos::SECOND,
    })
}

impl Script {
    /// Makes a result of so many bytes.
    fn make(&mut self, index: u32, size_bytes: u64) -> Vec<Action> {
        self.make_in(index, size_bytes, 0)
    }

    fn make_in(&mut self, index: u32, size_bytes: u64, duration_ns: u64) -> Vec<Action> {
        self.compute([run(index)]);
        assert_eq!(self.start(), Some(index));
        self.on(|worker, _| assert!(worker.on_finished(task(index), 1, size_bytes, duration_ns)))
    }

    fn make_and_write(&mut self, index: u32, size_bytes: u64) -> (Vec<u32>, Vec<Action>) {
        let actions = self.make(index, size_bytes);
        self.write_all(&actions)
    }

    fn measure(&mut self, resident_bytes: u64) -> Vec<Action> {
        self.on(|worker, now| worker.on_resident(now, resident_bytes))
    }

    /// Answers the orders to write; which were of use.
    fn write_all(&mut self, actions: &[Action]) -> (Vec<u32>, Vec<Action>) {
        let (mut written, mut more) = (Vec::new(), Vec::new());
        for (index, ticket) in spills(actions) {
            more.extend(self.on(|worker, _| {
                if worker.on_spilled(task(index), ticket) {
                    written.push(index);
                }
            }));
        }
        (written, more)
    }

    fn read(&mut self, index: u32, ticket: Ticket) -> Vec<Action> {
        self.on(|worker, _| assert!(worker.on_loaded(task(index), ticket, false)))
    }
}

/// The orders to write: which values, and their tickets.
fn spills(actions: &[Action]) -> Vec<(u32, Ticket)> {
    let spill = |action: &Action| match action {
        Action::Spill { task, ticket } => Some((task.index, *ticket)),
        _ => None,
    };
    actions.iter().filter_map(spill).collect()
}

fn unspills(actions: &[Action]) -> Vec<(u32, Ticket)> {
    let unspill = |action: &Action| match action {
        Action::Unspill { task, ticket } => Some((task.index, *ticket)),
        _ => None,
    };
    actions.iter().filter_map(unspill).collect()
}

fn states(actions: &[Action]) -> Vec<u8> {
    let state = |action: &Action| match action {
        Action::Send(WorkerToScheduler::Memory(news)) => Some(news.state),
        _ => None,
    };
    actions.iter().filter_map(state).collect()
}

#[test]
fn below_the_target_nothing_moves() {
    let mut script = script();
    for index in 0..5 {
        assert!(spills(&script.make(index, 20_000)).is_empty());
    }
    assert!(script.measure(149_000).is_empty());
}

#[test]
fn what_was_used_longest_ago_goes_first_and_only_as_much_as_needed() {
    let mut script = script();
    script.make(1, 40_000);
    script.make(2, 40_000);
    // 1 is used again.
    script.compute([run(3).needs(1)]);
    assert_eq!(script.start(), Some(3));
    let actions = script.on(|worker, _| assert!(worker.on_finished(task(3), 1, 40_000, 0)));
    let (written, more) = script.write_all(&actions);
    assert_eq!(written, [2]);
    assert!(spills(&more).is_empty());
    assert_eq!(script.worker.spilled_bytes(), 40_000);
    assert_eq!(script.worker.managed_bytes(), 120_000);
}

#[test]
fn of_two_that_were_used_at_the_same_time_what_took_longer_to_make_stays() {
    for (slow, quick) in [(1, 2), (2, 1)] {
        let mut script = script();
        let minute = 60 * Nanos::SECOND;
        let takes = |index| if index == slow { minute } else { 1_000 };
        script.make_in(1, 60_000, takes(1));
        let actions = script.make_in(2, 60_000, takes(2));
        assert_eq!(script.write_all(&actions).0, [quick]);
    }
}

/// What the scheduler is asked whether it may go.
fn spares(actions: &[Action]) -> Vec<u32> {
    let spare = |action: &Action| match action {
        Action::Send(WorkerToScheduler::Spare(tasks)) => tasks.iter().map(|t| t.index).collect(),
        _ => Vec::new(),
    };
    actions.iter().flat_map(spare).collect()
}

/// 9 came from a peer for a run that has ended; of 1 and 2, which were made here, one is too much.
fn with_a_copy() -> (Script, Vec<Action>) {
    let mut script = script();
    script.make(1, 30_000);
    script.compute([run(5).needs_from(9, 40_000, &[ALICE])]);
    script.fetched(ALICE, &[(9, FetchOutcome::Value { size_bytes: 40_000 })]);
    assert_eq!(script.start(), Some(5));
    script.on(|worker, _| assert!(worker.on_finished(task(5), 1, 10, 0)));
    let actions = script.make(2, 40_000);
    (script, actions)
}

#[test]
fn a_copy_of_anothers_result_is_offered_before_anything_is_written() {
    let (mut script, actions) = with_a_copy();
    assert_eq!(spares(&actions), [9]);
    assert!(spills(&actions).is_empty());
    assert_eq!(script.free(&[9]), [drop_value(9)]);
    assert_eq!(script.worker.managed_bytes(), 70_010);
    assert!(spills(&script.measure(110_000)).is_empty());
}

#[test]
fn a_copy_that_has_to_stay_goes_to_disk_and_is_not_offered_again() {
    let (mut script, _) = with_a_copy();
    let actions = script.measure(110_000);
    assert!(spares(&actions).is_empty());
    assert_eq!(script.write_all(&actions).0, [1]);
    let actions = script.make(3, 90_000);
    assert!(spares(&actions).is_empty());
    assert_eq!(script.write_all(&actions).0, [2, 9]);
}

#[test]
fn small_values_stay_and_are_not_looked_at_again_and_again() {
    let mut script = script();
    for index in 0..300 {
        assert!(spills(&script.make(index, 500)).is_empty());
    }
    assert_eq!(script.worker.spilled_bytes(), 0);
}

#[test]
fn what_a_run_here_waits_for_goes_last() {
    let mut script = script();
    script.make(1, 60_000);
    script.make(2, 30_000);
    script.compute([run(5).needs(1).needs_from(9, 10, &[ALICE])]);
    let actions = script.make(3, 30_000);
    assert_eq!(spills(&actions).iter().map(|s| s.0).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_run_gets_its_inputs_from_disk_before_it_takes_a_slot() {
    let mut script = script();
    let mut actions = script.make(1, 90_000);
    actions.extend(script.make(2, 90_000));
    assert_eq!(script.write_all(&actions).0, [1]);
    let actions = script.compute([run(3).needs(1).needs(2)]);
    let orders = unspills(&actions);
    assert_eq!(orders.len(), 1);
    assert_eq!(script.start(), None);
    let actions = script.read(1, orders[0].1);
    // Both are about to be used: neither may go although there are too many.
    assert!(spills(&actions).is_empty());
    assert_eq!(script.start(), Some(3));
    // Now they may.
    assert_eq!(spills(&script.measure(199_000)).len(), 1);
}

#[test]
fn inputs_that_leave_while_a_run_stands_in_the_queue_are_read_again() {
    let mut script = script();
    script.make(1, 90_000);
    script.compute([run(3).needs(1)]);
    let actions = script.measure(199_000);
    assert_eq!(script.write_all(&actions).0, [1]);
    assert_eq!(script.worker.ready_count(), 1);
    assert_eq!(script.start(), None);
    let actions = script.drained();
    assert_eq!(unspills(&actions).len(), 1);
    script.read(1, unspills(&actions)[0].1);
    assert_eq!(script.start(), Some(3));
}

#[test]
fn reading_for_runs_is_bounded_and_by_priority() {
    let mut script = script();
    let mut actions = Vec::new();
    for index in 1..=4 {
        actions.extend(script.make(index, 60_000));
        actions.extend(script.measure(199_000));
        actions = script.write_all(&actions).1;
    }
    assert_eq!(script.worker.spilled_bytes(), 240_000);
    script.measure(10_000);
    let runs = [13, 11, 12].map(|n| run(n).needs(n - 10));
    let actions = script.compute(runs);
    // One run's inputs exceed the share of memory for that: the others wait for their turn.
    let first = unspills(&actions);
    assert_eq!(first.len(), 1);
    let read = script.read(first[0].0, first[0].1);
    assert!(unspills(&read).is_empty());
    assert_eq!(script.start(), Some(first[0].0 + 10));
    let next = unspills(&script.drained());
    assert_eq!(next.iter().map(|n| n.0).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_full_process_reads_for_one_run_at_a_time_and_waits_for_nothing_that_runs() {
    let mut script = script();
    for index in [1, 2] {
        let actions = [script.make(index, 20_000), script.measure(199_000)].concat();
        script.write_all(&actions);
    }
    assert_eq!(script.worker.spilled_bytes(), 40_000);
    script.measure(140_000);
    // What runs may be waiting for the very run that needs the disk.
    script.compute([run(3)]);
    assert_eq!(script.start(), Some(3));
    let actions = script.compute([run(11).needs(1), run(12).needs(2)]);
    let [(1, ticket)] = unspills(&actions)[..] else { panic!("{actions:?}") };
    script.read(1, ticket);
    assert_eq!(script.start(), Some(11));
    assert_eq!(unspills(&script.drained()).len(), 1);
}

#[test]
fn d32_a_value_that_is_freed_or_made_anew_while_it_is_written_or_read() {
    let mut script = script();
    // Freed while it is written.
    let actions = [script.make(1, 60_000), script.make(2, 60_000)].concat();
    let late = spills(&actions);
    assert_eq!(late[0].0, 1);
    script.free(&[1]);
    assert!(script.write_all(&actions).0.is_empty());
    // Made anew meanwhile: the late answer is not about the new value.
    let actions = script.make(1, 60_000);
    let current = spills(&actions);
    script.on(|worker, _| assert!(!worker.on_spilled(task(1), late[0].1)));
    assert_eq!(script.worker.spilled_bytes(), 0);
    assert_eq!(script.write_all(&actions).0, current.iter().map(|s| s.0).collect::<Vec<_>>());
    // Freed while it is read.
    let spilled = current[0].0;
    let actions = script.compute([run(7).needs(spilled)]);
    let reading = unspills(&actions);
    script.free(&[7, spilled]);
    script.on(|worker, _| assert!(!worker.on_loaded(task(spilled), reading[0].1, true)));
    assert_eq!(script.worker.spilled_bytes(), 0);
}

/// What leaves memory without being written.
fn evictions(actions: &[Action]) -> Vec<u32> {
    let evict = |action: &Action| match action {
        Action::Evict(task) => Some(task.index),
        _ => None,
    };
    actions.iter().filter_map(evict).collect()
}

/// 1 was on disk and is in memory again for a run that has ended; its file is still there.
fn with_a_value_that_came_back() -> Script {
    let mut script = script();
    let actions = [script.make(1, 60_000), script.make(2, 60_000)].concat();
    assert_eq!(script.write_all(&actions).0, [1]);
    let actions = script.compute([run(3).needs(1)]);
    let [(1, ticket)] = unspills(&actions)[..] else { panic!("{actions:?}") };
    let actions = script.on(|worker, _| assert!(worker.on_loaded(task(1), ticket, true)));
    // The other makes room.
    assert_eq!(script.write_all(&actions).0, [2]);
    assert_eq!(script.start(), Some(3));
    script.on(|worker, _| assert!(worker.on_finished(task(3), 1, 8, 0)));
    // Candidates are looked for anew.
    script.measure(100_000);
    script
}

#[test]
fn a_value_that_came_back_leaves_memory_without_being_written_again() {
    let mut script = with_a_value_that_came_back();
    let actions = script.make(4, 60_000);
    assert_eq!(evictions(&actions), [1]);
    assert!(spills(&actions).is_empty());
    assert_eq!(script.worker.spilled_bytes(), 120_000);
    // It is on disk as before.
    let actions = script.compute([run(5).needs(1)]);
    assert_eq!(unspills(&actions).len(), 1);
}

#[test]
fn a_value_that_is_made_anew_has_no_file_any_more() {
    let mut script = with_a_value_that_came_back();
    script.free(&[1]);
    let actions = [script.make(1, 60_000), script.make(4, 60_000)].concat();
    assert!(evictions(&actions).is_empty());
    assert_eq!(spills(&actions).len(), 1);
}

#[test]
fn a_full_disk_keeps_nothing_in_memory_that_has_a_file() {
    let mut script = script();
    let actions = [script.make(1, 60_000), script.make(2, 60_000)].concat();
    assert_eq!(script.write_all(&actions).0, [1]);
    let actions = script.compute([run(3).needs(1)]);
    let [(1, ticket)] = unspills(&actions)[..] else { panic!("{actions:?}") };
    let actions = script.on(|worker, _| assert!(worker.on_loaded(task(1), ticket, true)));
    let [(2, ticket)] = spills(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!(script.start(), Some(3));
    script.on(|worker, _| assert!(worker.on_finished(task(3), 1, 8, 0)));
    let why = SpillFailure::Disk;
    let actions = script.on(|worker, now| worker.on_spill_failed(now, task(2), ticket, why));
    assert_eq!(evictions(&actions), [1]);
    assert!(spills(&actions).is_empty());
}

#[test]
fn a_paused_worker_is_measured_when_something_has_left_memory() {
    let mut script = script();
    let actions = [script.make(1, 60_000), script.make(2, 60_000)].concat();
    script.measure(201_000);
    assert!(script.worker.is_paused());
    assert!(!script.worker.wants_measurement());
    let (written, _) = script.write_all(&actions);
    assert_eq!(written, [1]);
    assert!(script.worker.wants_measurement());
    let actions = script.on(|worker, now| worker.on_resident_early(now, 141_000));
    assert_eq!(states(&actions), [MemoryState::RUNNING]);
    assert!(!script.worker.wants_measurement());
}

#[test]
fn what_cannot_be_pickled_stays_and_is_counted() {
    let mut script = script();
    let actions = [script.make(1, 60_000), script.make(2, 60_000)].concat();
    let [(index, ticket)] = spills(&actions)[..] else { panic!("{actions:?}") };
    let actions = script.on(|worker, now| {
        worker.on_spill_failed(now, task(index), ticket, SpillFailure::Unpicklable);
    });
    assert_eq!(script.worker.unspillable_bytes(), 60_000);
    // Another goes instead.
    assert_eq!(spills(&actions).len(), 1);
    script.free(&[index]);
    assert_eq!(script.worker.unspillable_bytes(), 0);
}

#[test]
fn a_full_disk_is_tried_again_after_a_while_and_when_something_leaves_it() {
    let mut script = script();
    let actions = [script.make(1, 60_000), script.make(2, 60_000)].concat();
    let (_, _) = script.write_all(&actions);
    let actions = script.make(3, 60_000);
    let (index, ticket) = spills(&actions)[0];
    script.on(|worker, now| worker.on_spill_failed(now, task(index), ticket, SpillFailure::Disk));
    assert!(spills(&script.make(4, 60_000)).is_empty());
    assert!(spills(&script.measure(120_000)).is_empty());
    script.now = script.now.after(Nanos::SECOND);
    let again = script.measure(120_000);
    let (index, ticket) = spills(&again)[0];
    script.on(|worker, now| worker.on_spill_failed(now, task(index), ticket, SpillFailure::Disk));
    // Room on disk: a value of it goes.
    let actions = [script.free(&[1]), script.make(5, 60_000)].concat();
    assert!(!spills(&actions).is_empty());
}

#[test]
fn d25_a_paused_worker_gives_its_queue_back_and_goes_on_when_there_is_room() {
    let mut script = script();
    script.make(1, 10_000);
    script.compute([run(2), run(3).needs(1), run(4).needs(2), run(5).needs_from(9, 10, &[ALICE])]);
    assert_eq!(script.start(), Some(2));
    let actions = script.measure(201_000);
    assert_eq!(states(&actions), [MemoryState::PAUSED]);
    for index in [3, 4, 5] {
        assert!(actions.contains(&retracted(index, 1, true)), "{actions:?}");
    }
    assert_eq!(script.worker.ready_count(), 0);
    // What was on its way when the scheduler did not know yet goes back, too.
    let actions = script.compute([run(6)]);
    assert_eq!(actions, [retracted(6, 1, true)]);
    // Just below the bound is not enough.
    assert!(states(&script.measure(199_900)).is_empty());
    assert_eq!(states(&script.measure(180_000)), [MemoryState::RUNNING]);
    script.compute([run(7)]);
    assert_eq!(script.start(), Some(7));
}

#[test]
fn results_that_come_faster_than_the_process_is_measured_pause_it() {
    let mut script = script();
    assert!(states(&script.measure(140_000)).is_empty());
    assert!(states(&script.make(1, 50_000)).is_empty());
    script.compute([run(2), run(3)]);
    assert_eq!(script.start(), Some(2));
    let actions = script.on(|worker, _| assert!(worker.on_finished(task(2), 1, 50_000, 0)));
    assert_eq!(states(&actions), [MemoryState::PAUSED]);
    assert!(actions.contains(&retracted(3, 1, true)));
    // It was freed meanwhile.
    assert_eq!(states(&script.measure(140_000)), [MemoryState::RUNNING]);
}

#[test]
fn results_go_to_disk_as_soon_as_the_process_must_be_too_large_for_them() {
    // given: 60 kB beside the results, which are far below their own bound
    let mut script = script();
    script.make(1, 40_000);
    script.make(2, 40_000);
    assert!(script.measure(140_000).is_empty());
    assert!(!script.worker.is_memory_short());
    // when: the process has 155 kB with the next one, whether or not it was measured again
    let actions = script.make(3, 15_000);
    // then: results go until the process is below 100 kB, and no more
    assert!(script.worker.is_memory_short());
    let (written, more) = script.write_all(&actions);
    assert_eq!(written, [1, 2]);
    assert!(spills(&more).is_empty());
    assert!(spills(&script.measure(75_000)).is_empty());
    assert!(!script.worker.is_memory_short());
}

#[test]
fn while_memory_is_short_each_result_makes_room_for_itself() {
    const MB: u64 = 1_000_000;
    let mut script = Script::with(MemoryLimits {
        limit_bytes: 250 * MB,
        target_bytes: 100 * MB,
        spill_bytes: 150 * MB,
        pause_bytes: 200 * MB,
        exhausted_after_ns: Nanos::SECOND,
    });
    script.make(1, 20 * MB);
    let actions = script.measure(160 * MB);
    script.write_all(&actions);
    for index in 2..20 {
        let (written, _) = script.make_and_write(index, 20 * MB);
        assert_eq!(written, [index], "without a measurement between");
    }
}

#[test]
fn results_that_are_estimated_far_too_high_do_not_confuse_the_books() {
    let mut script = script();
    script.make(1, 90_000);
    // The process is smaller than what its results are said to be.
    assert!(script.measure(10_000).is_empty());
    assert!(spills(&script.make(2, 5_000)).is_empty());
    script.worker.validate().unwrap();
}

#[test]
fn a_paused_worker_takes_no_copies() {
    let mut script = script();
    let ordered = |worker: &mut Worker, now| {
        let dep =
            DepRef { task: task(9), holders: [ALICE].into_iter().collect(), ..DepRef::default() };
        worker.on_acquire(now, vec![dep]);
    };
    script.on(ordered);
    let is_declined = |actions: &[Action]| {
        let declined = |a: &Action| matches!(a, Action::Send(WorkerToScheduler::NotAcquired(_)));
        actions.iter().any(declined)
    };
    assert!(is_declined(&script.measure(201_000)));
    assert!(is_declined(&script.on(ordered)));
}

#[test]
fn a_leak_that_nothing_helps_against_is_told_once() {
    let mut script = script();
    script.make(1, 10_000);
    script.compute([run(2)]);
    script.start();
    let actions = script.measure(240_000);
    assert_eq!(states(&actions), [MemoryState::PAUSED]);
    assert_eq!(script.write_all(&actions).0, [1]);
    script.now = script.now.after(5 * Nanos::SECOND);
    // Something runs: its end may help.
    assert!(states(&script.measure(240_000)).is_empty());
    script.on(|worker, _| worker.on_erred(task(2), 1, 1, boom()));
    assert!(states(&script.measure(240_000)).is_empty());
    script.now = script.now.after(2 * Nanos::SECOND);
    let actions = script.measure(240_000);
    assert_eq!(states(&actions), [MemoryState::EXHAUSTED]);
    assert!(states(&script.measure(240_000)).is_empty());
}

#[test]
fn a_process_that_is_too_large_before_its_first_run_asks_for_no_other() {
    let mut script = script();
    let actions = script.measure(240_000);
    assert_eq!(states(&actions), [MemoryState::PAUSED]);
    let asks_for_room = |a: &Action| match a {
        Action::Send(WorkerToScheduler::Memory(news)) => {
            news.reason.contains("raise memory_limit=")
        }
        _ => false,
    };
    assert!(actions.iter().any(asks_for_room), "{actions:?}");
    for _ in 0..3 {
        script.now = script.now.after(5 * Nanos::SECOND);
        assert!(states(&script.measure(240_000)).is_empty());
    }
    // when: it became smaller by itself
    assert_eq!(states(&script.measure(100_000)), [MemoryState::RUNNING]);
}

#[test]
fn a_value_that_the_disk_lost_is_made_again_and_its_runs_go_back() {
    let mut script = script();
    let actions = [script.make(1, 60_000), script.make(2, 60_000)].concat();
    assert_eq!(script.write_all(&actions).0, [1]);
    let actions = script.compute([run(3).needs(1), run(4).needs(1).needs_from(9, 10, &[ALICE])]);
    let (index, ticket) = unspills(&actions)[0];
    let actions = script.on(|worker, now| worker.on_load_failed(now, task(index), ticket));
    let lost = Action::Send(WorkerToScheduler::Lost(vec![task(1)]));
    assert_eq!(actions[0], lost);
    assert!(actions.contains(&retracted(3, 1, true)) && actions.contains(&retracted(4, 1, true)));
    assert!(!script.worker.has_value(task(1)));
}
