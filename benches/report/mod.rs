//! Reports of the results: tables, and a chapter of the README.

#![allow(dead_code, reason = "no bench uses all of it")]

pub(crate) mod chapter;
pub(crate) mod memory;
pub(crate) mod results;
pub(crate) mod table;
