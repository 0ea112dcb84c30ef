//! Memory: two slices that are read as one, and buffers that start at a page boundary.

pub(crate) mod aligned;
mod slices;

pub use slices::Slices;
