//! The load tester where there are fewer descriptors than clients. It stands alone: the limit is the
//! whole process's.

mod common;

use std::net::TcpListener;

use common::loading::{failure, load};
use resound::load::Load;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn clients_beyond_the_limit_of_descriptors_are_one_clear_error() {
    // Nobody accepts: the backlog has room for more than there are descriptors.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let limit = Rlimit {
        current: Some(64),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let crowd = Load {
        clients: 1000,
        ..load(listener.local_addr().unwrap())
    };
    let line = failure(&crowd);
    assert_eq!(
        line,
        "cannot open 1000 connections: too many open files (ulimit -n)"
    );
}
