//! A client: what it submitted, what it holds, and what it has been told.

use std::collections::BTreeMap;
use taskloom_proto::client::SchedulerToClient;
use taskloom_types::{ClientId, Handle, Key, TaskId, WorkerNo};

/// What a client knows of one of its futures.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    Pending,
    /// The value came with the message.
    Value(u64),
    /// The value is to be fetched there.
    There(TaskId, WorkerNo),
    Erred(String),
    Cancelled(String),
}

/// One future.
#[derive(Debug, Clone)]
pub struct SimFuture {
    pub key: Key,
    /// The value that a sequential run gives.
    pub expected: u64,
    /// Whether the task, or one that it needs, has a planted error or kills workers.
    pub may_fail: bool,
    pub known: Known,
    pub released: bool,
    /// Cancelled by this or another client: then the end is open.
    pub cancel_asked: bool,
}

#[derive(Debug)]
pub struct SimClient {
    pub id: ClientId,
    pub alive: bool,
    pub last_handle: u64,
    pub last_submission: u64,
    pub futures: BTreeMap<Handle, SimFuture>,
}

/// A result that the client has to fetch from a worker.
pub struct ToFetch {
    pub handle: Handle,
    pub task: TaskId,
    pub worker: WorkerNo,
}

impl SimClient {
    pub fn new(id: ClientId) -> Self {
        let futures = BTreeMap::new();
        Self { id, alive: true, last_handle: 0, last_submission: 0, futures }
    }

    pub fn next_handle(&mut self) -> Handle {
        self.last_handle += 1;
        Handle(self.last_handle)
    }

    /// Applies a message.
    ///
    /// # Errors
    /// The message breaks a promise to the client.
    pub fn on_message(&mut self, message: SchedulerToClient) -> Result<Vec<ToFetch>, String> {
        let mut to_fetch = Vec::new();
        match message {
            SchedulerToClient::Ready(list) => {
                for ready in list {
                    let Some(future) = self.open_future(ready.handle, "ready")? else { continue };
                    future.known = match ready.value {
                        Some(value) => {
                            let mut raw = [0; 8];
                            raw.copy_from_slice(&value[..8]);
                            Known::Value(u64::from_le_bytes(raw))
                        }
                        None => Known::There(ready.task, ready.worker),
                    };
                    if let Known::There(task, worker) = future.known {
                        to_fetch.push(ToFetch { handle: ready.handle, task, worker });
                    }
                    future.check_value()?;
                }
            }
            SchedulerToClient::Erred(erred) => {
                for handle in erred.handles {
                    if let Some(future) = self.open_future(handle, "erred")? {
                        future.known = Known::Erred(erred.error.type_name.clone());
                    }
                }
            }
            SchedulerToClient::Cancelled(cancelled) => {
                for handle in cancelled.handles {
                    if let Some(future) = self.futures.get_mut(&handle) {
                        future.known = Known::Cancelled(cancelled.reason.clone());
                    }
                }
            }
            SchedulerToClient::Pending(list) => {
                for handle in list.handles {
                    if let Some(future) = self.open_future(handle, "pending")? {
                        future.known = Known::Pending;
                    }
                }
            }
            SchedulerToClient::Collision(_)
            | SchedulerToClient::Peer(_)
            | SchedulerToClient::Reply(_)
            | SchedulerToClient::Notice(_)
            | SchedulerToClient::Closing(_) => {}
        }
        Ok(to_fetch)
    }

    /// The future of a handle, if it was not released. A cancelled one hears nothing more (I16).
    fn open_future(
        &mut self,
        handle: Handle,
        what: &str,
    ) -> Result<Option<&mut SimFuture>, String> {
        let Some(future) = self.futures.get_mut(&handle) else {
            return Err(format!("client {} was told {what} of unknown handle {handle}", self.id));
        };
        if matches!(future.known, Known::Cancelled(_)) {
            return Err(format!("cancelled future {} was told {what}", future.key));
        }
        Ok(Some(future))
    }
}

impl SimFuture {
    /// # Errors
    /// The value is wrong (I4).
    pub fn check_value(&self) -> Result<(), String> {
        match self.known {
            Known::Value(value) if value != self.expected => {
                Err(format!("future {} has the wrong value", self.key))
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// The future did not end, or ended as it must not.
    pub fn check_end(&self) -> Result<(), String> {
        if self.released {
            return Ok(());
        }
        match &self.known {
            Known::Value(_) => self.check_value(),
            Known::Pending | Known::There(..) => {
                Err(format!("future {} never ended: {:?}", self.key, self.known))
            }
            Known::Erred(_) | Known::Cancelled(_) if self.may_fail || self.cancel_asked => Ok(()),
            end => Err(format!("future {} ended as {end:?} for no reason", self.key)),
        }
    }
}
