//! A test in a process of its own: the test binary, started again for this test.

use std::env;
use std::process::Command;

/// The variable that tells the test binary that it was started for one test.
const ALONE: &str = "RESOUND_TEST_ALONE";

/// Runs `test` in a process of its own, because it changes a property of the whole process. `name` is
/// the full name of the test that calls this.
#[track_caller]
pub(crate) fn alone(name: &str, test: fn()) {
    if env::var_os(ALONE).is_some() {
        return test();
    }
    let binary = env::current_exe().expect("the system knows the test binary");
    let mut command = Command::new(binary);
    command
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, "1");
    let output = command.output().expect("it starts");
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|o| String::from_utf8_lossy(&o).into_owned());
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(
        stdout.contains("1 passed"),
        "there is no test {name}: {stdout}{stderr}"
    );
}
