//! Standard input and output as streams that never block.
//!
//! `O_NONBLOCK` belongs to the open file description (open(2)), which other processes share, such as
//! the shell: it must not change for them. On Linux, pipes and terminals are opened a second time,
//! and that description is not shared. Otherwise poll(2) is called before each read or write, and
//! each write is short.
//!
//! A terminal is shared with other jobs of its shell. While another one is in front, its input is that
//! job's: reading would stop this process, or fails if the process can't be stopped so
//! ([`block_terminal_stops`](super::signals::block_terminal_stops)).

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::stdio;

#[cfg(target_os = "linux")]
use super::retry::RetryTimer;
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
    /// Set for the input of a terminal: input that waits while another job is in front is tried
    /// again. Elsewhere the next event tells that the terminal is back.
    #[cfg(target_os = "linux")]
    retry: Option<RetryTimer>,
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
            return Self::new(file, direction, false);
        }
        let file = File::from(standard.try_clone_to_owned()?);
        Self::new(file, direction, kind != FileType::RegularFile)
    }

    fn new(file: File, direction: Direction, blocks: bool) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let is_typed = direction == Direction::Input && rustix::termios::isatty(&file);
        Ok(Self {
            #[cfg(target_os = "linux")]
            retry: is_typed.then(RetryTimer::new).transpose()?,
            file,
            direction,
            blocks,
        })
    }

    /// The timer whose readiness means that the input is to be tried again, if there is one.
    #[cfg(target_os = "linux")]
    pub(super) fn retry_timer(&self) -> Option<RawFd> {
        self.retry.as_ref().map(AsRawFd::as_raw_fd)
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

    fn read_input(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check(PollFlags::IN)?;
        let result = self.file.read(buffer);
        match result {
            Err(e) if self.is_in_background(&e)? => Err(io::ErrorKind::WouldBlock.into()),
            result => result,
        }
    }

    /// True if an error of reading means that another job is in front of this terminal, which is
    /// still there (`EIO` in termios(3)). Input that waits is then tried again after a pause.
    fn is_in_background(&self, error: &io::Error) -> io::Result<bool> {
        let failed = Errno::from_io_error(error) == Some(Errno::IO);
        // That fails unless it is the terminal that controls this process.
        if !failed || rustix::termios::tcgetpgrp(&self.file).is_err() {
            return Ok(false);
        }
        let events = self.poll(PollFlags::IN)?;
        #[cfg(target_os = "linux")]
        if events.contains(PollFlags::IN)
            && let Some(retry) = &self.retry
        {
            retry.start()?;
        }
        Ok(!events.contains(PollFlags::HUP))
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
            Direction::Input => self.read_input(buffer),
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
