//! Memory: two slices as one text, and buffers that bulk is read into.

pub(crate) mod aligned;
mod slices;

pub use slices::Slices;
