//! Real child processes, ended in all the ways that processes end.

use super::*;
use std::sync::mpsc::Receiver;
use std::time::Instant;
use taskloom_proto::ExitKind;
use taskloom_proto::supervisor::{WorkerExited, WorkerName};
use taskloom_types::TaskId;

/// A scheduler that only listens.
struct Reports(Mutex<Sender<SupervisorToScheduler>>);

impl Link<SupervisorToScheduler> for Reports {
    fn send(&self, message: SupervisorToScheduler) {
        let _ = self.0.lock().send(message);
    }
    fn flush(&self) {}
    fn close(&self) {}
}

struct Scene {
    supervisor: Supervisor,
    reports: Receiver<SupervisorToScheduler>,
}

fn scene(command: &[&str], change: impl FnOnce(&mut SupervisorConfig)) -> Scene {
    let mut config = SupervisorConfig::new(command.iter().map(ToString::to_string).collect());
    change(&mut config);
    let supervisor = Supervisor::start(config).unwrap();
    let (sender, reports) = channel();
    supervisor.attach(Arc::new(Reports(Mutex::new(sender))));
    assert!(matches!(reports.recv(), Ok(SupervisorToScheduler::Register(_))));
    Scene { supervisor, reports }
}

fn shell(script: &str, change: impl FnOnce(&mut SupervisorConfig)) -> Scene {
    scene(&["sh", "-c", script, "worker", "{name}"], change)
}

impl Scene {
    fn next_exit(&self) -> WorkerExited {
        loop {
            match self.reports.recv().unwrap() {
                SupervisorToScheduler::WorkerExited(exited) => return exited,
                SupervisorToScheduler::Stopping(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn wait_for(&self, state: impl Fn(&[ProcessInfo]) -> bool) -> Vec<ProcessInfo> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let processes = self.supervisor.processes();
            if state(&processes) {
                return processes;
            }
            assert!(Instant::now() < deadline, "stuck at {processes:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn names(&self, expected: &[&str]) {
        self.wait_for(|processes| {
            let running = processes.iter().filter(|process| process.pid.is_some());
            running.map(|process| process.name.as_str()).eq(expected.iter().copied())
        });
    }
}

#[test]
fn a_killed_worker_is_reported_and_replaced() {
    let scene = scene(&["sleep", "1000"], |_| {});
    scene.supervisor.add("alice");
    let first = scene.wait_for(|all| all.iter().any(|p| p.pid.is_some()))[0].pid.unwrap();
    let pid = rustix::process::Pid::from_raw(first as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let exited = scene.next_exit();
    assert_eq!((exited.name.as_str(), exited.pid), ("alice", first));
    assert_eq!(exited.reason.kind, ExitKind::Signalled(9));
    assert!(exited.restarting);
    let second = scene.wait_for(|all| all.iter().any(|p| p.pid.is_some_and(|pid| pid != first)));
    assert_eq!(second[0].restarts, 1);
}

#[test]
fn a_worker_that_never_starts_is_given_up_with_its_last_words() {
    let scene = shell("echo cannot find $2 >&2; exit 3", |config| {
        config.start_attempts = 2;
        config.end_without_workers = true;
    });
    scene.supervisor.add("bob");
    let exits = [scene.next_exit(), scene.next_exit()];
    assert_eq!(exits.map(|exited| exited.restarting), [true, false]);
    scene.supervisor.wait();
    let bob = &scene.supervisor.processes()[0];
    assert_eq!(bob.status, ProcessStatus::Failed);
    let reason = bob.last_exit.clone().unwrap();
    assert_eq!(reason.kind, ExitKind::Exited(3));
    assert_eq!(reason.stderr_tail, "cannot find\n");
}

#[test]
fn a_program_that_does_not_exist_is_given_up() {
    let scene = scene(&["/no/such/program"], |config| config.start_attempts = 2);
    scene.supervisor.add("x");
    let failed = scene.wait_for(|all| all.iter().any(|p| p.status == ProcessStatus::Failed));
    assert!(failed[0].last_exit.as_ref().unwrap().stderr_tail.contains("/no/such/program"));
}

#[test]
fn what_was_executing_is_read_after_a_sudden_death() {
    let arm = r#"printf '\005\000\000\000\001\000\000\000\007\000\000\000\001\000\000\000' |
        dd of="$TASKLOOM_EXECUTING_FILE" bs=1 seek=16 conv=notrunc 2>/dev/null; kill -11 $$"#;
    let scene = shell(arm, |_| {});
    scene.supervisor.add("carol");
    let exited = scene.next_exit();
    assert_eq!(exited.executing, [(TaskId { index: 5, generation: 1 }, 7)]);
    assert_eq!(exited.reason.kind, ExitKind::Signalled(11));
}

#[test]
fn an_orderly_end_is_not_answered_with_a_new_process() {
    let leave = r#"printf '\002' |
        dd of="$TASKLOOM_EXECUTING_FILE" bs=1 seek=12 conv=notrunc 2>/dev/null; exit 0"#;
    let scene = shell(leave, |config| config.end_without_workers = true);
    scene.supervisor.add("dave");
    assert!(!scene.next_exit().restarting);
    scene.supervisor.wait();
    assert_eq!(scene.supervisor.processes()[0].status, ProcessStatus::Ended);
}

#[test]
fn workers_get_single_threaded_libraries_and_the_configured_environment() {
    let show = "echo $OMP_NUM_THREADS $MKL_NUM_THREADS $GREETING $1 >&2; exit 1";
    let scene = shell(show, |config| {
        config.env =
            vec![("MKL_NUM_THREADS".into(), "4".into()), ("GREETING".into(), "hello".into())];
    });
    scene.supervisor.add("erin");
    let expected = std::env::var("OMP_NUM_THREADS").unwrap_or("1".into());
    assert_eq!(scene.next_exit().reason.stderr_tail, format!("{expected} 4 hello erin\n"));
}

#[test]
fn scaling_adds_the_lowest_numbers_and_ends_the_highest() {
    let scene = scene(&["sleep", "1000"], |config| config.name_prefix = "w-".into());
    scene.supervisor.scale(3);
    scene.names(&["w-0", "w-1", "w-2"]);
    scene.supervisor.scale(1);
    for _ in 0..2 {
        let exited = scene.next_exit();
        assert_eq!((exited.reason.kind, exited.restarting), (ExitKind::Requested, false));
    }
    scene.names(&["w-0"]);
    scene.supervisor.scale(2);
    scene.names(&["w-0", "w-1"]);
}

#[test]
fn the_scheduler_restarts_and_stops_workers() {
    let scene = scene(&["sleep", "1000"], |_| {});
    scene.supervisor.scale(1);
    scene.names(&["0"]);
    let sink = scene.supervisor.sink();
    let worker = WorkerName { name: "0".into() };
    sink.deliver(&mut vec![SchedulerToSupervisor::RestartWorker(worker.clone())]);
    let exited = scene.next_exit();
    assert_eq!((exited.reason.kind, exited.restarting), (ExitKind::Requested, true));
    scene.names(&["0"]);
    sink.deliver(&mut vec![SchedulerToSupervisor::StopWorker(worker)]);
    assert!(!scene.next_exit().restarting);
    sink.closed("gone");
    scene.supervisor.wait();
    assert_eq!(scene.supervisor.processes(), []);
}

#[test]
fn a_worker_that_ignores_the_request_to_end_is_killed() {
    let scene = shell("trap '' TERM; echo deaf >&2; while :; do sleep 1; done", |_| {});
    scene.supervisor.add("frank");
    scene.wait_for(|all| all.iter().any(|p| p.pid.is_some()));
    scene.supervisor.stop(Duration::from_millis(50));
    assert_eq!(scene.next_exit().reason.kind, ExitKind::Requested);
    assert!(!scene.supervisor.is_running());
}

#[test]
fn much_standard_error_is_passed_on_and_only_its_end_is_kept() {
    let scene = shell(
        "i=0; while [ $i -lt 400 ]; do printf '%099d\\n' $i; i=$((i+1)); done >&2; exit 1",
        |_| {},
    );
    scene.supervisor.add("grace");
    let tail = scene.next_exit().reason.stderr_tail;
    assert_eq!(tail.len(), 8 * 1024);
    assert!(tail.ends_with("0399\n"));
}
