//! Memory in huge pages, so that random reads miss fewer address translations.

#![expect(unsafe_code, reason = "advice about memory has no safe form")]

use rustix::mm::{Advice, madvise};

/// A huge page, in bytes, on every processor that matters here.
const HUGE: usize = 2 << 20;

/// Asks the system to back memory with huge pages from now on. A system that does not know how is no worse off.
pub fn want_huge(memory: *const u8, bytes: usize) {
    let start = memory.addr().next_multiple_of(HUGE);
    let end = (memory.addr() + bytes) & !(HUGE - 1);
    if start < end {
        let whole = memory.with_addr(start).cast_mut().cast();
        // SAFETY: the advice changes nothing that can be read in the range, whoever it belongs to.
        let _refused = unsafe { madvise(whole, end - start, Advice::LinuxHugepage) };
    }
}

/// Zeroed memory in huge pages, as far as it is large enough.
pub(crate) fn zeroed<T: bytemuck::Zeroable>(len: usize) -> Box<[T]> {
    let memory = bytemuck::allocation::zeroed_slice_box::<T>(len);
    want_huge(memory.as_ptr().cast(), size_of_val(&*memory));
    memory
}
