//! The figures of the newest run of the benches: printed, and with `--write` put into the README.

mod report;

use std::env;
use std::fs;
use std::process::ExitCode;

use report::chapter::{Machine, newest_run, render, replace};
use report::memory::Counted;
use report::results;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

fn main() -> ExitCode {
    match figures() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("figures: {why}");
            ExitCode::FAILURE
        }
    }
}

fn figures() -> Result<(), String> {
    let directory = results::directory();
    let measured = newest_run(results::read_rounds(&directory), results::read(&directory));
    let memory = Counted::read(&directory);
    let chapter = render(&Machine::this(), &measured, memory.as_ref())
        .map_err(|why| format!("{why} in {}; `make bench` makes them", directory.display()))?;
    print(&chapter);
    if env::args().any(|argument| argument == "--write") {
        let readme = fs::read_to_string(README).map_err(|e| format!("{README}: {e}"))?;
        let readme = replace(&readme, &chapter).ok_or("the README has no place for them")?;
        fs::write(README, readme).map_err(|e| format!("{README}: {e}"))?;
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the figures are the data")]
fn print(text: &str) {
    print!("{text}");
}
