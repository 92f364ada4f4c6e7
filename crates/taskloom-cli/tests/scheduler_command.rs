//! The scheduler command in a process of its own: this file has a single test, since it signals
//! its process.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use taskloom_cli::{PythonHost, WorkerOptions, run};

/// A worker that records what it was asked to be.
#[derive(Default)]
struct Host {
    nthreads: AtomicU32,
}

impl PythonHost for Host {
    fn python_executable(&self) -> String {
        "python3".into()
    }

    fn run_worker(&self, options: WorkerOptions) -> i32 {
        assert!(options.scheduler.starts_with("tcp://127.0.0.1:"));
        assert_eq!((options.name.as_str(), options.memory_limit), ("alice", 1_000_000));
        assert!(!options.supervised);
        self.nthreads.store(options.nthreads, Ordering::Relaxed);
        7
    }
}

fn command(words: &[&str]) -> i32 {
    run(
        std::iter::once(&"taskloom").chain(words).map(ToString::to_string).collect(),
        &Host::default(),
    )
}

fn wait_for_file(path: &Path) {
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_scheduler_writes_its_file_serves_and_ends_on_sigterm_with_code_0() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scheduler.json");
    let path = file.to_str().unwrap().to_string();
    let scheduler = {
        let path = path.clone();
        std::thread::spawn(move || {
            command(&["scheduler", "--port", "0", "--scheduler-file", &path])
        })
    };
    wait_for_file(&file);

    let host = Host::default();
    let worker = [
        "taskloom",
        "worker",
        "--scheduler-file",
        &path,
        "--no-nanny",
        "--nthreads",
        "3",
        "--name",
        "alice",
        "--memory-limit",
        "1MB",
    ];
    assert_eq!(run(worker.map(String::from).into(), &host), 7);
    assert_eq!(host.nthreads.load(Ordering::Relaxed), 3);

    assert_eq!(command(&["scheduler", "--port", "0", "--host", "0.0.0.0"]), 2);
    assert_eq!(command(&["scheduler", "--frobnicate"]), 2);
    assert_eq!(command(&["worker", "nonsense", "--no-nanny"]), 2);
    assert_eq!(command(&["--help"]), 0);

    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
    assert_eq!(scheduler.join().unwrap(), 0);
    assert!(!file.exists());
}
