//! The results of the load tester, for people and for machines.
//!
//! | file | holds |
//! |---|---|
//! | `progress.rs`, `bar.rs` | a bar or lines on standard error, while it runs |
//! | `table.rs`, `bars.rs` | the results for people: a table and a histogram |
//! | `json.rs`, `hdr.rs` | the results for machines: one JSON object, an `HdrHistogram` log |
//! | `verdict.rs` | the reasons for which a run is a failure |

mod bar;
mod bars;
mod hdr;
pub(crate) mod json;
mod progress;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod schema;
pub(crate) mod table;
mod verdict;

pub(crate) use hdr::HdrLog;
pub(crate) use progress::Progress;
pub(crate) use verdict::{Limits, reasons};
