//! Tests from outside, in one binary: over real sockets, and of the real program.
//!
//! They share a process, two or more at a time. A test that changes what belongs to the whole
//! process, such as its limit of descriptors, runs in a process of its own ([`common::alone`]).

mod common;

mod addresses;
mod binary;
mod broadcast;
mod connect;
mod connect_again;
mod connect_datagrams;
mod connect_options;
mod console;
mod echo;
mod extremes;
mod figures;
mod framing;
mod job_control;
mod listeners;
mod load;
mod load_datagrams;
mod load_descriptors;
mod load_fanout;
mod load_faults;
mod load_mismatch;
mod load_modes;
mod load_open_loop;
mod load_overload;
mod log;
mod names;
mod notices;
mod options;
mod pipes;
mod replay;
mod resources;
mod room;
mod services;
mod signals;
mod slow;
mod spin;
mod stopping;
mod systems;
mod table;
mod timeouts;
mod udp;
