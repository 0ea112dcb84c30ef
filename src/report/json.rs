//! The results as JSON, for machines.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use resound::load::{
    Counts, Fault, Faults, Interval, Latencies, Load, LoadEnd, LoadMode, LoadOutcome, Rate,
};
use serde_json::{Map, Value, json};

use super::table::has_depth;

/// The results as one object on one line; without an outcome the figures are null. `reasons` are
/// those of a failure.
pub(crate) fn text(
    load: &Load,
    outcome: Option<&LoadOutcome>,
    intervals: &[Value],
    reasons: &[String],
) -> String {
    let figure = |of: fn(&LoadOutcome) -> Value| outcome.map(of);
    let count = |of: fn(&Counts) -> u64| outcome.map(|outcome| of(&outcome.counts));
    let per_second = |of: fn(&Counts) -> u64| {
        outcome.map(|outcome| rounded(outcome.per_second(of(&outcome.counts))))
    };
    let object = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "mode": load.mode.name(),
        "address": load.to.to_string(),
        "started": figure(|outcome| started(outcome.started)),
        "seconds": figure(|outcome| rounded(outcome.elapsed.as_secs_f64()).into()),
        "end": figure(|outcome| end_name(outcome.end).into()),
        "settings": settings(load),
        "clients": figure(|outcome| outcome.clients.into()),
        "messages": count(|counts| counts.messages),
        "deliveries": count(|counts| counts.deliveries),
        "bytes": count(|counts| counts.bytes),
        "messages_per_second": per_second(|counts| counts.messages),
        "deliveries_per_second": per_second(|counts| counts.deliveries),
        "bytes_per_second": per_second(|counts| counts.bytes),
        "latency_us": figure(|outcome| quantiles(&outcome.counts.latency)),
        "first_receiver_us": figure(|outcome| quantiles(&outcome.counts.first)),
        "connect_us": figure(|outcome| quantiles(&outcome.counts.connect)),
        "errors": figure(|outcome| errors(&outcome.faults)),
        "slow": {
            "clients": load.slow,
            "closed": figure(|outcome| outcome.slow_closed.into()),
        },
        "intervals": intervals,
        "passed": reasons.is_empty(),
        "reasons": reasons,
    });
    format!("{object}\n")
}

/// The object of one interval.
pub(crate) fn interval(interval: &Interval) -> Value {
    let counts = &interval.counts;
    let latency = |quantile| {
        let some = !counts.latency.is_empty();
        some.then(|| micros(counts.latency.value_at_quantile(quantile)))
    };
    json!({
        "from": rounded(interval.from.as_secs_f64()),
        "seconds": rounded(interval.length.as_secs_f64()),
        "warmup": interval.warmup,
        "messages": counts.messages,
        "deliveries": counts.deliveries,
        "bytes": counts.bytes,
        "p50_us": latency(0.5),
        "p99_us": latency(0.99),
        "max_us": latency(1.0),
        "errors": interval.faults.total(),
    })
}

/// A time of day in UTC (RFC 3339).
fn started(time: SystemTime) -> Value {
    let time = Timestamp::try_from(time).ok();
    time.map(|time| time.to_string()).into()
}

fn end_name(end: LoadEnd) -> &'static str {
    match end {
        LoadEnd::Duration => "duration",
        LoadEnd::Interrupted => "interrupted",
        LoadEnd::Abandoned => "abandoned",
    }
}

/// The settings of the load.
fn settings(load: &Load) -> Value {
    let depth = Some(load.depth).filter(|depth| has_depth(load.mode) && *depth < usize::MAX);
    let is_fanout = load.mode == LoadMode::Fanout;
    json!({
        "clients": (!is_fanout).then_some(load.clients),
        "subscribers": is_fanout.then_some(load.clients),
        "publishers": is_fanout.then_some(load.publishers),
        "slow": load.slow,
        "size": load.size,
        "depth": depth,
        "rate": load.rate.map(per_second),
        "connect_rate": load.connect_rate.map(per_second),
        "duration": rounded(load.duration.as_secs_f64()),
        "warmup": rounded(load.warmup.as_secs_f64()),
        "timeout": rounded(load.timeout.as_secs_f64()),
        "interval": rounded(load.interval.as_secs_f64()),
        "verify": load.verify,
        "spin": load.spin,
    })
}

/// A rate per second: a whole number if it is one.
fn per_second(rate: Rate) -> Value {
    if rate.per == Duration::from_secs(1) {
        return rate.count.into();
    }
    rate.per_second().into()
}

/// Latencies in microseconds; null without any.
fn quantiles(latencies: &Latencies) -> Value {
    if latencies.is_empty() {
        return Value::Null;
    }
    let at = |quantile| micros(latencies.value_at_quantile(quantile));
    json!({
        "count": latencies.len(),
        "min": micros(latencies.min()),
        "mean": rounded(latencies.mean() / 1000.0),
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p99_9": at(0.999),
        "max": micros(latencies.max()),
    })
}

fn errors(faults: &Faults) -> Value {
    let kinds = Fault::ALL.iter();
    let kinds = kinds.map(|kind| (kind.name().to_owned(), faults.count(*kind).into()));
    let mut errors: Map<String, Value> = kinds.collect();
    errors.insert("total".to_owned(), faults.total().into());
    errors.insert("cause".to_owned(), faults.cause().into());
    errors.into()
}

#[expect(clippy::cast_precision_loss, reason = "an hour in ns is below 2^53")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

/// A number with three decimals.
fn rounded(n: f64) -> f64 {
    (n * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::super::schema::check;
    use super::*;

    /// The printed text, checked against the schema and parsed.
    #[track_caller]
    fn read_back<'a>(
        load: &Load,
        outcome: impl Into<Option<&'a LoadOutcome>>,
        reasons: &[String],
    ) -> Value {
        let mut warmup = sample::interval();
        warmup.warmup = true;
        warmup.counts = sample::nothing();
        let intervals = [warmup, sample::interval()].map(|i| interval(&i));
        let text = text(load, outcome.into(), &intervals, reasons);
        assert_eq!(text.lines().count(), 1);
        let object = serde_json::from_str(&text).unwrap();
        check(&object).unwrap_or_else(|e| panic!("{e}: {text}"));
        object
    }

    #[test]
    fn an_echo_conforms_to_the_schema() {
        let object = read_back(&sample::load(), &sample::outcome(), &[]);
        assert_eq!(object["mode"], "echo");
        assert_eq!(object["started"], "2026-11-21T09:30:00.25Z");
        assert_eq!(object["messages_per_second"], 182_331.0);
        assert_eq!(object["latency_us"]["count"], 1000);
        assert_eq!(object["latency_us"]["p50"], 231.039);
        assert_eq!(object["first_receiver_us"], Value::Null);
        assert_eq!(object["settings"]["rate"], Value::Null);
        assert_eq!(object["intervals"][0]["p50_us"], Value::Null);
        assert_eq!(object["intervals"][1]["messages"], 182_331);
        assert_eq!(object["passed"], true);
    }

    #[test]
    fn a_failed_fan_out_conforms_to_the_schema() {
        let (load, mut outcome) = sample::fanout();
        outcome.end = LoadEnd::Interrupted;
        outcome.faults.add(Fault::Lost, 3);
        let object = read_back(&load, &outcome, &["3 messages were lost".to_owned()]);
        assert_eq!(object["end"], "interrupted");
        assert_eq!(object["settings"]["depth"], Value::Null);
        assert_eq!(object["settings"]["clients"], Value::Null);
        assert_eq!(object["settings"]["subscribers"], 100);
        assert_eq!(object["errors"]["lost"], 3);
        assert_eq!(object["errors"]["total"], 3);
        assert_eq!(object["slow"]["closed"], 2);
        assert_eq!(object["reasons"][0], "3 messages were lost");
        assert_eq!(object["passed"], false);
    }

    /// A load that could not begin printed nothing.
    #[test]
    fn load_without_an_outcome_conforms_to_the_schema() {
        let (load, _) = sample::fanout();
        let object = read_back(&load, None, &["cannot connect".to_owned()]);
        assert_eq!(
            (&object["passed"], &object["reasons"][0]),
            (&false.into(), &"cannot connect".into())
        );
        assert_eq!(object["settings"]["subscribers"], 100);
        assert_eq!(object["slow"], json!({ "clients": 3, "closed": null }));
        for key in [
            "started",
            "seconds",
            "end",
            "messages",
            "latency_us",
            "errors",
        ] {
            assert_eq!(object[key], Value::Null, "{key}");
        }
        // All figures are null, or none is; a success has figures.
        for (key, value) in [
            ("messages", 0.into()),
            ("end", "duration".into()),
            ("passed", true.into()),
        ] {
            let mut other = object.clone();
            other[key] = value;
            assert!(check(&other).is_err(), "{key}");
        }
    }

    #[test]
    fn each_mode_without_messages_conforms_to_the_schema() {
        use LoadMode::{Churn, Echo, Fanout, Sink, Source, Stream};
        for mode in [Echo, Stream, Churn, Fanout, Sink, Source] {
            let mut load = sample::load();
            load.mode = mode;
            load.publishers = 1;
            load.rate = Some(u64::MAX.into());
            let outcome = LoadOutcome {
                counts: sample::nothing(),
                end: LoadEnd::Abandoned,
                ..sample::outcome()
            };
            let object = read_back(&load, &outcome, &[]);
            assert_eq!(object["latency_us"], Value::Null);
            load.rate = Some(Rate {
                count: 30,
                per: Duration::from_secs(60),
            });
            let object = read_back(&load, &outcome, &[]);
            assert_eq!(object["settings"]["rate"], 0.5);
        }
    }

    #[test]
    fn the_schema_is_strict() {
        let text = text(&sample::load(), Some(&sample::outcome()), &[], &[]);
        let object: Value = serde_json::from_str(&text).unwrap();
        assert!(check(&object).is_ok());
        for key in object.as_object().unwrap().keys() {
            let mut less = object.clone();
            less.as_object_mut().unwrap().remove(key);
            assert!(check(&less).is_err(), "without {key}");
            let mut other = object.clone();
            other[key.as_str()] = json!({ "surplus": [] });
            assert!(check(&other).is_err(), "{key}");
        }
        let mut more = object;
        more["surplus"] = Value::Null;
        assert!(check(&more).is_err());
    }
}
