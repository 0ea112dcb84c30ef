//! Names that peers, files, variables and arguments choose, in what a terminal shows.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

use crate::common::Folder;
use crate::common::program::{Ended, Program, run};
use crate::common::stdio::output_pipe;
use std::process::Stdio;

/// A name that sets the title of a terminal's window, and forges a line.
const NAME: &str = "\x1b]0;owned\x07\n[forged] \u{9b}2J\u{202e}";

#[track_caller]
fn assert_safe(text: &str) {
    let obeyed = |c: char| c != '\n' && c != '\t' && c.is_control() || c == '\u{202e}';
    assert!(!text.contains(obeyed), "{text:?}");
    assert!(
        !text.lines().any(|line| line.starts_with("[forged]")),
        "{text:?}"
    );
}

#[test]
fn name_of_a_unix_client_drives_no_terminal() {
    for option in ["--show", "--console"] {
        let folder = Folder::new();
        let (mut shown, out) = output_pipe();
        let (stdin, _keeps_open) = std::io::pipe().unwrap();
        let listen = folder.unixgram("server");
        let args = ["reply", "to {peer}", option, "-vv", "-l", &listen];
        let program = Program::start_on(&args, Stdio::from(stdin), out);
        let client = UnixDatagram::bind(folder.path(NAME)).unwrap();
        client.send_to(b"hello", folder.path("server")).unwrap();
        let mut answer = [0; 500];
        let length = client.recv(&mut answer).unwrap();
        assert_safe(std::str::from_utf8(&answer[..length]).unwrap());
        let line = shown.line();
        assert!(
            line.contains("owned") && line.ends_with(": hello"),
            "{line:?}"
        );
        assert_safe(&line);
        let ended = program.terminate();
        assert_safe(&ended.log.join("\n"));
    }
}

/// Values of which each is quoted in an error or a warning.
#[test]
fn arguments_and_variables_drive_no_terminal() {
    let complaint = |ended: &Ended| {
        assert_safe(&ended.log.join("\n"));
        assert!(ended.log.iter().all(|line| !line.is_empty()), "{ended:?}");
    };
    let folder = Folder::new();
    let missing = folder.path(NAME).join("file");
    let missing = std::str::from_utf8(missing.as_os_str().as_bytes()).unwrap();
    let unix = format!("unix:{missing}");
    let option = format!("--{NAME}");
    let template = format!("{{{NAME}}}");
    let variable = format!("{{env:{NAME}}}");
    let host = format!("{NAME}:7000");
    for args in [
        &["echo", "-l", &unix][..],
        &["echo", "-l", NAME],
        &["echo", "-l", &host],
        &["connect", &unix],
        &["connect", "--source", NAME, "7000"],
        &["load", &unix],
        &["load", "--hdr", missing, &unix],
        &["echo", &option],
        &["echo", "--encoding", NAME],
        &["echo", "--greeting", &template],
        &["echo", "--greeting", &variable],
        &["broadcast", "--tag-format", &template],
        &["echo", "--bind-device", NAME],
        &[NAME],
    ] {
        let ended = run(args);
        assert!(ended.code != Some(0), "{args:?}");
        complaint(&ended);
    }
    let level = format!("resound={NAME}");
    for (variable, value) in [("TZ", NAME), ("RUST_LOG", &level)] {
        let args = ["daytime", "-l", "127.0.0.1:0"];
        let program = Program::start_with(&[(variable, value)], &args);
        program.will_have_logged("ready");
        complaint(&program.terminate());
    }
    let script = r#"exec -a "$NAME" "$0" "$@""#;
    let mut command = std::process::Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_resound")]);
    command.env("NAME", NAME);
    if let Ok(output) = command.output() {
        assert_safe(&String::from_utf8_lossy(&output.stderr));
    }
}
