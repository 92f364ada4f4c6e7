//! Large values over sockets: in ranges, over several connections, continued after a loss.

use super::*;
use crate::data::options::Options;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};

/// Content that differs everywhere, and shrinks little when `noisy`.
fn content(length: usize, seed: u64, noisy: bool) -> Bytes {
    let mut state = seed + 1;
    let mut word = |index: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if noisy { state } else { (index / 1000) as u64 + seed }
    };
    let words = (0..length.div_ceil(8)).map(|index| word(index).to_le_bytes());
    let mut bytes: Vec<u8> = words.flatten().collect();
    bytes.truncate(length);
    bytes.into()
}

fn value(seed: u64, noisy: bool) -> Vec<Bytes> {
    vec![
        content(100, seed, noisy),
        content(30_000_001, seed + 1, noisy),
        Bytes::new(),
        content(9_000_000, seed + 2, noisy),
    ]
}

fn total(value: &[Bytes]) -> u64 {
    value.iter().map(|segment| segment.len() as u64).sum()
}

fn options(variables: &'static [(&'static str, &'static str)]) -> Options {
    let find = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.to_string())
    };
    Options::read(find).0
}

/// A client that fetches in its own way.
fn client_with(plane: &Plane, variables: &'static [(&'static str, &'static str)]) -> DataClient {
    DataClient::with_options(plane.io.clone(), token(), options(variables))
}

fn only_value(answers: Result<Vec<Fetched>, FetchError>) -> Vec<Bytes> {
    let outcome = answers.unwrap().remove(0).outcome;
    let FetchOutcome::Value(segments) = outcome else { panic!("no value: {outcome:?}") };
    segments
}

fn wait_until(condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed().as_secs() < 60, "it did not happen");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn a_large_value_comes_in_ranges_into_memory_of_its_own() {
    let plane = plane(Store::default());
    let value = value(1, true);
    plane.store.values.lock().insert(id(1), value.clone());
    plane.store.values.lock().insert(id(2), vec![bytes(2, 10)]);
    let mut answers = plane.fetch(vec![id(9), id(1), id(2)]).unwrap();
    assert_eq!(answers.remove(0).outcome, FetchOutcome::Missing);
    let FetchOutcome::Value(got) = answers.remove(0).outcome else { panic!("no value") };
    assert!(got == value);
    assert_eq!(answers.remove(0).outcome, FetchOutcome::Value(vec![bytes(2, 10)]));
    let owned: Vec<bool> = got.into_iter().map(|segment| segment.try_into_mut().is_ok()).collect();
    assert!(owned[1] && owned[3], "nobody else holds the memory");
    // The worker lets go of it once the reader says so.
    wait_until(|| plane.server.transfers() == (0, total(&value)));
}

#[test]
fn values_without_bytes_and_many_large_ones_at_once_arrive() {
    let plane = plane(Store::default());
    for number in 0..4 {
        plane.store.values.lock().insert(id(number), value(u64::from(number), true));
    }
    let answers = plane.fetch((0..4).map(id).collect()).unwrap();
    for (number, answer) in answers.into_iter().enumerate() {
        assert!(answer.outcome == FetchOutcome::Value(value(number as u64, true)));
    }
}

#[test]
fn compressed_and_checked_ranges_give_the_same_value() {
    let plane = plane(Store::default());
    for (number, noisy) in [(1, true), (2, false)] {
        plane.store.values.lock().insert(id(number), value(7, noisy));
    }
    let ways: [&'static [(&str, &str)]; 3] = [
        &[("TASKLOOM_COMPRESSION", "lz4"), ("TASKLOOM_CHECKSUMS", "1")],
        &[("TASKLOOM_COMPRESSION", "zstd")],
        &[("TASKLOOM_COMPRESSION", "off"), ("TASKLOOM_CHECKSUMS", "1")],
    ];
    for way in ways {
        let client = client_with(&plane, way);
        for (number, noisy) in [(1, true), (2, false)] {
            let got = only_value(fetch(&client, &plane.server.address(), vec![id(number)]));
            assert!(got == value(7, noisy), "{way:?}");
        }
        client.close();
    }
}

#[test]
fn small_values_do_not_wait_for_a_range_to_be_compressed() {
    let plane = plane(Store::default());
    plane.store.values.lock().insert(id(1), value(7, false));
    plane.store.values.lock().insert(id(2), vec![bytes(2, 10)]);
    let (go_on, wait) = channel::<()>();
    let (sender, busy) = channel();
    // As if ranges of others took for ever.
    plane.server.transfers.helper.run(move || {
        sender.send(()).unwrap();
        let _ = wait.recv();
    });
    busy.recv().unwrap();
    let client = client_with(&plane, &[("TASKLOOM_COMPRESSION", "lz4")]);
    let (sender, large) = channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    client.fetch(&plane.server.address(), vec![id(1)], done);
    // Held for the reader: its ranges are asked for next.
    wait_until(|| plane.server.transfers().0 == 1);
    let small = only_value(fetch(&client, &plane.server.address(), vec![id(2)]));
    assert_eq!(small, [bytes(2, 10)]);
    assert!(large.try_recv().is_err() && plane.server.transfers() == (1, 0));
    go_on.send(()).unwrap();
    assert!(only_value(large.recv().unwrap()) == value(7, false));
    client.close();
}

/// Stands between a client and a server, and is gone after so many bytes of the server's.
struct Relay {
    address: String,
    passed: Arc<AtomicI64>,
}

fn relay_for(server: &DataServer, limit: i64) -> Relay {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let target: taskloom_net::Address = server.address().parse().unwrap();
    let target = target.resolve().unwrap()[0];
    let passed = Arc::new(AtomicI64::new(0));
    let (count, open) = (passed.clone(), Arc::new(Mutex::new(Vec::new())));
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.unwrap();
            if count.load(Ordering::SeqCst) > limit {
                // Dropping the listener behind the last connection.
                return;
            }
            let far = TcpStream::connect(target).unwrap();
            open.lock().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
            let (back, forth) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut { near }, &mut { forth }));
            let (count, open) = (count.clone(), open.clone());
            std::thread::spawn(move || pass(&{ far }, &{ back }, &count, limit, &open));
        }
    });
    Relay { address, passed }
}

fn pass(
    mut from: &TcpStream,
    mut to: &TcpStream,
    count: &AtomicI64,
    limit: i64,
    open: &Mutex<Vec<TcpStream>>,
) {
    let mut buffer = vec![0; 100_000];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer) else { return };
        if count.fetch_add(read as i64, Ordering::SeqCst) + read as i64 > limit {
            for stream in open.lock().drain(..) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
            return;
        }
        if to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

#[test]
fn what_came_from_a_lost_worker_is_not_fetched_again_from_its_replica() {
    let (lost, replica) = (plane(Store::default()), plane(Store::default()));
    let value = value(3, true);
    for plane in [&lost, &replica] {
        plane.store.values.lock().insert(id(1), value.clone());
    }
    let relay = relay_for(&lost.server, 25_000_000);
    let client = client_with(&lost, &[]);
    let failure = fetch(&client, &relay.address, vec![id(1)]).unwrap_err();
    assert!(matches!(failure, FetchError::Lost { .. }), "{failure}");
    assert!(relay.passed.load(Ordering::SeqCst) > 10_000_000);
    let got = only_value(fetch(&client, &replica.server.address(), vec![id(1)]));
    assert!(got == value);
    let resumed = client.resumed_bytes();
    assert!(resumed > 4_000_000, "{resumed} bytes were kept");
    assert_eq!(replica.server.transfers().1 + resumed, total(&value));
}

#[test]
fn parts_of_a_different_value_under_the_same_name_are_not_mixed_in() {
    let (lost, replica) = (plane(Store::default()), plane(Store::default()));
    lost.store.values.lock().insert(id(1), value(3, true));
    replica.store.values.lock().insert(id(1), value(4, true));
    let relay = relay_for(&lost.server, 25_000_000);
    let client = client_with(&lost, &[]);
    fetch(&client, &relay.address, vec![id(1)]).unwrap_err();
    let got = only_value(fetch(&client, &replica.server.address(), vec![id(1)]));
    assert!(got == value(4, true));
    assert_eq!(client.resumed_bytes(), 0);
}

#[test]
fn a_reader_that_goes_away_leaves_nothing_behind_at_the_worker() {
    let plane = plane(Store::default());
    plane.store.values.lock().insert(id(1), value(1, true));
    let client = client_with(&plane, &[]);
    let (sender, receiver) = channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    client.fetch(&plane.server.address(), vec![id(1)], done);
    wait_until(|| plane.server.transfers().1 > 0);
    client.close();
    let _ = receiver.recv().unwrap();
    wait_until(|| plane.server.transfers().0 == 0);
}

#[test]
fn ranges_that_do_not_exist_are_gone_and_the_connection_lives() {
    use taskloom_proto::frame::{FrameLimits, FrameReader};
    use taskloom_proto::transfer::{Range, RangeReply};
    let plane = plane(Store::default());
    let address: taskloom_net::Address = plane.server.address().parse().unwrap();
    let stranger = connect(&address, Role::Peer, &token(), ConnectOptions::default()).unwrap();
    let Stream::Unix(mut stream) = stranger.stream else { panic!("no companion socket") };
    stream.set_nonblocking(false).unwrap();
    let mut reader = FrameReader::new(FrameLimits::DATA);
    for request in 1..4 {
        let range = Range { request, offset: u64::MAX, length: u64::MAX, ..Range::default() };
        let message = PeerMessage::Range(range);
        let mut out = Vec::new();
        write_frame(&mut out, message.kind(), 0, |out| message.write_body(out));
        stream.write_all(&out).unwrap();
        let frame = loop {
            if let Some(frame) = reader.next_frame().unwrap() {
                break frame;
            }
            let mut buffer = [0; 1000];
            let count = stream.read(&mut buffer).unwrap();
            reader.extend(&buffer[..count]);
        };
        let reply = PeerMessage::read_body(frame.kind, &frame.head).unwrap();
        let gone = RangeReply { request, status: RangeReply::GONE, ..RangeReply::default() };
        assert_eq!(reply, PeerMessage::RangeReply(gone));
    }
}
