//! Time: the seconds since 1900 as a number (RFC 868).

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Needs, Outcome, Service};
use crate::bytes::Slices;
use crate::close::CloseReason;
use crate::peer::Peer;

/// Seconds from 1900 to 1970, both at midnight UTC (RFC 868).
const EPOCH: u64 = 2_208_988_800;

/// The time service (RFC 868): a client is sent the seconds since 1900 UTC as 32 bits, big-endian,
/// and closed; a datagram is answered with them.
///
/// The number wraps: at 2036-02-07 06:28:16 UTC it begins again with 0. RFC 868 says nothing of
/// that; clients have to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Time {
    seconds: [u8; 4],
}

impl Time {
    /// A time service.
    #[must_use]
    pub const fn new() -> Self {
        Self { seconds: [0; 4] }
    }
}

impl Service for Time {
    type Session = ();

    fn needs(&self) -> Needs {
        Needs::default().with_datagrams().with_time()
    }

    fn open(&mut self, _: &Peer<'_>) -> ((), Outcome<'_>) {
        let outcome = Outcome::reply(&self.seconds);
        ((), outcome.then_close(CloseReason::Done))
    }

    fn receive<'a>(&'a mut self, (): &'a mut (), _: &'a [u8]) -> Outcome<'a> {
        Outcome::NOTHING
    }

    fn datagram<'a>(&'a mut self, _: &Peer<'_>, _: &'a [u8]) -> Option<Slices<'a>> {
        Some(self.seconds.as_slice().into())
    }

    fn set_time(&mut self, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let wrapped = since.as_secs().wrapping_add(EPOCH) & u64::from(u32::MAX);
        let seconds = u32::try_from(wrapped).unwrap_or_default();
        self.seconds = seconds.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::Address;
    use crate::peer::tests::peer;
    use std::time::Duration;

    /// The examples of RFC 868, and the wrap.
    #[test]
    fn seconds_since_1900_which_begin_again_in_2036() {
        let mut service = Time::new();
        for (unix, told) in [
            (0, 2_208_988_800_u32),
            (315_532_800, 2_524_521_600),
            (420_595_200, 2_629_584_000),
            (2_085_978_495, u32::MAX),
            (2_085_978_496, 0),
        ] {
            service.set_time(UNIX_EPOCH + Duration::from_secs(unix));
            let ((), outcome) = service.open(&peer(&Address::Stdin));
            assert_eq!(outcome.reply.to_vec(), told.to_be_bytes());
        }
    }
}
