//! tokio on one thread, a task a client. For broadcast its channel of that name, which carries the
//! lines of a read in one piece; a client that is too far behind misses some and goes on.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{self, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::broadcast::{self, error::RecvError};

use super::child::{datagram_socket, exit_at_end, listener};
use super::kind::Kind;

/// Eight times as much as `tokio::io::copy` takes at a time: less is slower in bulk and in floods,
/// more makes no difference.
const BUFFER: usize = 64 * 1024;

/// Pieces that the channel holds.
const PIECES: usize = 1024;

pub(super) fn serve(kind: Kind) {
    exit_at_end();
    let runtime = Builder::new_current_thread().enable_io().build();
    let runtime = runtime.expect("there is a poll");
    let served = runtime.block_on(async {
        match kind {
            Kind::Datagrams => datagrams().await,
            Kind::Broadcast | Kind::Skipping => room(listener()).await,
            Kind::Echo | Kind::Discard | Kind::Chargen => clients(listener()).await,
        }
    });
    served.expect("accepting doesn't fail");
}

fn asynchronous(listener: TcpListener) -> io::Result<net::TcpListener> {
    listener.set_nonblocking(true)?;
    net::TcpListener::from_std(listener)
}

async fn clients(listener: TcpListener) -> io::Result<()> {
    let listener = asynchronous(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(echo(client));
    }
}

async fn echo(mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match client.read(&mut buffer).await? {
            0 => return Ok(()),
            n => client.write_all(&buffer[..n]).await?,
        }
    }
}

/// Lines, and whose they are.
type Piece = (usize, Arc<[u8]>);

async fn room(listener: TcpListener) -> io::Result<()> {
    let listener = asynchronous(listener)?;
    let (sender, _) = broadcast::channel(PIECES);
    for number in 0.. {
        let (client, _) = listener.accept().await?;
        tokio::spawn(join(number, client, sender.clone()));
    }
    Ok(())
}

async fn join(
    number: usize,
    mut client: TcpStream,
    sender: broadcast::Sender<Piece>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (mut input, mut output) = client.split();
    let mut pieces = sender.subscribe();
    let mut buffer = vec![0; BUFFER];
    // Bytes at the start of the buffer that begin a line.
    let mut kept = 0;
    loop {
        tokio::select! {
            read = input.read(&mut buffer[kept..]) => {
                let end = kept + match read? {
                    0 => return Ok(()),
                    n => n,
                };
                let lines = memchr::memrchr(b'\n', &buffer[..end]).map_or(0, |newline| newline + 1);
                if lines > 0 {
                    let _ = sender.send((number, buffer[..lines].into()));
                }
                buffer.copy_within(lines..end, 0);
                kept = end - lines;
            }
            piece = pieces.recv() => match piece {
                Ok((from, lines)) if from != number => output.write_all(&lines).await?,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }
}

async fn datagrams() -> io::Result<()> {
    let socket = datagram_socket();
    socket.set_nonblocking(true)?;
    let socket = net::UdpSocket::from_std(socket)?;
    let mut buffer = vec![0; 65536];
    loop {
        let (n, from) = socket.recv_from(&mut buffer).await?;
        socket.send_to(&buffer[..n], from).await?;
    }
}
