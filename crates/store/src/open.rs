//! Open packages. All downloads of a version share one descriptor and one
//! mapping, which are kept from one download to the next: opening, mapping and
//! faulting in cost several times what sending a small package does.
//!
//! A copy is closed when its package is replaced or removed, when it was not
//! used for a while, and when too many are open; downloads under way keep
//! what they have.

use std::{
    any::Any,
    collections::VecDeque,
    fs::File,
    io,
    num::NonZero,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use edge_mirror_protocol::package::FileStamp;
use rustix::fs::Advice;
use tokio::sync::Semaphore;

use super::{
    mapping::FileMapping,
    recheck::{FileBaseline, FileChange, FileState},
};

/// Most open copies, unless downloads hold more: each costs a descriptor, and
/// connections need most of those.
pub(super) const MAX_OPEN: usize = 1024;
/// Number of looks without a use after which an open copy is closed.
const IDLE_LOOKS: u8 = 12;
/// Bytes that are looked up and read in at a time.
const SEGMENT_BYTES: usize = 512 << 10;
/// Bytes read ahead of those that are waited for.
const AHEAD_BYTES: u64 = 4 << 20;

/// The open file of a version.
#[derive(Debug)]
pub struct OpenCopy {
    file: File,
    /// None if it can't be mapped.
    mapped: Option<(Arc<FileMapping>, Bytes)>,
    /// State that it is compared with; none while the file is being written.
    pub(super) baseline: Option<FileBaseline>,
    /// Looks since its last use.
    idle: AtomicU8,
    /// Counts looks. A segment that was in memory at one counts as resident until the
    /// next: asking the kernel costs a small download a twentieth.
    looks: AtomicU8,
    resident_at: Box<[AtomicU8]>,
    /// See [`attachment`](Self::attachment).
    attachment: OnceLock<Attachment>,
}

/// A value of a type that the store does not know.
type Attachment = Box<dyn Any + Send + Sync>;

/// Slot of a version's open copy, if there is one.
#[derive(Debug)]
pub(super) struct CopySlot {
    opened: ArcSwapOption<OpenCopy>,
    /// The copy that was opened last. Downloads may still hold it when it is closed here.
    last: Mutex<Weak<OpenCopy>>,
    /// Held by the caller that opens it.
    opening: Semaphore,
}

impl Default for CopySlot {
    fn default() -> Self {
        Self {
            opened: ArcSwapOption::empty(),
            last: Mutex::default(),
            opening: Semaphore::const_new(1),
        }
    }
}

/// All slots in use, the longest open first.
#[derive(Debug)]
pub(super) struct OpenCopies {
    most: usize,
    slots: Mutex<VecDeque<Weak<CopySlot>>>,
}

struct MappingOwner(Arc<FileMapping>);

impl AsRef<[u8]> for MappingOwner {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl OpenCopy {
    pub(super) fn new(file: File) -> Self {
        let mapping = FileMapping::of(&file).ok().map(Arc::new);
        let baseline = FileBaseline::of(&file);
        Self { baseline, ..Self::with(file, mapping) }
    }

    /// A file that is being written, up to this length.
    pub(super) fn growing(file: File, length: u64) -> Self {
        let mapping = FileMapping::ahead(&file, length).ok().map(Arc::new);
        Self::with(file, mapping)
    }

    fn with(file: File, mapping: Option<Arc<FileMapping>>) -> Self {
        let owned = |mapping: Arc<FileMapping>| {
            let bytes = Bytes::from_owner(MappingOwner(mapping.clone()));
            (mapping, bytes)
        };
        let mapped = mapping.map(owned);
        let length = mapped.as_ref().map_or(0, |(_, bytes)| bytes.len());
        Self {
            file,
            mapped,
            baseline: None,
            // A copy that is never used again is the first to close.
            idle: AtomicU8::new(1),
            looks: AtomicU8::new(1),
            resident_at: (0..length.div_ceil(SEGMENT_BYTES)).map(|_| AtomicU8::new(0)).collect(),
            attachment: OnceLock::new(),
        }
    }

    /// A file that is read and not mapped.
    pub fn unmapped(file: File) -> Self {
        Self { baseline: FileBaseline::of(&file), ..Self::with(file, None) }
    }

    #[cfg(any(test, feature = "testing"))]
    pub fn mapped(file: File) -> Self {
        Self::new(file)
    }

    /// For positioned reads only: its cursor is shared.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns all bytes, to be sent and not read (see `mapping`).
    pub fn bytes(&self) -> Option<&Bytes> {
        self.mapped.as_ref().map(|(_, bytes)| bytes)
    }

    /// Returns the rest of the segment that contains a position.
    pub fn segment_at(&self, position: usize) -> Range<usize> {
        let end = (position / SEGMENT_BYTES + 1) * SEGMENT_BYTES;
        position..end.min(self.bytes().map_or(0, Bytes::len))
    }

    /// True if sending a segment would wait for no disk.
    pub fn is_resident(&self, segment: &Range<usize>) -> bool {
        let Some((mapping, _)) = &self.mapped else { return true };
        let Some(resident_at) = self.resident_at.get(segment.start / SEGMENT_BYTES) else {
            return true;
        };
        let look = self.looks.load(Ordering::Relaxed);
        if resident_at.load(Ordering::Relaxed) == look {
            return true;
        }
        let resident = mapping.is_resident(segment.clone());
        // Noted of a whole segment only.
        let whole = segment.start.is_multiple_of(SEGMENT_BYTES);
        if resident && whole && self.segment_at(segment.start) == *segment {
            resident_at.store(look, Ordering::Relaxed);
        }
        resident
    }

    /// Reads a segment into memory, and the next ones in the background. On failure, the
    /// sender waits instead, or gets the error.
    pub fn fill(&self, segment: Range<usize>) {
        let Some((mapping, _)) = &self.mapped else { return };
        let (from, length) =
            (segment.start as u64, NonZero::new(segment.len() as u64 + AHEAD_BYTES));
        let _ = rustix::fs::fadvise(&self.file, from, length, Advice::WillNeed);
        let _ = mapping.fill(segment);
    }

    /// Drops the range from memory.
    pub(crate) fn drop_cached(&self, range: Range<u64>) {
        let length = NonZero::new(range.end - range.start);
        let _ = rustix::fs::fadvise(&self.file, range.start, length, Advice::DontNeed);
    }

    /// True if it is still the verified file, in its place: not written to, not
    /// unlinked, nothing renamed over it.
    pub(super) fn is_verified_file(&self, verified: &FileStamp) -> io::Result<bool> {
        let now = FileState::of(&self.file)?;
        Ok(now.is_linked() && now.has_stamp(verified) && self.change_to(&now) == FileChange::None)
    }

    /// True if nobody has touched it since it was opened. It may have been replaced or
    /// removed: downloads that have begun go on with it.
    pub fn is_untouched(&self) -> bool {
        FileState::of(&self.file).is_ok_and(|now| self.change_to(&now) == FileChange::None)
    }

    /// A value that senders of this version make once for all requests. It is kept with
    /// the open copy because it goes when the copy goes.
    pub fn attachment<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> &T {
        let attachment = self.attachment.get_or_init(|| Box::new(make()));
        attachment.downcast_ref().expect("an open copy has attachments of one type")
    }

    fn mark_used(&self) {
        // Reads first: a thousand clients a millisecond need not contend for it.
        if self.idle.load(Ordering::Relaxed) != 0 {
            self.idle.store(0, Ordering::Relaxed);
        }
    }
}

impl CopySlot {
    pub(super) fn opened(&self) -> Option<Arc<OpenCopy>> {
        let opened = self.opened.load_full()?;
        opened.mark_used();
        Some(opened)
    }

    /// Like [`opened`](Self::opened), but does not count as use.
    pub(super) fn peek(&self) -> Option<Arc<OpenCopy>> {
        self.opened.load_full()
    }

    /// True while somebody reads it.
    pub(super) fn is_in_use(&self) -> bool {
        let is_kept = self.opened.load().is_some();
        self.last().strong_count() > usize::from(is_kept)
    }

    fn last(&self) -> MutexGuard<'_, Weak<OpenCopy>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn opening(&self) -> &Semaphore {
        &self.opening
    }

    pub(super) fn close(&self) {
        self.opened.store(None);
    }

    /// Counts a look; closes a copy that was not used for too many of them.
    fn tick_idle(&self) {
        let Some(opened) = self.opened.load_full() else { return };
        // Never the 0 of segments that were not asked for yet.
        let looks = opened.looks.load(Ordering::Relaxed) % u8::MAX + 1;
        opened.looks.store(looks, Ordering::Relaxed);
        if opened.idle.fetch_add(1, Ordering::Relaxed) + 1 >= IDLE_LOOKS {
            self.close();
        }
    }
}

impl OpenCopies {
    pub(super) fn new(most: usize) -> Self {
        Self { most, slots: Mutex::default() }
    }

    /// Keeps the copy for the next downloads.
    pub(super) fn keep(&self, slot: &Arc<CopySlot>, opened: Arc<OpenCopy>) {
        *slot.last() = Arc::downgrade(&opened);
        let mut slots = self.slots();
        if slot.opened.swap(Some(opened)).is_none() {
            slots.push_back(Arc::downgrade(slot));
        }
        if slots.len() > self.most {
            make_room(&mut slots);
        }
    }

    /// Closes idle copies; to be called every few seconds.
    pub(super) fn close_idle(&self) {
        let mut slots = self.slots();
        slots.retain(|slot| {
            slot.upgrade().is_some_and(|slot| {
                slot.tick_idle();
                slot.opened.load().is_some()
            })
        });
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.slots().iter().filter_map(Weak::upgrade).filter(|s| s.opened.load().is_some()).count()
    }

    fn slots(&self) -> MutexGuard<'_, VecDeque<Weak<CopySlot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the copy that has been open for longest and was not used since its last look;
/// if all were, the first.
fn make_room(slots: &mut VecDeque<Weak<CopySlot>>) {
    let unused = |slot: &Arc<CopySlot>| {
        let opened = slot.opened.load();
        opened.as_ref().is_none_or(|opened| opened.idle.fetch_max(1, Ordering::Relaxed) > 0)
    };
    let found = slots.iter().position(|slot| slot.upgrade().as_ref().is_none_or(unused));
    if let Some(slot) = slots.remove(found.unwrap_or(0)).and_then(|slot| slot.upgrade()) {
        slot.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_open_at_a_time_and_those_in_use_stay() {
        let open = OpenCopies::new(3);
        let opened = || {
            let slot = Arc::<CopySlot>::default();
            open.keep(&slot, Arc::new(OpenCopy::new(tempfile::tempfile().unwrap())));
            slot
        };
        let is_open = |slot: &Arc<CopySlot>| slot.opened.load().is_some();
        let used = opened();
        let mut others = Vec::new();
        for _ in 0..9 {
            assert!(used.opened().is_some(), "closed after {}", others.len());
            others.push(opened());
        }
        assert_eq!(open.count(), 3);
        assert!(is_open(&used) && others[7..].iter().all(is_open));
    }
}
