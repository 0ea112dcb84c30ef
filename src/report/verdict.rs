//! Whether a load has come to what was wanted.

use std::time::Duration;

use resound::load::{Fault, Faults, LoadEnd, LoadOutcome};

use crate::units::{count, duration, latency, rate, seconds};

/// What a load has to come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) max_p99: Option<Duration>,
    pub(crate) min_rate: Option<u64>,
}

/// Why it is a failure, one line each; none if it isn't.
pub(crate) fn reasons(outcome: &LoadOutcome, limits: &Limits) -> Vec<String> {
    let mut reasons = complaints(&outcome.faults);
    if outcome.end == LoadEnd::Abandoned {
        let time = seconds(outcome.elapsed);
        reasons.push(format!("no client was left after {time}"));
    }
    if outcome.counts.messages == 0 && outcome.end == LoadEnd::Interrupted {
        return reasons; // nobody has waited for anything
    }
    if outcome.counts.messages == 0 {
        // Nothing can be said of its rate and its latency.
        reasons.push("nothing was measured: no message has arrived".to_owned());
        return reasons;
    }
    reasons.extend(limits.unmet(outcome));
    reasons
}

impl Limits {
    /// What the outcome doesn't come to.
    fn unmet(&self, outcome: &LoadOutcome) -> Vec<String> {
        let mut unmet = Vec::new();
        let p99 = outcome.counts.latency.value_at_quantile(0.99);
        if let Some(most) = self.max_p99.filter(|m| Duration::from_nanos(p99) > *m) {
            let (p99, most) = (latency(p99), duration(most));
            unmet.push(format!("p99 {p99} is above --max-p99 {most}"));
        }
        let achieved = outcome.per_second(outcome.counts.messages);
        if let Some(least) = self.min_rate.filter(|least| is_below(achieved, *least)) {
            let achieved = rate(achieved);
            unmet.push(format!(
                "{achieved} messages/s are below --min-rate {least}"
            ));
        }
        unmet
    }
}

#[expect(clippy::cast_precision_loss, reason = "no rate has so many digits")]
fn is_below(achieved: f64, least: u64) -> bool {
    achieved < least as f64
}

/// A line for each kind of what has gone wrong.
fn complaints(faults: &Faults) -> Vec<String> {
    // The cause is that of the first connection, whichever way it was lost.
    let mut cause = faults.cause();
    let happened = Fault::ALL.iter().filter(|f| faults.count(**f) > 0);
    happened
        .map(|fault| {
            let n = faults.count(*fault);
            let line = complaint(*fault, n);
            let cause = is_of_connections(*fault).then(|| cause.take()).flatten();
            match (cause, n) {
                (Some(cause), 1) => format!("{line}: {cause}"),
                (Some(cause), _) => format!("{line}, the first: {cause}"),
                (None, _) => line,
            }
        })
        .collect()
}

/// Whether it befalls a connection and not a message.
fn is_of_connections(fault: Fault) -> bool {
    matches!(fault, Fault::Refused | Fault::Closed | Fault::Reset)
}

fn complaint(fault: Fault, n: u64) -> String {
    let (one, many) = match fault {
        Fault::Refused => (" could not be opened", " could not be opened"),
        Fault::Closed => (
            " was closed by the server before its time",
            " were closed by the server before their time",
        ),
        Fault::Reset => (" has failed", " have failed"),
        Fault::Lost => (" was lost", " were lost"),
        Fault::Unanswered => (" was never answered", " were never answered"),
        Fault::Doubled => (" came twice", " came twice"),
        Fault::Disordered => (" came after later ones", " came after later ones"),
        Fault::Corrupt => (" came back changed", " came back changed"),
        Fault::Stray => (" came that nobody had sent", " came that nobody had sent"),
    };
    let what = if is_of_connections(fault) {
        "connection"
    } else {
        "message"
    };
    match n {
        1 => format!("1 {what}{one}"),
        n => format!("{} {what}s{many}", count(n)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn what_went_well_has_no_reasons() {
        let outcome = sample::outcome();
        let none: Vec<String> = Vec::new();
        assert_eq!(reasons(&outcome, &Limits::default()), none);
        let limits = Limits {
            max_p99: Some(Duration::from_millis(4)),
            min_rate: Some(100_000),
        };
        assert_eq!(reasons(&outcome, &limits), none);
    }

    #[test]
    fn who_ends_it_early_gets_what_there_is() {
        let mut outcome = sample::outcome();
        outcome.end = LoadEnd::Interrupted;
        assert!(reasons(&outcome, &Limits::default()).is_empty());
    }

    #[test]
    fn too_slow_is_a_failure() {
        let limits = Limits {
            max_p99: Some(Duration::from_micros(1500)),
            min_rate: Some(200_000),
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
    fn whatever_goes_wrong_is_a_failure_and_has_its_line() {
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
            (Fault::Doubled, "1 message came twice"),
            (Fault::Disordered, "1 message came after later ones"),
            (Fault::Corrupt, "1 message came back changed"),
            (Fault::Stray, "1 message came that nobody had sent"),
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
                "1 message came that nobody had sent"
            ]
        );
    }

    #[test]
    fn nothing_at_all_is_a_failure() {
        let mut outcome = sample::outcome();
        outcome.counts = sample::nothing();
        outcome.end = LoadEnd::Abandoned;
        let limits = Limits {
            max_p99: None,
            min_rate: Some(1),
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
