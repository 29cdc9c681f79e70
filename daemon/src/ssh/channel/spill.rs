//! What a channel has received and its client has not taken: the first of it in memory, the
//! rest in a file without a name.

use std::{
    collections::VecDeque,
    env,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use tokio::task::spawn_blocking;

use super::budget::TunnelBudget;

/// What a channel keeps in memory, where there is room for it.
const MEMORY: usize = 1024 * 1024;
/// What goes to the file at a time.
pub(super) const BLOCK: usize = 128 * 1024;

/// Bytes in the order in which they came.
pub(super) struct SpillBuffer {
    /// The oldest.
    front: VecDeque<Bytes>,
    front_length: usize,
    spill: Option<Spill>,
    /// The newest: less than a block, unless there is no room for one.
    back: BytesMut,
    budget: Arc<TunnelBudget>,
}

/// Blocks in a file, in slots that are used again.
struct Spill {
    file: Arc<File>,
    queue: VecDeque<u64>,
    free: Vec<u64>,
    next: u64,
}

// === impl SpillBuffer ===

impl SpillBuffer {
    pub(super) fn new(budget: Arc<TunnelBudget>) -> Self {
        Self {
            front: VecDeque::new(),
            front_length: 0,
            spill: None,
            back: BytesMut::new(),
            budget,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.spill.is_none() && self.back.is_empty()
    }

    /// Whether nothing more may be pushed until something is popped.
    pub(super) fn is_full(&self) -> bool {
        self.back.len() >= BLOCK
    }

    pub(super) async fn push(&mut self, bytes: Bytes) {
        let in_memory = self.spill.is_none() && self.back.is_empty();
        if in_memory
            && self.front_length + bytes.len() <= MEMORY
            && self.budget.take_memory(bytes.len())
        {
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
    pub(super) async fn pop(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(bytes) = self.front.pop_front() {
            self.front_length -= bytes.len();
            self.budget.give_memory(bytes.len());
            return Ok(Some(bytes));
        }
        let Some(spill) = &mut self.spill else {
            return Ok((!self.back.is_empty()).then(|| self.back.split().freeze()));
        };
        let block = spill.read().await?;
        if spill.queue.is_empty() {
            self.spill = None;
        }
        self.budget.give_disk(BLOCK);
        self.spill().await;
        Ok(Some(block))
    }

    /// Moves whole blocks to the file while there is room.
    async fn spill(&mut self) {
        while self.back.len() >= BLOCK && self.budget.take_disk(BLOCK) {
            // Never more than a block and a packet: both copies are small.
            let block = Bytes::copy_from_slice(&self.back[..BLOCK]);
            if let Err(error) = self.write(block).await {
                tracing::warn!(%error, "can't put aside what a client doesn't take");
                self.budget.give_disk(BLOCK);
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
        self.budget.give_memory(self.front_length);
        if let Some(spill) = &self.spill {
            self.budget.give_disk(spill.queue.len() * BLOCK);
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

    use super::{super::budget::ProcessBudget, *};

    /// One that may have two blocks on disk: half of what is left of six.
    fn two_blocks() -> Arc<TunnelBudget> {
        ProcessBudget::new(1 << 30, 6 * BLOCK).for_tunnel()
    }

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
        let budget = two_blocks();
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
        assert_eq!(budget.used(), (0, 0));
    }

    #[tokio::test]
    async fn channels_of_a_tunnel_share_their_room() {
        let budget = two_blocks();
        let mut greedy = SpillBuffer::new(Arc::clone(&budget));
        fill(&mut greedy, 1000).await;
        let mut other = SpillBuffer::new(Arc::clone(&budget));
        assert_eq!(fill(&mut other, 1000).await, MEMORY + BLOCK);
        drop(greedy);
        other.pop().await.unwrap();
        other.push(Bytes::from_static(b"more")).await;
        assert!(!other.is_full());
    }

    #[tokio::test]
    async fn without_room_in_memory_it_goes_to_the_disk_at_once() {
        let budget = ProcessBudget::new(BLOCK, 1 << 30).for_tunnel();
        let mut backlog = SpillBuffer::new(Arc::clone(&budget));
        let pushed = fill(&mut backlog, 20).await;
        let (memory, disk) = budget.used();
        assert!(memory <= BLOCK, "{memory}");
        assert!(disk > pushed - 2 * BLOCK, "{disk} of {pushed}");
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
                let mut backlog = SpillBuffer::new(ProcessBudget::new(1 << 30, 24 * BLOCK).for_tunnel());
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
