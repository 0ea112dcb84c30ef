//! Standard input and output as streams that never block.
//!
//! `O_NONBLOCK` belongs to the open file description (open(2)), which other processes share, such as
//! the shell: it must not change for them. On Linux, pipes and terminals are opened a second time,
//! and that description is not shared. Otherwise poll(2) is called before each read or write, and
//! each write is short.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::stdio;

use super::stream::Stream;

/// Bytes that a writable pipe takes at least (`PIPE_BUF` in pipe(7)).
const ATOMIC: usize = 4096;

/// One of the two standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Input,
    Output,
}

/// A standard stream. Dropping it closes it in this process, which its other end notices.
#[derive(Debug)]
pub(crate) struct Pipe {
    file: File,
    direction: Direction,
    /// True if a call may block: poll(2) is called before.
    blocks: bool,
}

impl Pipe {
    /// Opens a standard stream. From then on nothing else in this process may use it.
    pub(crate) fn open(direction: Direction) -> io::Result<Self> {
        let standard: BorrowedFd<'_> = match direction {
            Direction::Input => stdio::stdin(),
            Direction::Output => stdio::stdout(),
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(standard)?.st_mode);
        let shared = kind == FileType::Fifo || rustix::termios::isatty(standard);
        if shared && let Some(file) = reopen(direction) {
            replace(direction, &file)?; // closes the shared one
            return Ok(Self {
                file,
                direction,
                blocks: false,
            });
        }
        Ok(Self {
            file: File::from(standard.try_clone_to_owned()?),
            direction,
            blocks: kind != FileType::RegularFile,
        })
    }

    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// The events that hold now: of the wanted ones, and hang-ups and errors (poll(2)).
    fn poll(&self, wanted: PollFlags) -> io::Result<PollFlags> {
        let mut fds = [PollFd::new(&self.file, wanted)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&now))?;
        Ok(fds[0].revents())
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check(PollFlags::OUT)?;
        let most = if self.blocks { ATOMIC } else { bytes.len() };
        self.file.write(&bytes[..bytes.len().min(most)])
    }

    /// Fails with `WouldBlock` if a call would block.
    fn check(&self, wanted: PollFlags) -> io::Result<()> {
        if self.blocks && self.poll(wanted)?.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }
}

/// Replaces a standard stream by another file (dup2(2)).
fn replace(direction: Direction, by: &File) -> io::Result<()> {
    match direction {
        Direction::Input => stdio::dup2_stdin(by)?,
        Direction::Output => stdio::dup2_stdout(by)?,
    }
    Ok(())
}

/// Opens a pipe or a terminal a second time, without blocking.
fn reopen(direction: Direction) -> Option<File> {
    if !cfg!(target_os = "linux") {
        return None; // on other systems it would be the same description
    }
    let mut options = OpenOptions::new();
    let path = match direction {
        Direction::Input => {
            options.read(true);
            "/proc/self/fd/0"
        }
        Direction::Output => {
            options.write(true);
            "/proc/self/fd/1"
        }
    };
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits().cast_signed());
    options.open(path).ok()
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.direction {
            Direction::Input => {
                self.check(PollFlags::IN)?;
                self.file.read(buffer)
            }
            // There is no input, but the reader may have closed its end.
            Direction::Output if self.poll(PollFlags::empty())?.is_empty() => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Direction::Output => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Write for Pipe {
    /// Writes until all bytes are written or the kernel takes no more: a short write means the latter,
    /// as with a socket.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.write_some(&bytes[written..]) {
                Ok(0) => break,
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && written > 0 => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(written)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut written = 0;
        for slice in slices {
            match self.write(slice) {
                Ok(n) if n < slice.len() => return Ok(written + n),
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && written > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Pipe {
    /// A read from a terminal returns one line, and one from a file always something.
    fn short_read_drains(&self) -> bool {
        false
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reset_on_close(&mut self) {}

    fn is_one_way(&self) -> bool {
        true
    }
}

impl AsRawFd for Pipe {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null");
        let _ = null.and_then(|null| replace(self.direction, &null));
    }
}
