//! The engine and every workload over a simulated kernel, with servers that are right or wrong, all
//! from one seed.
//!
//! Checks: each run ends within its timeouts; a right server gives no fault; each fault of a wrong one
//! is counted once and by its kind; each message of a schedule is answered or counted as a fault; the
//! loop does not poll while nothing can progress; no connection is left open.
//!
//! `SEED=7 cargo test load::simulation` runs one seed again, `SEEDS=100000` that many.

mod server;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;

use super::{Engine, Fault, Load, LoadEnd, LoadError, LoadMode, LoadOutcome, MismatchKind, Rate};
use crate::net::Net;
use crate::net::simulation::{Odds, SimNet, Stops, World, for_each_seed};
use server::{Defect, Report, Server, Service};

/// Seeds of each test in an ordinary run.
const SEEDS: u64 = 200;

/// The time for which the loop may poll without sleeping: 2 ms before each of three things may be due.
const AWAKE: Duration = Duration::from_millis(7);

const MS: Duration = Duration::from_millis(1);

/// One run: a load, a server, and the kernel between them.
struct Simulation {
    load: Load,
    server: Server,
    odds: Odds,
    /// The time for which the loop may poll without sleeping.
    awake: Duration,
}

/// The result of a run.
struct Done {
    result: Result<LoadOutcome, LoadError>,
    report: Rc<RefCell<Report>>,
    /// Messages and bytes of all intervals, those after the end included.
    messages: u64,
    deliveries: u64,
    bytes: u64,
    net: SimNet,
}

impl Simulation {
    /// A short load of this mode on a right server, through a kernel in which nothing fails.
    fn new(rng: &mut Rng, mode: LoadMode, datagrams: bool) -> Self {
        let to = match (datagrams, rng.u8(..4)) {
            (true, _) => "udp://127.0.0.1:7",
            (false, 0) => "unix:/simulated",
            (false, _) => "127.0.0.1:7",
        };
        let mut load = Load::new(to.parse().unwrap(), mode);
        load.clients = rng.usize(1..6);
        load.publishers = match mode {
            LoadMode::Fanout => rng.usize(1..4),
            _ => 0,
        };
        load.size = rng.usize(18..60);
        load.depth = rng.usize(1..5);
        load.duration = rng.u32(5..25) * MS;
        load.warmup = Duration::ZERO;
        load.timeout = 100 * MS;
        load.interval = rng.u32(20..60) * MS;
        load.verify = rng.bool();
        load.connect_rate = (rng.u8(..4) == 0).then(|| rng.u64(500..5000).into());
        let service = match mode {
            LoadMode::Echo | LoadMode::Stream | LoadMode::Churn => Service::Echo,
            LoadMode::Fanout => Service::Room,
            LoadMode::Sink => Service::Sink,
            LoadMode::Source => Service::Source,
        };
        let mut server = Server::new(service, load.size);
        if !datagrams && !matches!(mode, LoadMode::Churn) && rng.u8(..10) == 0 {
            load.slow = rng.usize(1..3);
            server.spared = load.slow;
        }
        // None of the datagrams in flight is dropped.
        let smallest_buffer = if datagrams { load.size * 32 } else { 1 };
        let odds = odds(rng, smallest_buffer);
        Self {
            load,
            server,
            odds,
            awake: AWAKE,
        }
    }

    /// Gives the load a rate; returns the number of messages that fall due.
    fn open_loop(&mut self, rng: &mut Rng) -> u64 {
        // A time other than a second, too.
        let rate = Rate {
            count: rng.u64(200..20_000),
            per: rng.u32(500..2000) * MS,
        };
        self.load.rate = Some(rate);
        // The loop waits awake for a message that is due soon.
        self.awake = Duration::MAX;
        let nanos = self.load.duration.as_nanos() * u128::from(rate.count);
        u64::try_from(nanos.div_ceil(rate.per.as_nanos())).unwrap()
    }

    /// Lets the server play a defect in the first half of the load.
    fn play(&mut self, rng: &mut Rng, defect: Defect) {
        self.server.defect = defect;
        self.server.one_in = rng.usize(1..30);
        self.server.window = self.load.duration / 2;
    }

    /// Lets everything go wrong.
    fn break_everything(&mut self, rng: &mut Rng) {
        let defects = [
            Defect::None,
            Defect::Lose,
            Defect::Double,
            Defect::Swap,
            Defect::Corrupt,
            Defect::Stall,
            Defect::Cut,
        ];
        let defect = *rng.choice(&defects).unwrap();
        self.play(rng, defect);
        let seldom = |rng: &mut Rng| *rng.choice(&[0, 0, 5, 20]).unwrap();
        self.odds.refused = seldom(rng);
        self.odds.unanswered = seldom(rng);
        self.odds.queue_full = *rng.choice(&[0, 1, 3]).unwrap();
        self.odds.smallest_buffer = self.odds.smallest_buffer.min(60);
        self.odds.stopped = seldom(rng) * 50;
    }

    fn run(self, rng: &mut Rng) -> Done {
        let Self {
            load,
            server,
            odds,
            awake,
        } = self;
        if std::env::var("SEED").is_ok() {
            eprintln!("{load:?}, {odds:?}, {:?}", server.defect);
        }
        let report = Rc::clone(&server.report);
        let mut world = World::new(rng.fork(), odds, Box::new(server));
        world.awake = awake;
        world.poll = rng.u32(5..100) * MS / 1000;
        let net = SimNet::new(world);
        let start = net.now();
        let (mut messages, mut deliveries, mut bytes) = (0, 0, 0);
        let mut watch = |interval: &super::Interval| {
            messages += interval.counts.messages;
            deliveries += interval.counts.deliveries;
            bytes += interval.counts.bytes;
        };
        let engine = Engine::new(&load, net.clone(), &mut watch);
        let result = engine.and_then(Engine::run);
        let keys = u32::try_from(load.active_clients() + load.slow).unwrap();
        let limit = load.duration + 5 * load.timeout + 300 * MS + keys * 20 * MS;
        let time = net.now() - start;
        assert!(time <= limit || odds.stopped > 0, "it took {time:?}");
        assert_eq!(net.0.borrow().open(), 0, "connections are left open");
        assert!(!net.0.borrow().stuck, "it has slept for ever");
        Done {
            result,
            report,
            messages,
            deliveries,
            bytes,
            net,
        }
    }
}

impl Done {
    fn outcome(&self) -> &LoadOutcome {
        self.result.as_ref().unwrap()
    }

    fn faults(&self, kinds: &[Fault]) -> u64 {
        let faults = &self.outcome().faults;
        kinds.iter().map(|kind| faults.count(*kind)).sum()
    }

    /// Asserts that the only faults are `count` of these kinds.
    fn assert_faults(&self, kinds: &[Fault], count: u64) {
        let faults = &self.outcome().faults;
        assert_eq!(self.faults(kinds), count, "{faults:?}");
        assert_eq!(faults.total(), count, "{faults:?}");
    }
}

/// A kernel in which nothing fails.
fn odds(rng: &mut Rng, smallest_buffer: usize) -> Odds {
    let often = |rng: &mut Rng| *rng.choice(&[0, 5, 50]).unwrap();
    Odds {
        interrupted: often(rng),
        early: often(rng),
        spurious: often(rng),
        whole_state: rng.bool(),
        cuts_reads: rng.u8(..4) == 0,
        queue_full: often(rng),
        connecting: rng.u32(..10) * MS,
        buffer: rng.usize(1..600),
        smallest_buffer,
        ..Odds::default()
    }
}

/// Runs seeds for each mode, and for the two that datagrams are for.
fn for_each_mode(run: impl Fn(&mut Rng, LoadMode, bool)) {
    for_each_seed(SEEDS, &[], |seed| {
        let datagrams = [(LoadMode::Echo, true), (LoadMode::Sink, true)];
        let modes = LoadMode::ALL.map(|mode| (mode, false));
        for (index, (mode, datagrams)) in (0..).zip(modes.into_iter().chain(datagrams)) {
            run(&mut Rng::with_seed(seed * 8 + index), mode, datagrams);
        }
    });
}

#[test]
fn right_server_gives_no_fault_and_all_messages_are_counted() {
    for_each_mode(|rng, mode, datagrams| {
        let mut simulation = Simulation::new(rng, mode, datagrams);
        let scheduled = (rng.u8(..3) == 0).then(|| simulation.open_loop(rng));
        // A server that is slow is right, too.
        simulation.load.timeout = Duration::from_secs(30);
        let slow = simulation.load.slow;
        let done = simulation.run(rng);
        done.assert_faults(&[], 0);
        assert_eq!(done.outcome().end, LoadEnd::Duration);
        assert_eq!(done.outcome().slow_closed, 0);
        assert_eq!(done.outcome().mismatch, None);
        let (world, report) = (done.net.0.borrow(), done.report.borrow());
        let active = slow..world.count();
        let answered: u64 = report.answered.iter().skip(slow).sum();
        match mode {
            LoadMode::Fanout => {} // probes are not counted
            LoadMode::Sink if datagrams => {}
            LoadMode::Sink => {
                let received = |id| report.received.get(id).copied().unwrap_or(0);
                let sent = |id: usize| received(id) + world.in_flight(id).len() as u64;
                assert_eq!(done.bytes, active.map(sent).sum::<u64>());
            }
            LoadMode::Source => {
                let read = |id| world.history(id).bytes_read as u64;
                assert!(active.map(read).sum::<u64>() >= done.bytes);
            }
            LoadMode::Churn if scheduled.is_none() => assert!(done.messages <= answered),
            _ => assert_eq!(done.messages, answered),
        }
        if let (Some(scheduled), false) = (scheduled, is_one_way(mode)) {
            assert_eq!(done.outcome().counts.messages, scheduled);
        }
    });
}

/// Regression: clients whose answers had come were judged late when the load went on after a stop
/// (Ctrl-Z and fg, a suspended machine).
#[test]
fn load_that_was_stopped_blames_no_server_that_has_answered() {
    for_each_mode(|rng, mode, datagrams| {
        let mut simulation = Simulation::new(rng, mode, datagrams);
        let scheduled = (rng.u8(..3) == 0).then(|| simulation.open_loop(rng));
        simulation.load.timeout = Duration::from_secs(30);
        if scheduled.is_some() && rng.bool() {
            // More answers wait than are read in a turn.
            simulation.load.depth = usize::MAX;
        }
        // What the load has sent is answered meanwhile.
        simulation.odds.buffer = 1 << 16;
        simulation.odds.smallest_buffer = 1 << 16;
        simulation.odds.queue_full = 0;
        simulation.odds.stopped = rng.usize(2..100);
        simulation.odds.stops = Stops::Whole;
        let done = simulation.run(rng);
        done.assert_faults(&[], 0);
        if let (Some(scheduled), false) = (scheduled, is_one_way(mode)) {
            assert_eq!(done.outcome().counts.messages, scheduled);
        }
    });
}

fn is_one_way(mode: LoadMode) -> bool {
    matches!(mode, LoadMode::Sink | LoadMode::Source)
}

#[test]
fn faults_of_a_server_are_counted_once_and_by_kind() {
    use Fault::{Closed, Corrupt, Disordered, Doubled, Lost, Reset, Unanswered};
    for_each_seed(SEEDS, &[], |seed| {
        for (defect, kinds) in [
            (Defect::Lose, &[Lost, Unanswered][..]),
            (Defect::Double, &[Doubled]),
            // The last one is lost if the run ends before it is received.
            (Defect::Swap, &[Disordered, Lost]),
            (Defect::Corrupt, &[Corrupt]),
            (Defect::Cut, &[Closed, Reset]),
        ] {
            let mut rng = Rng::with_seed(seed);
            let mut simulation = Simulation::new(&mut rng, LoadMode::Echo, false);
            simulation.load.verify = true;
            // So that another message is in flight with which one can be swapped.
            simulation.load.depth += 1;
            simulation.play(&mut rng, defect);
            let done = simulation.run(&mut rng);
            let defects = done.report.borrow().defects;
            // Some answers that were changed don't make it a server of another kind.
            if done.outcome().counts.messages > 0 {
                assert_eq!(done.outcome().mismatch, None);
            }
            if defect == Defect::Cut {
                assert_eq!(done.faults(kinds), defects);
                let others = done.faults(&[Unanswered]) + defects;
                assert_eq!(done.outcome().faults.total(), others);
            } else {
                done.assert_faults(kinds, defects);
            }
        }
    });
}

#[test]
fn servers_of_another_kind_are_named() {
    for_each_seed(SEEDS, &[], |seed| {
        let services = [Service::Room, Service::Sink, Service::Source];
        for (service, mode) in services.into_iter().flat_map(|service| {
            let modes = [LoadMode::Echo, LoadMode::Stream];
            modes.map(|mode| (service, mode))
        }) {
            let mut rng = Rng::with_seed(seed);
            let mut simulation = Simulation::new(&mut rng, mode, false);
            simulation.load.slow = 0; // they send messages, too
            simulation.server = Server::new(service, simulation.load.size);
            let expected = match service {
                Service::Room if simulation.load.clients > 1 => &[MismatchKind::Broadcasts][..],
                // It sends before, or after, the first message is sent.
                Service::Source => &[MismatchKind::Greets, MismatchKind::Alters],
                _ => &[MismatchKind::Silent],
            };
            let done = simulation.run(&mut rng);
            let mismatch = done.outcome().mismatch.as_ref();
            let kind = mismatch.map(|mismatch| mismatch.kind);
            let is_named = kind.is_some_and(|kind| expected.contains(&kind));
            assert!(is_named, "{service:?} {mode:?}: {mismatch:?}");
        }
    });
}

#[test]
fn faults_of_a_room_are_counted_once_and_by_kind() {
    use Fault::{Corrupt, Doubled, Lost, Unanswered};
    for_each_seed(SEEDS, &[], |seed| {
        for (defect, kinds) in [
            (Defect::Lose, &[Lost, Unanswered][..]),
            (Defect::Double, &[Doubled]),
            (Defect::Corrupt, &[Corrupt]),
        ] {
            let mut rng = Rng::with_seed(seed);
            let mut simulation = Simulation::new(&mut rng, LoadMode::Fanout, false);
            simulation.load.verify = true;
            simulation.play(&mut rng, defect);
            let done = simulation.run(&mut rng);
            let defects = done.report.borrow().defects;
            if defect == Defect::Corrupt {
                // Its number is not trusted: the message is missing, too.
                assert_eq!(done.faults(kinds), defects);
                done.assert_faults(&[Corrupt, Lost, Unanswered], 2 * defects);
            } else {
                done.assert_faults(kinds, defects);
            }
        }
    });
}

#[test]
fn messages_of_a_schedule_are_answered_or_counted_as_faults() {
    use Fault::{Corrupt, Disordered, Lost, Refused, Unanswered};
    for_each_mode(|rng, mode, datagrams| {
        if is_one_way(mode) || mode == LoadMode::Fanout {
            return;
        }
        let mut simulation = Simulation::new(rng, mode, datagrams);
        simulation.load.verify = true;
        let scheduled = simulation.open_loop(rng);
        simulation.break_everything(rng);
        let done = simulation.run(rng);
        let Ok(outcome) = &done.result else { return };
        if outcome.end == LoadEnd::Abandoned {
            return;
        }
        let faults = match mode {
            LoadMode::Churn => done.faults(&[Unanswered, Refused]),
            _ if datagrams => done.faults(&[Lost]),
            _ => done.faults(&[Lost, Unanswered, Corrupt, Disordered]),
        };
        let answered = outcome.counts.messages;
        assert_eq!(answered + faults, scheduled, "{:?}", outcome.faults);
    });
}

#[test]
fn load_ends_in_time_whatever_happens() {
    for_each_mode(|rng, mode, datagrams| {
        let mut simulation = Simulation::new(rng, mode, datagrams);
        if rng.bool() {
            simulation.open_loop(rng);
        }
        simulation.load.warmup = rng.u32(..3) * 5 * MS;
        simulation.break_everything(rng);
        simulation.load.duration -= simulation.load.warmup.min(4 * MS);
        if rng.u8(..4) == 0 {
            let at = rng.u32(..60) * MS;
            simulation.server.interrupt_after(at);
        }
        let can_fail = simulation.odds.refused + simulation.odds.unanswered > 0
            || simulation.odds.queue_full == 1
            || mode == LoadMode::Fanout;
        let done = simulation.run(rng);
        match &done.result {
            Ok(outcome) => {
                assert!(outcome.counts.messages <= done.messages);
                assert!(outcome.counts.deliveries <= done.deliveries);
            }
            Err(error) => assert!(can_fail, "{error}"),
        }
    });
}
