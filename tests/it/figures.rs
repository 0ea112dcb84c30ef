//! The figures that `make figures` puts into the README: reading them, showing them, and their place.

#[path = "../../benches/report/mod.rs"]
mod report;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use report::chapter::{BEGIN, END, Machine, newest_run, render, replace};
use report::memory::{Cost, Counted};
use report::results::{self, Measured, Moved};
use report::table;

fn measured(group: &str, function: &str, median: f64) -> Measured {
    Measured {
        group: group.to_string(),
        function: function.to_string(),
        moved: Moved::Messages(50),
        median,
        spread: 0.01,
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400),
        round: 0,
    }
}

fn machine() -> Machine {
    Machine {
        processor: "Abacus".to_string(),
        cores: 2,
        system: "Linux 6.1".to_string(),
        compiler: "rustc 1.88.0".to_string(),
    }
}

fn counted() -> Counted {
    let cost = |program: &str, bytes| Cost {
        service: "echo".to_string(),
        program: program.to_string(),
        bytes,
    };
    Counted {
        clients: 5000,
        costs: vec![cost("resound", 200), cost("threads", 9000)],
    }
}

fn all() -> Vec<Measured> {
    let groups = ["bulk/a", "udp/a", "broadcast/a", "echo/a"];
    let ours = groups.map(|group| measured(group, "resound", 1e6));
    ours.to_vec()
}

/// The cells of the rows that begin with a name.
fn rows<'a>(table: &'a str, name: &str) -> Vec<Vec<&'a str>> {
    let cells = |line: &'a str| line.split('|').map(str::trim).collect::<Vec<_>>();
    let lines = table.lines().map(cells);
    lines
        .filter(|row| row.get(1).is_some_and(|first| first.starts_with(name)))
        .collect()
}

#[test]
fn ratio_is_our_speed_divided_by_that_of_the_peer() {
    let results = [
        measured("echo/a", "resound", 1e6),
        measured("echo/a", "floor", 0.9e6),
        measured("echo/a", "tokio", 2e6),
        measured("echo/b", "threads", 1.0),
    ];
    let table = table::speed(&results, "resound");
    let cells = [
        "",
        "echo/a",
        "50.0 k messages/s",
        "1.00 ms",
        "0.90 ± 0.01",
        "2.00 ± 0.03",
        "–",
        "",
    ];
    assert_eq!(rows(&table, "echo"), [cells]);
}

#[test]
fn groups_stand_in_the_order_in_which_a_person_would_sort_them() {
    let names = [
        "bulk/a",
        "udp/a",
        "echo/4 KiB by 50 clients",
        "echo/64 B by 1,000 clients",
        "echo/64 B by 50 clients",
        "broadcast/a",
    ];
    let results = names.map(|name| measured(name, "resound", 1.0));
    let table = table::speed(&results, "resound");
    let order: Vec<&str> = rows(&table, "").iter().skip(2).map(|row| row[1]).collect();
    assert_eq!(
        order,
        [names[4], names[3], names[2], names[5], names[1], names[0]]
    );
}

#[test]
fn bytes_are_shown_in_the_unit_that_fits() {
    let mut stream = measured("echo/stream", "resound", 1e9);
    stream.moved = Moved::Bytes(3 << 29);
    let table = table::speed(&[stream], "resound");
    assert_eq!(rows(&table, "echo")[0][2], "1536 MiB/s");
}

#[test]
fn program_that_was_not_measured_has_no_table() {
    let results = [measured("echo/a", "floor", 1.0)];
    assert_eq!(table::speed(&results, "resound"), "");
}

#[test]
fn chapter_has_machine_date_speed_and_memory() {
    let chapter = render(&machine(), &all(), Some(&counted())).unwrap();
    assert!(
        chapter.starts_with("Abacus, 2 cores, Linux 6.1, rustc 1.88.0; measured on 1970-01-02")
    );
    assert_eq!(rows(&chapter, "broadcast/a").len(), 1);
    assert_eq!(
        rows(&chapter, "echo")[1][2..6],
        ["200", "–", "–", "9000 (× 45.0)"]
    );
}

#[test]
fn without_all_results_there_is_no_chapter() {
    let without_udp: Vec<Measured> = all().into_iter().filter(|m| m.group != "udp/a").collect();
    let why = render(&machine(), &without_udp, Some(&counted())).unwrap_err();
    assert_eq!(why, "there are no results of udp from one run");
    let why = render(&machine(), &all(), None).unwrap_err();
    assert_eq!(why, "there are no results of memory");
}

#[test]
fn results_of_an_earlier_run_are_not_mixed_with_those_of_the_newest() {
    let mut results = all();
    results[0].at -= Duration::from_secs(2 * 3600);
    let newest = newest_run(Vec::new(), results).into_iter();
    let newest: Vec<String> = newest.map(|m| m.group).collect();
    assert_eq!(newest, ["udp/a", "broadcast/a", "echo/a"]);
    assert!(newest_run(Vec::new(), Vec::new()).is_empty());
}

#[test]
fn rounds_are_taken_if_they_are_the_newest_and_compared_one_by_one() {
    let round = |function, median, round| Measured {
        round,
        ..measured("echo/a", function, median)
    };
    // The machine became slower from one to the next.
    let rounds = vec![
        round("resound", 1e6, 1),
        round("resound", 2e6, 2),
        round("resound", 4e6, 3),
        round("tokio", 2e6, 1),
        round("tokio", 3e6, 2),
        round("tokio", 8.4e6, 3),
    ];
    let table = table::speed(&newest_run(rounds.clone(), all()), "resound");
    let cells = [
        "",
        "echo/a",
        "25.0 k messages/s",
        "2.00 ms",
        "–",
        "2.00 ± 0.30",
        "–",
        "",
    ];
    assert_eq!(rows(&table, "echo/a"), [cells]);

    let mut single = all();
    single[0].at += Duration::from_secs(60);
    assert_eq!(newest_run(rounds, single.clone()).len(), single.len());
}

#[test]
fn text_between_the_marks_is_replaced_and_nothing_else() {
    let readme = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
    let replaced = replace(&readme, "new\n").unwrap();
    assert_eq!(replaced, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
    assert_eq!(replace(&replaced, "new\n").unwrap(), replaced);
    assert_eq!(replace("no marks", "new\n"), None);
}

#[test]
fn results_are_read_as_criterion_writes_them() {
    let directory = tempfile::tempdir().unwrap();
    let new = directory.path().join("echo_a/resound/new");
    fs::create_dir_all(&new).unwrap();
    let what = r#"{"group_id":"echo/a","function_id":"resound","value_str":null,
        "throughput":{"Elements":50}}"#;
    let how_long = r#"{"median":{"point_estimate":1000.0,
        "confidence_interval":{"lower_bound":990.0,"upper_bound":1030.0}}}"#;
    fs::write(new.join("benchmark.json"), what).unwrap();
    fs::write(new.join("estimates.json"), how_long).unwrap();
    let [read] = &results::read(directory.path())[..] else {
        panic!("there is one result");
    };
    assert_eq!((&read.group[..], &read.function[..]), ("echo/a", "resound"));
    assert_eq!(read.moved, Moved::Messages(50));
    assert!((read.spread - 0.02).abs() < 1e-9);
}

#[test]
fn folder_without_measurements_has_no_results() {
    assert!(results::read(Path::new("/nonexistent")).is_empty());
    assert!(Counted::read(Path::new("/nonexistent")).is_none());
}

#[test]
fn costs_of_idle_clients_are_kept_beside_criterions_results() {
    let directory = tempfile::tempdir().unwrap();
    counted().write(directory.path()).unwrap();
    let read = Counted::read(directory.path()).unwrap();
    assert_eq!((read.clients, read.table()), (5000, counted().table()));
}

#[test]
fn the_readme_has_a_table_of_figures() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, figures) = readme.split_once(BEGIN).expect("figures begin");
    let (figures, _) = figures.split_once(END).expect("figures end");
    for bench in ["echo/", "broadcast/", "udp/", "bulk/"] {
        assert!(
            !rows(figures, bench).is_empty(),
            "the README has no figures of {bench}"
        );
    }
}
