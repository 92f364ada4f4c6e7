//! A forked child and its parent do not see what the other writes. In a process of its own: a fork
//! concerns all memory that there is.

use bytes::Bytes;
use taskloom_data::shared::{Pool, PoolLimits, place_of, release, share_in_place};

const LENGTH: usize = 300_000;

/// Reads one byte.
fn wait_for(fd: i32) {
    let mut byte = 0u8;
    // SAFETY: one byte is there to be written to.
    unsafe { libc::read(fd, (&raw mut byte).cast(), 1) };
}

fn tell(fd: i32) {
    // SAFETY: one byte is there to be read.
    unsafe { libc::write(fd, c"x".as_ptr().cast(), 1) };
}

#[test]
fn neither_side_of_a_fork_sees_what_the_other_writes() {
    let limits = PoolLimits { in_place_bytes: 1 << 30, ..PoolLimits::default() };
    let pool = Pool::new(limits);
    let start = pool.allocate(LENGTH, false).unwrap();
    let memory = start.as_ptr();
    // SAFETY: memory of that length.
    let bytes = unsafe {
        memory.write_bytes(1, LENGTH);
        std::slice::from_raw_parts(memory, LENGTH)
    };
    let mut segments = [Bytes::from_static(bytes)];
    share_in_place(&mut segments, true);
    let mut pipes = [0; 4];
    // SAFETY: two pipes have room; the child uses nothing but its memory and system calls.
    let child = unsafe {
        assert_eq!(libc::pipe(pipes.as_mut_ptr()), 0);
        assert_eq!(libc::pipe(pipes.as_mut_ptr().add(2)), 0);
        libc::fork()
    };
    let [child_reads, parent_tells, parent_reads, child_tells] = pipes;
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            memory.write_bytes(2, LENGTH / 2);
            tell(child_tells);
            wait_for(child_reads);
            let as_it_was = memory.add(LENGTH - 1).read_volatile() == 1;
            libc::_exit(if as_it_was { 0 } else { 1 });
        }
    }
    wait_for(parent_reads);
    // SAFETY: memory of that length.
    unsafe {
        assert_eq!(memory.read_volatile(), 1, "the child wrote into its own memory");
        memory.write_bytes(3, LENGTH);
    }
    assert!(segments[0].iter().all(|byte| *byte == 1), "and so did the parent");
    assert!(place_of(&segments[0]).is_some());
    // The child may read the segment for as long as it lives.
    drop(segments);
    // SAFETY: not used any more.
    assert!(unsafe { release(start) });
    let next = pool.allocate(LENGTH, true).unwrap();
    assert_eq!((pool.usage().made, pool.usage().reused), (2, 0));
    tell(parent_tells);
    let mut status = 0;
    // SAFETY: the child was made above.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(libc::WEXITSTATUS(status), 0, "the child saw what its parent wrote");
    // SAFETY: not used any more.
    assert!(unsafe { release(next) });
}
