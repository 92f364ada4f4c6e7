//! Segments as two processes see them: a peer's view is a second mapping of the same file.

use super::*;
use bytes::Bytes;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

fn pool() -> Arc<Pool> {
    Pool::new(PoolLimits::default())
}

fn value(fill: u8) -> Vec<Bytes> {
    vec![
        Bytes::from(vec![fill; 100]),
        Bytes::from(vec![fill ^ 1; 300_000]),
        Bytes::new(),
        Bytes::from(vec![fill ^ 2; 5000]),
    ]
}

/// The segment as a process gets it that the descriptor was passed to.
fn pass(segments: &[Bytes]) -> Arc<Mapping> {
    let place = place_of(&segments[1]).unwrap();
    let reader: OwnedFd = place.mapping.as_fd().try_clone_to_owned().unwrap();
    Mapping::of_peer(reader, place.mapping.length()).unwrap()
}

#[test]
fn a_stored_value_has_the_same_bytes_in_one_segment() {
    let pool = pool();
    let stored = pool.store(&value(7)).unwrap();
    assert_eq!(stored, value(7));
    let layout = Layout::of(&stored).unwrap();
    assert_eq!(layout.files.len(), 1);
    // An empty segment is nowhere.
    assert_eq!(layout.places.iter().filter(|place| place.is_none()).count(), 1);
    for (_, offset) in layout.places.into_iter().flatten() {
        assert_eq!(offset % ALIGNMENT, 0);
    }
}

#[test]
fn ordinary_bytes_are_in_no_segment() {
    let pool = pool();
    let stored = pool.store(&value(1)).unwrap();
    assert!(place_of(&stored[1].slice(10..20)).is_some());
    assert!(place_of(&Bytes::from(vec![1; 100_000])).is_none());
    assert!(Layout::of(&value(1)).is_none());
}

#[test]
fn a_segment_is_used_again_only_when_no_reader_is_left() {
    let pool = pool();
    let first = pool.store(&value(1)).unwrap();
    let reader = pass(&first);
    let offset = place_of(&first[1]).unwrap().offset as usize;
    drop(first);
    let second = pool.store(&value(2)).unwrap();
    assert_eq!(pool.usage().made, 2, "the first is still read");
    assert_eq!(&reader.bytes()[offset..offset + 300_000], &value(1)[1][..]);
    drop(reader);
    let third = pool.store(&value(3)).unwrap();
    let usage = pool.usage();
    assert_eq!((usage.made, usage.reused), (2, 1));
    assert_eq!((second, third), (value(2), value(3)));
}

#[test]
fn a_view_keeps_its_segment_in_use_and_hides_what_is_written_to_it() {
    let pool = pool();
    let stored = pool.store(&value(5)).unwrap();
    let view = place_of(&stored[1]).unwrap().private_view(stored[1].len()).unwrap();
    // SAFETY: the view is alive and nobody else uses it.
    let seen = unsafe { std::slice::from_raw_parts_mut(view.as_ptr(), view.len()) };
    assert_eq!(seen, &stored[1][..]);
    seen.fill(9);
    assert_eq!(stored, value(5));
    drop(stored);
    drop(pool.store(&value(6)).unwrap());
    assert_eq!(pool.usage().reused, 0);
    assert!(seen.iter().all(|byte| *byte == 9));
    drop(view);
    // The first of the two that now suit was used longer ago; either is free.
    drop(pool.store(&value(7)).unwrap());
    assert_eq!(pool.usage().reused, 1);
}

#[test]
fn files_that_could_shrink_or_are_too_short_are_not_mapped() {
    use rustix::fs::MemfdFlags;
    let open = rustix::fs::memfd_create("x", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&open, 4096).unwrap();
    assert!(Mapping::of_peer(open, 4096).is_err());
    let stored = pool().store(&value(1)).unwrap();
    let place = place_of(&stored[1]).unwrap();
    let reader = || place.mapping.as_fd().try_clone_to_owned().unwrap();
    assert!(Mapping::of_peer(reader(), 1 << 30).is_err());
    assert!(Mapping::of_peer(reader(), 0).is_err());
    let socket = std::os::unix::net::UnixStream::pair().unwrap().0;
    assert!(Mapping::of_peer(socket.into(), 4096).is_err());
}

#[test]
fn readers_cannot_get_write_access() {
    use rustix::mm::{MapFlags, ProtFlags};
    let stored = pool().store(&value(1)).unwrap();
    let place = place_of(&stored[1]).unwrap();
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, which is not used.
    let mapped = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            4096,
            protection,
            MapFlags::SHARED,
            place.mapping.as_fd(),
            0,
        )
    };
    assert!(mapped.is_err());
}

#[test]
fn idle_segments_go_when_they_are_old_or_too_many() {
    let pool = Pool::new(PoolLimits { idle_bytes: 1024 * 1024, segments: 3, in_place_bytes: 0 });
    let held: Vec<_> = (0..3).map(|n| pool.store(&value(n)).unwrap()).collect();
    assert!(pool.store(&value(3)).is_err(), "a fourth segment is refused");
    drop(held);
    assert_eq!(pool.usage().idle, 3);
    // One that suits no idle segment takes the place of the oldest.
    drop(pool.store(&[Bytes::from(vec![0; 800_000])]).unwrap());
    assert!(pool.usage().idle_bytes <= 1024 * 1024);
    pool.trim(Duration::from_secs(3600));
    assert!(pool.usage().idle > 0);
    pool.trim(Duration::ZERO);
    assert_eq!((pool.usage().idle, pool.usage().idle_bytes), (0, 0));
}

/// Several large pages, and some more.
fn large_value(fill: u8) -> Vec<Bytes> {
    vec![
        Bytes::from(vec![fill; 3_000_001]),
        Bytes::from(vec![fill ^ 1; 100]),
        Bytes::new(),
        Bytes::from(vec![fill ^ 2; 2_500_000]),
    ]
}

#[test]
fn a_large_value_has_the_same_bytes_in_a_fresh_and_in_a_used_segment() {
    let pool = pool();
    for fill in 0..3 {
        let stored = pool.store(&large_value(fill)).unwrap();
        assert_eq!(stored, large_value(fill));
        let reader = pass_first(&stored);
        assert_eq!(reader, stored[0]);
    }
    assert_eq!((pool.usage().made, pool.usage().reused), (1, 2));
}

/// The first part as a process gets it that the descriptor was passed to.
fn pass_first(segments: &[Bytes]) -> Bytes {
    let place = place_of(&segments[0]).unwrap();
    let reader: OwnedFd = place.mapping.as_fd().try_clone_to_owned().unwrap();
    let mapping = Mapping::of_peer(reader, place.mapping.length()).unwrap();
    mapping.bytes().slice(..segments[0].len())
}

#[test]
fn mappings_that_can_hold_large_pages_begin_where_those_do() {
    let stored = pool().store(&large_value(1)).unwrap();
    let place = place_of(&stored[3]).unwrap();
    let view = place.private_view(stored[3].len()).unwrap();
    // SAFETY: the view is alive and nobody writes to it.
    let seen = unsafe { std::slice::from_raw_parts(view.as_ptr(), view.len()) };
    assert_eq!(seen, &stored[3][..]);
    let whole = place.mapping.bytes();
    assert_eq!(whole.as_ptr().addr() % large::LARGE_PAGE, 0);
    assert_eq!(view.as_ptr().addr() % large::LARGE_PAGE, place.offset as usize % large::LARGE_PAGE);
}
