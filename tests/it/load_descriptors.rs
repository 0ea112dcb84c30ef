//! The load tester where there are fewer descriptors than clients.

use std::net::TcpListener;

use crate::common::alone::alone;
use crate::common::loading::{failure, load};
use crate::common::with;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn clients_beyond_the_limit_of_descriptors_are_one_clear_error() {
    let name = "load_descriptors::clients_beyond_the_limit_of_descriptors_are_one_clear_error";
    alone(name, load_more_clients_than_descriptors);
}

#[track_caller]
fn load_more_clients_than_descriptors() {
    // No connection is accepted: the accept queue has room for more than there are descriptors.
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let limit = Rlimit {
        current: Some(64),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).expect("a lower limit is allowed");
    let crowd = with(load(listener.local_addr().expect("it is bound")), |load| {
        load.clients = 1000;
    });
    let line = failure(&crowd);
    assert_eq!(
        line,
        "cannot open 1000 connections: too many open files (ulimit -n)"
    );
}
