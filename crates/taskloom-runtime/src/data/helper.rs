//! A thread for what takes too long for the IO thread, which has heartbeats and small messages to
//! send: reading files, compressing.

use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs one after the other on a thread of its own, which starts with the first one and ends
/// after the helper is gone.
#[derive(Debug)]
pub(super) struct Helper {
    name: &'static str,
    jobs: OnceLock<Option<Sender<Job>>>,
}

impl Helper {
    /// `name`: the thread's, of at most 15 bytes.
    pub fn new(name: &'static str) -> Self {
        Self { name, jobs: OnceLock::new() }
    }

    /// Has it done soon. When there is no thread to be had, the caller does it: slowly is better
    /// than not at all.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let job: Job = Box::new(job);
        match self.jobs.get_or_init(|| start(self.name)) {
            Some(jobs) => {
                if let Err(refused) = jobs.send(job) {
                    refused.0();
                }
            }
            None => job(),
        }
    }
}

fn start(name: &str) -> Option<Sender<Job>> {
    let (sender, jobs) = channel::<Job>();
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(move || jobs.iter().for_each(|job| job())).ok().map(|_| sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_done_in_their_order_while_the_caller_goes_on() {
        let helper = Helper::new("taskloom-test");
        let (go_on, wait) = channel::<()>();
        let (sender, done) = channel();
        let first = sender.clone();
        helper.run(move || {
            wait.recv().unwrap();
            first.send(1).unwrap();
        });
        helper.run(move || sender.send(2).unwrap());
        // The caller would not get here if it did them itself.
        assert!(done.try_recv().is_err());
        go_on.send(()).unwrap();
        assert_eq!((done.recv(), done.recv()), (Ok(1), Ok(2)));
    }

    #[test]
    fn jobs_that_were_given_are_done_when_the_helper_is_gone() {
        let helper = Helper::new("taskloom-test");
        let (sender, done) = channel();
        helper.run(move || sender.send(1).unwrap());
        drop(helper);
        assert_eq!(done.recv(), Ok(1));
    }
}
