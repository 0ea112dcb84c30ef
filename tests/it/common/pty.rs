//! Pseudo-terminals (pty(7)).

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::stdio::{StdinWriter, StdoutReader};

/// The end of input on a terminal: Ctrl-D at the start of a line.
pub(crate) const END: &str = "\x04";

/// A terminal for the standard streams of a program, with the writer of its input and the reader of
/// its output; it hangs up when both are dropped. It works in lines, as it does for a shell, but
/// does not echo its input.
#[track_caller]
pub(crate) fn terminal() -> (File, StdinWriter, StdoutReader) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).expect("there are terminals left");
    grantpt(&ours).expect("it is ours");
    unlockpt(&ours).expect("it is ours");
    let path = ptsname(&ours, Vec::new()).expect("it has a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs: OwnedFd = open(&path, flags, Mode::empty()).expect("it is unlocked");
    let mut settings = tcgetattr(&theirs).expect("it is a terminal");
    settings.local_modes.remove(LocalModes::ECHO);
    let set = tcsetattr(&theirs, OptionalActions::Now, &settings);
    set.expect("it is a terminal");
    let typist = ours.try_clone().expect("there are descriptors");
    (
        theirs.into(),
        StdinWriter::new(typist),
        StdoutReader::new(ours),
    )
}
