//! Pieces of memory.

pub(crate) mod aligned;
pub(crate) mod slices;
