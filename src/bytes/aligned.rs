//! Buffers that start at a page boundary.
//!
//! The kernel's own buffers are pages. A large allocation starts 16 bytes into a page. A copy
//! between the two then loads across cache lines, or its loads wait for earlier stores to the same
//! offset of another page (Intel's Optimization Reference Manual, "4-KByte aliasing"). Bulk echo
//! without alignment took 1.7 times the CPU.

/// The alignment in bytes: the size of a page, or a divisor of it.
const PAGE: usize = 4096;

/// A vector of bytes that starts at a page boundary and never moves.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    /// Padding up to the page boundary, then the bytes.
    memory: Vec<u8>,
    /// Length of the padding.
    start: usize,
}

impl Aligned {
    /// `size` bytes, all 0. Pages that are never written to cost no memory.
    pub(crate) fn zeroed(size: usize) -> Self {
        let memory = vec![0; size + PAGE];
        let start = memory.as_ptr().align_offset(PAGE).min(PAGE);
        let mut aligned = Self { memory, start };
        aligned.memory.truncate(start + size);
        aligned
    }

    /// Allocates memory for `size` bytes, unless there is memory already.
    pub(crate) fn allocate(&mut self, size: usize) {
        if !self.is_allocated() {
            self.memory.reserve_exact(size + PAGE);
            self.start = self.memory.as_ptr().align_offset(PAGE).min(PAGE);
            self.memory.resize(self.start, 0);
        }
    }

    pub(crate) fn is_allocated(&self) -> bool {
        self.memory.capacity() > 0
    }

    pub(crate) fn len(&self) -> usize {
        self.memory.len() - self.start
    }

    /// Appends bytes.
    ///
    /// # Panics
    /// If the allocated memory has no room for them.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let room = self.memory.capacity() - self.memory.len();
        assert!(bytes.len() <= room, "an aligned buffer never moves");
        self.memory.extend_from_slice(bytes);
    }

    pub(crate) fn clear(&mut self) {
        self.memory.truncate(self.start);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_start_at_a_page_boundary() {
        for size in [1, 4096, 256 * 1024] {
            let mut zeroed = Aligned::zeroed(size);
            assert_eq!(zeroed.bytes_mut().as_ptr() as usize % PAGE, 0);
            assert_eq!(zeroed.bytes(), vec![0; size]);
            let mut filled = Aligned::default();
            filled.allocate(size);
            for _ in 0..2 {
                assert_eq!(filled.len(), 0);
                filled.extend(&vec![7; size]);
                assert_eq!(filled.bytes().as_ptr() as usize % PAGE, 0);
                assert_eq!(filled.bytes(), vec![7; size]);
                filled.clear();
            }
        }
    }
}
