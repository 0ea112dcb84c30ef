//! The benches, in one binary: over real sockets, beside other servers. `figures` is another one.

mod broadcast;
mod bulk;
mod common;
mod echo;
mod memory;
mod peers;
mod report;
mod udp;

use std::process::ExitCode;

use common::server::was_server;

fn main() -> ExitCode {
    if let Some(code) = was_server() {
        return code;
    }
    common::measure(&[broadcast::BENCH, bulk::BENCH, echo::BENCH, udp::BENCH]);
    memory::run();
    ExitCode::SUCCESS
}
