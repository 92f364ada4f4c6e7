//! Memory that is a segment from the start, as its owner and as readers see it.

use super::*;
use bytes::Bytes;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;

const LENGTH: usize = 300_000;

fn pool() -> Arc<Pool> {
    Pool::new(PoolLimits { in_place_bytes: 64 * 1024 * 1024, ..PoolLimits::default() })
}

fn made(pool: &Arc<Pool>, fill: u8) -> NonNull<u8> {
    let start = pool.allocate(LENGTH, false).unwrap();
    write(start, fill);
    start
}

fn write(start: NonNull<u8>, fill: u8) {
    // SAFETY: memory of that length, which this test alone has.
    unsafe { start.as_ptr().write_bytes(fill, LENGTH) }
}

/// The bytes of the memory, as an object's buffer.
fn bytes_of(start: NonNull<u8>) -> Bytes {
    // SAFETY: the tests drop them before they release the memory.
    Bytes::from_static(unsafe { std::slice::from_raw_parts(start.as_ptr(), LENGTH) })
}

fn shared(start: NonNull<u8>, only_here: bool) -> Bytes {
    let mut segments = [bytes_of(start)];
    share_in_place(&mut segments, only_here);
    let [segment] = segments;
    segment
}

/// As a process gets it that the descriptor was passed to.
fn pass(segment: &Bytes) -> Bytes {
    let place = place_of(segment).unwrap();
    let reader = place.mapping.as_fd().try_clone_to_owned().unwrap();
    let mapping = Mapping::of_peer(reader, place.mapping.length()).unwrap();
    let offset = place.offset as usize;
    mapping.bytes().slice(offset..offset + segment.len())
}

fn all(bytes: &[u8], fill: u8) -> bool {
    bytes.iter().all(|byte| *byte == fill)
}

fn free(start: NonNull<u8>) {
    // SAFETY: the test does not use it any more.
    assert!(unsafe { release(start) });
}

#[test]
fn readers_get_the_memory_itself_and_it_is_used_again_after_the_last_one() {
    let pool = pool();
    let start = made(&pool, 1);
    let segment = shared(start, true);
    assert!(place_of(&segment).is_some());
    let reader = pass(&segment);
    drop(segment);
    free(start);
    let second = made(&pool, 2);
    assert_eq!(pool.usage().made, 2, "the first is still read");
    assert!(all(&reader, 1));
    drop(reader);
    let third = made(&pool, 3);
    assert_eq!((pool.usage().made, pool.usage().reused), (2, 1));
    assert_eq!(third, start, "its mapping was kept");
    free(second);
    free(third);
}

#[test]
fn memory_that_nobody_read_is_used_again_at_once() {
    let pool = pool();
    for n in 0..1000 {
        free(made(&pool, n as u8));
    }
    let usage = pool.usage();
    assert_eq!((usage.made, usage.used, usage.used_bytes, usage.idle), (1, 0, 0, 1));
}

#[test]
fn what_the_owner_writes_after_sharing_is_his_alone() {
    let pool = pool();
    let start = made(&pool, 1);
    let segment = shared(start, false);
    let reader = pass(&segment);
    write(start, 2);
    assert!(all(&bytes_of(start), 2));
    assert!(all(&segment, 1) && all(&reader, 1));
    let again = shared(start, false);
    assert!(place_of(&again).is_none(), "it is not what the segment holds");
    assert!(all(&again, 2));
    drop((segment, reader, again));
    free(start);
    let next = pool.allocate(LENGTH, true).unwrap();
    assert_eq!(pool.usage().reused, 1);
    assert!(all(&bytes_of(next), 0));
    free(next);
}

#[test]
fn memory_that_was_lent_is_kept_for_its_readers_once_others_get_to_know_it() {
    let pool = pool();
    let start = made(&pool, 1);
    let (segment, again) = (shared(start, true), shared(start, true));
    let same = |a: &Bytes, b: &Bytes| {
        Arc::ptr_eq(&place_of(a).unwrap().mapping, &place_of(b).unwrap().mapping)
    };
    assert!(same(&segment, &again));
    let reader = pass(&segment);
    keep_as_is(start.as_ptr() as usize + LENGTH / 2);
    write(start, 2);
    assert!(all(&segment, 1) && all(&reader, 1) && all(&again, 1));
    assert!(all(&bytes_of(start), 2));
    drop((segment, again, reader));
    free(start);
}

#[test]
fn parts_of_one_memory_are_shared_together() {
    let pool = pool();
    let start = made(&pool, 1);
    let whole = bytes_of(start);
    let mut segments = [Bytes::from_static(b"head"), whole.slice(10..20), whole.clone()];
    share_in_place(&mut segments, false);
    let layout = Layout::of(&segments).unwrap();
    assert_eq!(layout.files.len(), 1);
    assert_eq!(layout.places, [None, Some((0, 10)), Some((0, 0))]);
    drop((segments, layout, whole));
    free(start);
}

#[test]
fn zeroed_memory_is_zero_also_when_it_was_used() {
    let pool = pool();
    free(made(&pool, 7));
    let start = pool.allocate(LENGTH, true).unwrap();
    assert_eq!(pool.usage().reused, 1);
    assert!(all(&bytes_of(start), 0));
    free(start);
}

#[test]
fn memory_grows_where_it_is_as_far_as_its_segment_goes() {
    let pool = pool();
    let start = made(&pool, 1);
    assert!(resize_in_place(start, LENGTH + 1000));
    assert_eq!(length_of(start), Some(LENGTH + 1000));
    assert!(!resize_in_place(start, 10 * LENGTH));
    assert!(!resize_in_place(start, 1000), "most of it would be wasted");
    assert_eq!(length_of(start), Some(LENGTH + 1000));
    free(start);
    assert_eq!(length_of(start), None);
}

#[test]
fn what_is_beyond_the_limits_is_refused_and_copies_still_find_room() {
    let limits = PoolLimits { in_place_bytes: 1024 * 1024, segments: 8, ..PoolLimits::default() };
    let pool = Pool::new(limits);
    let held: Vec<_> = (0..3).map(|n| made(&pool, n)).collect();
    assert!(pool.allocate(LENGTH, false).is_err(), "a fourth is more than a MiB");
    assert!(pool.allocate(usize::MAX, false).is_err());
    assert!(pool.allocate(0, false).is_err());
    pool.set_limits(PoolLimits { in_place_bytes: 1024 * 1024 * 1024, ..limits });
    let more: Vec<_> = (0..3).map(|n| made(&pool, n)).collect();
    assert!(pool.allocate(LENGTH, false).is_err(), "six of eight descriptors are in use");
    let copy = pool.store(&[Bytes::from(vec![1; LENGTH])]).unwrap();
    assert!(all(&copy[0], 1));
    held.into_iter().chain(more).for_each(free);
}

#[test]
fn where_memory_is_short_some_idle_memory_stays_and_is_told() {
    let pool = pool();
    let made: Vec<_> = (0..4).map(|fill| made(&pool, fill)).collect();
    assert_eq!(pool.idle_mapped_bytes(), 0);
    made.into_iter().for_each(free);
    let each = pool.usage().idle_bytes / 4;
    assert_eq!(pool.idle_mapped_bytes(), 4 * each);
    pool.trim_to(2 * each);
    assert_eq!((pool.usage().idle, pool.idle_mapped_bytes()), (2, 2 * each));
    pool.trim_to(0);
    assert_eq!((pool.usage().idle, pool.idle_mapped_bytes()), (0, 0));
}

#[test]
fn other_memory_is_not_taken() {
    let own = vec![0u8; LENGTH];
    let start = NonNull::from(&own[0]);
    // SAFETY: nothing is released, as is tested.
    assert!(!unsafe { release(start) });
    assert!(!is_born_shared(start.as_ptr() as usize));
    keep_as_is(start.as_ptr() as usize);
    assert_eq!(own[0], 0);
}

#[test]
fn memory_outlives_its_pool() {
    let pool = pool();
    let start = made(&pool, 5);
    drop(pool);
    assert!(all(&bytes_of(start), 5));
    free(start);
}

#[test]
fn memory_that_was_made_private_is_told_whether_or_not_it_is_resident() {
    let pool = pool();
    let start = made(&pool, 5);
    let segment = shared(start, false);
    assert!(held_with_private() >= LENGTH as u64);
    drop(segment);
    free(start);
}

#[test]
fn large_memory_is_zero_when_asked_and_is_what_readers_get() {
    const LARGE: usize = 3 * 1024 * 1024 + 5;
    let limits = PoolLimits { in_place_bytes: 1024 * 1024 * 1024, ..PoolLimits::default() };
    let pool = Pool::new(limits);
    for fill in 1..4 {
        let start = pool.allocate(LARGE, true).unwrap();
        // SAFETY: memory of that length, which this test alone has, until it is released.
        let memory = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), LARGE) };
        assert!(all(memory, 0));
        memory.fill(fill);
        // SAFETY: dropped before the memory is released.
        let whole =
            Bytes::from_static(unsafe { std::slice::from_raw_parts(start.as_ptr(), LARGE) });
        let mut segments = [whole];
        share_in_place(&mut segments, false);
        let reader = pass(&segments[0]);
        memory.fill(9);
        assert!(all(&reader, fill) && all(memory, 9));
        drop((segments, reader));
        free(start);
    }
    assert_eq!((pool.usage().made, pool.usage().reused), (1, 2));
}

#[test]
fn memory_that_is_much_of_the_limit_occupies_nothing_until_it_is_written() {
    const LARGE: usize = 16 * 1024 * 1024;
    let limits = PoolLimits { in_place_bytes: 64 * 1024 * 1024, ..PoolLimits::default() };
    let pool = Pool::new(limits);
    let start = pool.allocate(LARGE, false).unwrap();
    let home = pool.take_in_place(LARGE as u64).unwrap();
    assert_eq!(home.file().occupied_bytes(), 0);
    drop(home);
    free(start);
}
