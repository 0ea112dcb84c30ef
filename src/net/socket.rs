//! Connected sockets and the standard streams as one kind of stream.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::{TcpStream, UnixStream};
use socket2::SockRef;

use super::pipe::Pipe;
use super::stream::Stream;

/// A connected TCP or Unix socket, or one of the standard streams.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Pipe(Pipe),
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Pipe(pipe) => pipe.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Pipe(pipe) => pipe.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(slices),
            Self::Unix(stream) => stream.write_vectored(slices),
            Self::Pipe(pipe) => pipe.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    /// On Unix sockets reads also stop where descriptors were passed (unix(7), `SCM_RIGHTS`).
    fn short_read_drains(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Pipe(pipe) => pipe.shutdown_write(),
        }
    }

    fn reset_on_close(&mut self) {
        // If it fails, the peer sees an ordinary end.
        let _ = match self {
            Self::Tcp(stream) => SockRef::from(&*stream).set_linger(Some(Duration::ZERO)),
            // Neither can be reset.
            Self::Unix(_) | Self::Pipe(_) => Ok(()),
        };
    }

    /// The connection is closed once the peer has acknowledged the end of output (RFC 9293, LAST-ACK);
    /// what is written to a Unix socket is with the peer at once.
    fn is_delivered(&mut self) -> io::Result<bool> {
        let Self::Tcp(stream) = self else {
            return Ok(true);
        };
        let is_open = stream.shutdown(Shutdown::Write).is_ok();
        self.check_connection()?;
        Ok(!is_open)
    }

    fn check_connection(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.take_error()?.map_or(Ok(()), Err),
            Self::Unix(_) | Self::Pipe(_) => Ok(()),
        }
    }

    fn is_one_way(&self) -> bool {
        matches!(self, Self::Pipe(_))
    }
}
