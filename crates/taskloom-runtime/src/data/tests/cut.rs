//! Workers that were given up: their process is stopped, or the network swallows what they say.

use super::super::options::Options;
use super::*;
use std::time::Duration;

#[test]
fn what_was_asked_of_a_worker_that_was_given_up_fails_at_once() {
    let plane = plane(Store { hold: true, ..Store::default() });
    let (sender, receiver) = channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    plane.client.fetch(&plane.server.address(), vec![id(1)], done);
    while plane.store.held.lock().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    plane.client.cut(&plane.server.address());
    let error = receiver.recv().unwrap().unwrap_err();
    assert!(matches!(&error, FetchError::Lost { reason, .. } if reason.contains("given it up")));
    assert_eq!(plane.client.known_addresses(), 0);
}

#[test]
fn a_worker_that_does_not_even_accept_connections_can_be_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", silent.local_addr().unwrap());
    let plane = plane(Store::default());
    let (sender, receiver) = channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    plane.client.fetch(&address, vec![id(1)], done);
    plane.client.cut(&address);
    assert!(matches!(receiver.recv().unwrap(), Err(FetchError::Lost { .. })));
}

#[test]
fn a_large_value_under_way_fails_at_once_and_is_continued_elsewhere() {
    let plane = plane(Store::default());
    let value = vec![bytes(1, 30_000_000)];
    plane.store.values.lock().insert(id(1), value.clone());
    let (go_on, wait) = channel::<()>();
    plane.server.transfers.helper.run(move || {
        let _ = wait.recv();
    });
    let lz4 = |name: &str| (name == "TASKLOOM_COMPRESSION").then(|| "lz4".to_string());
    let client = DataClient::with_options(plane.io.clone(), token(), Options::read(lz4).0);
    let (sender, receiver) = channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    client.fetch(&plane.server.address(), vec![id(1)], done);
    // Ranges are compressed by a thread that is busy: the value is on its way for ever.
    while plane.server.transfers().0 == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    client.cut(&plane.server.address());
    assert!(matches!(receiver.recv().unwrap(), Err(FetchError::Lost { .. })));
    go_on.send(()).unwrap();
    let answers = fetch(&client, &plane.server.address(), vec![id(1)]).unwrap();
    assert!(answers[0].outcome == FetchOutcome::Value(value));
}
