//! The verdict on a load: the reasons for which it is a failure.

use std::time::Duration;

use resound::load::{Fault, Faults, LoadEnd, LoadOutcome, Rate};

use crate::units::{count, duration, latency, rate, rate_given, seconds};

/// The limits that a load must meet: `--max-p99`, `--min-rate`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) max_p99: Option<Duration>,
    pub(crate) min_rate: Option<Rate>,
}

/// The reasons for a failure, a line each; none after a success.
pub(crate) fn reasons(outcome: &LoadOutcome, limits: &Limits) -> Vec<String> {
    let mismatch = outcome.mismatch.iter().map(ToString::to_string);
    let mut reasons: Vec<String> = mismatch.collect();
    reasons.extend(error_lines(&outcome.faults));
    if outcome.end == LoadEnd::Abandoned {
        let time = seconds(outcome.elapsed);
        reasons.push(format!("no client was left after {time}"));
    }
    if outcome.counts.messages == 0 && outcome.end == LoadEnd::Interrupted {
        return reasons; // it ended before the first message could return
    }
    if outcome.counts.messages == 0 {
        // Without a message neither a rate nor a latency is known.
        reasons.push("nothing was measured: no message has arrived".to_owned());
        return reasons;
    }
    reasons.extend(limits.unmet(outcome));
    reasons
}

impl Limits {
    /// A line for each limit that the outcome does not meet.
    fn unmet(&self, outcome: &LoadOutcome) -> Vec<String> {
        let mut unmet = Vec::new();
        let p99 = outcome.counts.latency.value_at_quantile(0.99);
        if let Some(most) = self.max_p99.filter(|m| Duration::from_nanos(p99) > *m) {
            let (p99, most) = (latency(p99), duration(most));
            unmet.push(format!("p99 {p99} is above --max-p99 {most}"));
        }
        let achieved = outcome.per_second(outcome.counts.messages);
        if let Some(least) = self.min_rate.filter(|least| achieved < least.per_second()) {
            let (achieved, least) = (rate(achieved), rate_given(least));
            unmet.push(format!(
                "{achieved} messages/s are below --min-rate {least}"
            ));
        }
        unmet
    }
}

/// A line for each kind of error.
fn error_lines(faults: &Faults) -> Vec<String> {
    // There is one cause, that of the first connection lost; it goes into the first line it fits.
    let mut cause = faults.cause();
    let happened = Fault::ALL.iter().filter(|f| faults.count(**f) > 0);
    happened
        .map(|fault| {
            let n = faults.count(*fault);
            let line = error_line(*fault, n);
            let cause = is_of_connections(*fault).then(|| cause.take()).flatten();
            match (cause, n) {
                (Some(cause), 1) => format!("{line}: {cause}"),
                (Some(cause), _) => format!("{line}, the first: {cause}"),
                (None, _) => line,
            }
        })
        .collect()
}

/// True if a connection has this fault and not a message.
fn is_of_connections(fault: Fault) -> bool {
    matches!(fault, Fault::Refused | Fault::Closed | Fault::Reset)
}

fn error_line(fault: Fault, n: u64) -> String {
    let (one, many) = match fault {
        Fault::Refused => (" could not be opened", " could not be opened"),
        Fault::Closed => (
            " was closed by the server before its time",
            " were closed by the server before their time",
        ),
        Fault::Reset => (" has failed", " have failed"),
        Fault::Lost => (" was lost", " were lost"),
        Fault::Unanswered => (" was never answered", " were never answered"),
        Fault::Doubled => (" arrived twice", " arrived twice"),
        Fault::Disordered => (" arrived after later ones", " arrived after later ones"),
        Fault::Corrupt => (" returned changed", " returned changed"),
        Fault::Stray => (
            " arrived without having been sent",
            " arrived without having been sent",
        ),
    };
    let noun = if is_of_connections(fault) {
        "connection"
    } else {
        "message"
    };
    match n {
        1 => format!("1 {noun}{one}"),
        n => format!("{} {noun}s{many}", count(n)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use resound::load::{Mismatch, MismatchKind};

    #[test]
    fn a_success_has_no_reasons() {
        let outcome = sample::outcome();
        let none: Vec<String> = Vec::new();
        assert_eq!(reasons(&outcome, &Limits::default()), none);
        let limits = Limits {
            max_p99: Some(Duration::from_millis(4)),
            min_rate: Some(100_000.into()),
        };
        assert_eq!(reasons(&outcome, &limits), none);
    }

    #[test]
    fn an_early_end_is_no_failure() {
        let mut outcome = sample::outcome();
        outcome.end = LoadEnd::Interrupted;
        assert!(reasons(&outcome, &Limits::default()).is_empty());
    }

    #[test]
    fn a_missed_limit_is_a_failure() {
        let limits = Limits {
            max_p99: Some(Duration::from_micros(1500)),
            min_rate: Some(200_000.into()),
        };
        assert_eq!(
            reasons(&sample::outcome(), &limits),
            [
                "p99 3.20ms is above --max-p99 1ms 500us",
                "182,331 messages/s are below --min-rate 200000",
            ]
        );
    }

    #[test]
    fn each_error_is_a_failure_with_a_line() {
        let mut outcome = sample::outcome();
        for (fault, line) in [
            (Fault::Refused, "1 connection could not be opened"),
            (
                Fault::Closed,
                "1 connection was closed by the server before its time",
            ),
            (Fault::Reset, "1 connection has failed"),
            (Fault::Lost, "1 message was lost"),
            (Fault::Unanswered, "1 message was never answered"),
            (Fault::Doubled, "1 message arrived twice"),
            (Fault::Disordered, "1 message arrived after later ones"),
            (Fault::Corrupt, "1 message returned changed"),
            (Fault::Stray, "1 message arrived without having been sent"),
        ] {
            outcome.faults = Faults::default();
            outcome.faults.add(fault, 1);
            assert_eq!(reasons(&outcome, &Limits::default()), [line]);
        }
        outcome.faults.add(Fault::Lost, 1200);
        assert_eq!(
            reasons(&outcome, &Limits::default()),
            [
                "1,200 messages were lost",
                "1 message arrived without having been sent"
            ]
        );
    }

    #[test]
    fn server_of_another_kind_is_named_first() {
        let mut outcome = sample::outcome();
        outcome.faults.add(Fault::Corrupt, 50);
        outcome.mismatch = Some(Mismatch {
            kind: MismatchKind::Greets,
            first: b"220 ready\r\n".to_vec(),
        });
        assert_eq!(
            reasons(&outcome, &Limits::default()),
            [
                r"the server greets: its first bytes were '220 ready\r\n'",
                "50 messages returned changed"
            ]
        );
    }

    #[test]
    fn a_load_without_messages_is_a_failure() {
        let mut outcome = sample::outcome();
        outcome.counts = sample::nothing();
        outcome.end = LoadEnd::Abandoned;
        let limits = Limits {
            max_p99: None,
            min_rate: Some(1.into()),
        };
        assert_eq!(
            reasons(&outcome, &limits),
            [
                "no client was left after 10.0s",
                "nothing was measured: no message has arrived"
            ]
        );
    }
}
