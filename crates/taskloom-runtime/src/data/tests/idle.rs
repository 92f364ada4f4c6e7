//! Connections that nobody uses.

use super::super::options::Options;
use super::*;
use std::time::Duration;

/// A client that closes what is not used for some milliseconds.
fn impatient(plane: &Plane) -> DataClient {
    let variable = |name: &str| (name == "TASKLOOM_IDLE_CONNECTION").then(|| "0.004".to_string());
    let (options, complaint) = Options::read(variable);
    assert_eq!(complaint, None);
    DataClient::with_options(plane.io.clone(), token(), options)
}

fn wait_until_closed(client: &DataClient) {
    while client.connections() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_connection_that_nobody_uses_is_closed_and_made_again_when_it_is_wanted() {
    let plane = plane(Store::default());
    plane.put(id(1), vec![bytes(1, 100)]).unwrap();
    let client = impatient(&plane);
    for _ in 0..5 {
        let answers = fetch(&client, &plane.server.address(), vec![id(1)]).unwrap();
        assert_eq!(answers[0].outcome, FetchOutcome::Value(vec![bytes(1, 100)]));
        wait_until_closed(&client);
    }
}

#[test]
fn nothing_is_lost_where_connections_are_closed_and_wanted_at_once() {
    let plane = plane(Store::default());
    plane.put(id(1), vec![bytes(1, 100)]).unwrap();
    let client = impatient(&plane);
    for round in 0..300 {
        let answers = fetch(&client, &plane.server.address(), vec![id(1)]);
        assert!(answers.is_ok(), "{answers:?}");
        // Around the time at which it is closed.
        std::thread::sleep(Duration::from_micros(3_000 + 40 * (round % 60)));
    }
}

#[test]
fn a_connection_with_an_open_question_stays() {
    let plane = plane(Store { hold: true, ..Store::default() });
    let client = impatient(&plane);
    let (sender, receiver) = channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    client.fetch(&plane.server.address(), vec![id(1)], done);
    while plane.store.held.lock().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(client.connections(), 1);
    plane.store.held.lock().clear();
    let answers: Vec<Fetched> = receiver.recv().unwrap().unwrap();
    assert_eq!(answers[0].outcome, FetchOutcome::Missing);
    wait_until_closed(&client);
}

#[test]
fn nothing_is_kept_of_an_address_that_large_values_came_from() {
    let plane = plane(Store::default());
    plane.store.values.lock().insert(id(1), vec![bytes(1, 20_000_000)]);
    let client = impatient(&plane);
    let answers = fetch(&client, &plane.server.address(), vec![id(1)]).unwrap();
    assert!(answers[0].outcome == FetchOutcome::Value(vec![bytes(1, 20_000_000)]));
    while client.known_addresses() > 0 {
        // The connections for ranges may be closed last: the next look comes with the next use.
        if client.connections() == 0 {
            fetch(&client, &plane.server.address(), vec![id(2)]).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
