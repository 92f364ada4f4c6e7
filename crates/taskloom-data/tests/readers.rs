//! Readers in other processes. In a process of its own: a child has all descriptors of its parent
//! until it becomes another program.

use bytes::Bytes;
use std::os::fd::AsFd;
use taskloom_data::shared::{Pool, PoolLimits, place_of};

fn value(fill: u8) -> Vec<Bytes> {
    vec![Bytes::from(vec![fill; 100]), Bytes::from(vec![fill; 300_000])]
}

#[test]
fn a_killed_reader_frees_what_it_read() {
    let pool = Pool::new(PoolLimits::default());
    let stored = pool.store(&value(1)).unwrap();
    let place = place_of(&stored[1]).unwrap();
    // The descriptor goes to the child as its standard input.
    let reader = place.mapping.as_fd().try_clone_to_owned().unwrap();
    let mut command = std::process::Command::new("sleep");
    let mut child = command.arg("600").stdin(reader).spawn().unwrap();
    drop((command, place, stored));
    drop(pool.store(&value(2)).unwrap());
    assert_eq!(pool.usage().made, 2, "the child has it open");
    child.kill().unwrap();
    child.wait().unwrap();
    let held = [pool.store(&value(3)).unwrap(), pool.store(&value(4)).unwrap()];
    assert_eq!(pool.usage().made, 2);
    assert_eq!(held, [value(3), value(4)]);
}
