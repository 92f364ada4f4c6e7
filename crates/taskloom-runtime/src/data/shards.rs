//! Pieces of a shuffle's files, for readers on other hosts. Readers on this host map the files.

use super::client::{DataClient, FetchError};
use super::helper::Helper;
use super::pending::{Pending, send};
use super::{COPY_BELOW, take_segments};
use crate::worker::spill::directory::{ScratchDirectory, base_directory};
use bytes::Bytes;
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use taskloom_net::Channel;
use taskloom_proto::peer::PeerMessage;
use taskloom_proto::shards::{ReadShards, ShardPiece, ShardsReply};

/// A directory of this process for files of shuffles.
struct Own {
    base: PathBuf,
    directory: ScratchDirectory,
    process: u32,
}

/// They belong to the process, like the files.
static DIRECTORIES: Mutex<Vec<Own>> = Mutex::new(Vec::new());

/// Where this process writes files of shuffles, which peers may read; made at first use, and anew
/// when somebody removed it.
///
/// # Errors
/// It cannot be made, or others may write where it is to be.
pub fn shard_directory(local_directory: &str) -> io::Result<PathBuf> {
    let base = base_directory(local_directory);
    let mut directories = DIRECTORIES.lock();
    forget_those_of_others(&mut directories);
    directories.retain(|own| own.directory.path().is_dir());
    if let Some(own) = directories.iter().find(|own| own.base == base) {
        return Ok(own.directory.path().to_path_buf());
    }
    let directory = ScratchDirectory::create(&base, "shards")?;
    let path = directory.path().to_path_buf();
    directories.push(Own { base, directory, process: std::process::id() });
    Ok(path)
}

/// Removes this process's files of shuffles, at its end.
pub fn remove_shard_directories() {
    let mut directories = DIRECTORIES.lock();
    forget_those_of_others(&mut directories);
    directories.clear();
}

/// A fork has its parent's directories, and must not remove them.
fn forget_those_of_others(directories: &mut Vec<Own>) {
    if directories.iter().any(|own| own.process != std::process::id()) {
        directories.drain(..).for_each(std::mem::forget);
    }
}

/// The pieces in the order asked; `None`: it is not there.
pub type ShardsCallback = Box<dyn FnOnce(Result<Vec<Option<Bytes>>, FetchError>) + Send>;

impl DataClient {
    /// Asks the worker at `address` for pieces of files.
    pub fn read_shards(&self, address: &str, pieces: Vec<ShardPiece>, on_reply: ShardsCallback) {
        self.ask(address, Pending::Shards(PendingShards { pieces, on_reply }));
    }
}

pub(super) struct PendingShards {
    pieces: Vec<ShardPiece>,
    on_reply: ShardsCallback,
}

impl PendingShards {
    pub(super) fn send(&self, request: u64, channel: &Channel) {
        let message = ReadShards { request, pieces: self.pieces.clone() };
        send(channel, &PeerMessage::ReadShards(message), Vec::new());
    }

    /// Gives the question back when the answer makes no sense.
    pub(super) fn answer(
        self,
        reply: &ShardsReply,
        mut data: Bytes,
    ) -> Result<(), (Self, &'static str)> {
        if reply.lengths.len() != self.pieces.len() {
            return Err((self, "a reply with the wrong number of pieces"));
        }
        let is_there = |length: &&u64| **length != ShardsReply::MISSING;
        let lengths: Vec<u64> = reply.lengths.iter().filter(is_there).copied().collect();
        let segments = take_segments(&mut data, &lengths, COPY_BELOW).filter(|_| data.is_empty());
        let Some(segments) = segments else {
            return Err((self, "pieces that do not match their data"));
        };
        let mut segments = segments.into_iter();
        let piece = |length: &u64| (*length != ShardsReply::MISSING).then(|| segments.next());
        let pieces = reply.lengths.iter().map(piece).map(Option::flatten).collect();
        (self.on_reply)(Ok(pieces));
        Ok(())
    }

    pub(super) fn fail(self, error: FetchError) {
        (self.on_reply)(Err(error));
    }
}

/// Reads files for peers, on a thread of its own: the disk may be slow.
#[derive(Debug)]
pub(super) struct ShardServer {
    helper: Helper,
}

impl Default for ShardServer {
    fn default() -> Self {
        Self { helper: Helper::new("taskloom-shards") }
    }
}

impl ShardServer {
    pub(super) fn read(&self, channel: &Arc<Channel>, asked: ReadShards) {
        let channel = channel.clone();
        self.helper.run(move || answer(&channel, &asked));
    }
}

fn answer(channel: &Channel, asked: &ReadShards) {
    let directories: Vec<PathBuf> =
        DIRECTORIES.lock().iter().map(|own| own.directory.path().to_path_buf()).collect();
    let found: Vec<Option<Bytes>> =
        asked.pieces.iter().map(|piece| read(&directories, piece)).collect();
    let length = |piece: &Option<Bytes>| {
        piece.as_ref().map_or(ShardsReply::MISSING, |bytes| bytes.len() as u64)
    };
    let lengths = found.iter().map(length).collect();
    let reply = ShardsReply { request: asked.request, lengths };
    send(channel, &PeerMessage::ShardsReply(reply), found.into_iter().flatten().collect());
}

/// A piece of a file, if all of it is there.
fn read(directories: &[PathBuf], piece: &ShardPiece) -> Option<Bytes> {
    let name = format!("{:032x}", piece.file);
    let file = directories.iter().find_map(|base| File::open(base.join(&name)).ok())?;
    // A claim that is larger than the file reserves no memory.
    let end = piece.offset.checked_add(piece.length)?;
    if end > file.metadata().ok()?.len() {
        return None;
    }
    let mut data = vec![0; usize::try_from(piece.length).ok()?];
    file.read_exact_at(&mut data, piece.offset).ok()?;
    Some(Bytes::from(data))
}
