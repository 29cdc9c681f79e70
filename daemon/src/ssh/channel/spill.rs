//! What a channel has received and its client has not taken: the first of it in memory, the
//! rest in a file without a name.

use std::{
    collections::VecDeque,
    env,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use tokio::task::spawn_blocking;

/// What a channel keeps in memory.
const MEMORY: usize = 1024 * 1024;
/// What goes to the file at a time.
const BLOCK: usize = 256 * 1024;

/// Bytes in the order in which they came.
pub(in crate::ssh) struct SpillBuffer {
    /// The oldest.
    front: VecDeque<Bytes>,
    front_length: usize,
    spill: Option<Spill>,
    /// The newest: less than a block, unless there is no room for one.
    back: BytesMut,
    budget: Arc<Budget>,
}

/// How much the channels of one tunnel may keep on disk together.
pub(in crate::ssh) struct Budget {
    /// Those that share it, open or being opened.
    channels: AtomicUsize,
    blocks: AtomicU64,
    limit: u64,
    /// Channels that wait for room, and with them the whole tunnel.
    jams: AtomicUsize,
}

/// Blocks in a file, in slots that are used again.
struct Spill {
    file: Arc<File>,
    queue: VecDeque<u64>,
    free: Vec<u64>,
    next: u64,
}

/// Counts a jam while it lasts.
pub(in crate::ssh) struct StallGuard(Arc<Budget>);

// === impl Budget ===

impl Budget {
    pub(in crate::ssh) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            channels: AtomicUsize::new(0),
            blocks: AtomicU64::new(0),
            limit: bytes / BLOCK as u64,
            jams: AtomicUsize::new(0),
        })
    }

    /// Counts one more channel; answers how many others there are.
    pub(in crate::ssh) fn join(&self) -> usize {
        self.channels.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts one channel less.
    pub(in crate::ssh) fn leave(&self) {
        self.channels.fetch_sub(1, Ordering::Relaxed);
    }

    pub(in crate::ssh) fn channels(&self) -> usize {
        self.channels.load(Ordering::Relaxed)
    }

    /// Whether a channel waits for room, so that the tunnel can't be expected to answer.
    pub(in crate::ssh) fn is_jammed(&self) -> bool {
        self.jams.load(Ordering::Relaxed) > 0
    }

    pub(in crate::ssh) fn jam(self: &Arc<Self>) -> StallGuard {
        self.jams.fetch_add(1, Ordering::Relaxed);
        StallGuard(Arc::clone(self))
    }

    fn take_block(&self) -> bool {
        let taken = self.blocks.fetch_add(1, Ordering::Relaxed) < self.limit;
        if !taken {
            self.give_back(1);
        }
        taken
    }

    fn give_back(&self, blocks: u64) {
        self.blocks.fetch_sub(blocks, Ordering::Relaxed);
    }
}

impl Drop for StallGuard {
    fn drop(&mut self) {
        self.0.jams.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl SpillBuffer ===

impl SpillBuffer {
    pub(in crate::ssh) fn new(budget: Arc<Budget>) -> Self {
        Self {
            front: VecDeque::new(),
            front_length: 0,
            spill: None,
            back: BytesMut::new(),
            budget,
        }
    }

    pub(in crate::ssh) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.spill.is_none() && self.back.is_empty()
    }

    /// Whether nothing more may be pushed until something is popped.
    pub(in crate::ssh) fn is_full(&self) -> bool {
        self.back.len() >= BLOCK
    }

    pub(in crate::ssh) async fn push(&mut self, bytes: Bytes) {
        let in_memory = self.spill.is_none() && self.back.is_empty();
        if in_memory && self.front_length + bytes.len() <= MEMORY {
            self.front_length += bytes.len();
            self.front.push_back(bytes);
            return;
        }
        self.back.extend_from_slice(&bytes);
        self.spill().await;
    }

    /// The oldest bytes.
    ///
    /// # Errors
    /// When what was put into the file can't be read back.
    pub(in crate::ssh) async fn pop(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(bytes) = self.front.pop_front() {
            self.front_length -= bytes.len();
            return Ok(Some(bytes));
        }
        let Some(spill) = &mut self.spill else {
            return Ok((!self.back.is_empty()).then(|| self.back.split().freeze()));
        };
        let block = spill.read().await?;
        if spill.queue.is_empty() {
            self.spill = None;
        }
        self.budget.give_back(1);
        self.spill().await;
        Ok(Some(block))
    }

    /// Moves whole blocks to the file while there is room.
    async fn spill(&mut self) {
        while self.back.len() >= BLOCK && self.budget.take_block() {
            // Never more than a block and a packet: both copies are small.
            let block = Bytes::copy_from_slice(&self.back[..BLOCK]);
            if let Err(error) = self.write(block).await {
                tracing::warn!(%error, "can't put aside what a client doesn't take");
                self.budget.give_back(1);
                return;
            }
            drop(self.back.split_to(BLOCK));
        }
    }

    async fn write(&mut self, block: Bytes) -> io::Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            None => self.spill.insert(Spill::create().await?),
        };
        let written = spill.write(block).await;
        if spill.queue.is_empty() {
            self.spill = None;
        }
        written
    }
}

impl Drop for SpillBuffer {
    fn drop(&mut self) {
        if let Some(spill) = &self.spill {
            self.budget.give_back(spill.queue.len() as u64);
        }
    }
}

// === impl Spill ===

impl Spill {
    async fn create() -> io::Result<Self> {
        let file = blocking(|| tempfile::tempfile_in(directory())).await?;
        Ok(Self {
            file: Arc::new(file),
            queue: VecDeque::new(),
            free: Vec::new(),
            next: 0,
        })
    }

    async fn write(&mut self, block: Bytes) -> io::Result<()> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.next += 1;
                self.next - 1
            }
        };
        let file = Arc::clone(&self.file);
        let written = blocking(move || file.write_all_at(&block, slot * BLOCK as u64)).await;
        match written {
            Ok(()) => self.queue.push_back(slot),
            Err(_) => self.free.push(slot),
        }
        written
    }

    async fn read(&mut self) -> io::Result<Bytes> {
        let slot = self.queue.pop_front().ok_or(io::ErrorKind::UnexpectedEof)?;
        self.free.push(slot);
        let file = Arc::clone(&self.file);
        blocking(move || {
            let mut block = vec![0; BLOCK];
            file.read_exact_at(&mut block, slot * BLOCK as u64)?;
            Ok(Bytes::from(block))
        })
        .await
    }
}

/// Where large files without a name go: /tmp is often memory, /var/tmp is not
/// (file-hierarchy(7)).
fn directory() -> PathBuf {
    let disk = Path::new("/var/tmp");
    if env::var_os("TMPDIR").is_none() && disk.is_dir() {
        disk.to_owned()
    } else {
        env::temp_dir()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn fill(backlog: &mut SpillBuffer, mut limit: usize) -> usize {
        let mut pushed = 0;
        while !backlog.is_full() && limit > 0 {
            backlog.push(Bytes::from(vec![7; 32 * 1024])).await;
            pushed += 32 * 1024;
            limit -= 1;
        }
        pushed
    }

    #[tokio::test]
    async fn memory_then_disk_then_no_more() {
        let budget = Budget::new(2 * BLOCK as u64);
        let mut backlog = SpillBuffer::new(Arc::clone(&budget));
        assert_eq!(fill(&mut backlog, 1000).await, MEMORY + 3 * BLOCK);
        assert!(backlog.is_full());
        let mut popped = 0;
        while backlog.is_full() {
            popped += backlog.pop().await.unwrap().unwrap().len();
        }
        // The first block that is read makes room for the one that waited.
        assert_eq!(popped, MEMORY + BLOCK);
        drop(backlog);
        assert_eq!(budget.blocks.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn channels_of_a_tunnel_share_their_room() {
        let budget = Budget::new(2 * BLOCK as u64);
        let mut greedy = SpillBuffer::new(Arc::clone(&budget));
        fill(&mut greedy, 1000).await;
        let mut other = SpillBuffer::new(Arc::clone(&budget));
        assert_eq!(fill(&mut other, 1000).await, MEMORY + BLOCK);
        drop(greedy);
        other.pop().await.unwrap();
        other.push(Bytes::from_static(b"more")).await;
        assert!(!other.is_full());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// What comes out is what went in, whatever the order of both.
        #[test]
        fn bytes_keep_their_order(
            steps in proptest::collection::vec((0_usize..200_000, 0_usize..6), 1..60)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut backlog = SpillBuffer::new(Budget::new(8 * BLOCK as u64));
                let (mut given, mut taken) = (Vec::new(), Vec::new());
                let mut byte = 0_u8;
                for (length, pops) in steps {
                    if !backlog.is_full() && length > 0 {
                        byte = byte.wrapping_add(1);
                        given.resize(given.len() + length, byte);
                        backlog.push(Bytes::from(vec![byte; length])).await;
                    }
                    for _ in 0..pops {
                        taken.extend(backlog.pop().await.unwrap().unwrap_or_default());
                    }
                }
                while let Some(bytes) = backlog.pop().await.unwrap() {
                    taken.extend(bytes);
                }
                assert!(backlog.is_empty());
                assert!(given == taken, "{} bytes in, {} out", given.len(), taken.len());
            });
        }
    }
}
