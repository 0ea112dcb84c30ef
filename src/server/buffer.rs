//! The buffer that every turn reads into.

use std::ops::Range;

/// The size of a page, or a divisor of it.
const PAGE: usize = 4096;

/// Bytes that start at a page.
///
/// The kernel copies input from pages. A large allocation starts 16 bytes into one, and with
/// the destination just ahead of the source in their pages, each load waits for an earlier
/// store that only looks as if it were to the same address (Intel's Optimization Reference
/// Manual, "4-KByte aliasing"): bulk echo took 1.7 times the CPU.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Vec<u8>,
    aligned: Range<usize>,
}

impl Buffer {
    /// A buffer of `size` bytes. Pages that are never read into cost no memory.
    pub(super) fn new(size: usize) -> Self {
        let memory = vec![0; size + PAGE];
        let start = memory.as_ptr().align_offset(PAGE).min(PAGE);
        let aligned = start..start + size;
        Self { memory, aligned }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.aligned.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_starts_at_a_page_and_has_its_size() {
        for size in [1, 4096, 256 * 1024] {
            let mut buffer = Buffer::new(size);
            assert_eq!(buffer.bytes().as_ptr() as usize % PAGE, 0);
            assert_eq!(buffer.bytes().len(), size);
        }
    }
}
