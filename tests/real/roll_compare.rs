//! Rolling upgrades of a distributed Milvus under load: the product against `helm upgrade`. Root
//! only, and slow: `make test-roll`.

use std::{env, fs, io::Write as _};

use crate::roll::{
    rolls::{self, Requests, Roll, median},
    site::Site,
    table,
    topology::COMPARED,
    ways::Way,
};

/// The items that an environment variable names, separated by commas; all if it is empty.
fn chosen<T: Copy>(variable: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Vec<T> {
    let wanted = env::var(variable).unwrap_or_default();
    if wanted.is_empty() {
        return all.to_vec();
    }
    wanted
        .split(',')
        .map(|word| {
            let found = all.iter().find(|one| name(**one) == word);
            *found.unwrap_or_else(|| panic!("{variable}: there is no {word}"))
        })
        .collect()
}

/// Number of rolls of each kind: `RUNS`, else one.
fn runs() -> usize {
    let wanted = env::var("RUNS").unwrap_or_default();
    if wanted.is_empty() {
        return 1;
    }
    let number = wanted.parse().ok().filter(|number| *number > 0);
    number.unwrap_or_else(|| panic!("RUNS: {wanted} is not a number above 0"))
}

/// Appends a roll to the file in `ROLL_RESULTS`, if set.
fn keep(roll: &Roll) {
    let Some(path) = env::var_os("ROLL_RESULTS").filter(|path| !path.is_empty()) else {
        return;
    };
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap();
    writeln!(file, "{}", serde_json::to_string(roll).unwrap()).unwrap();
}

/// The requests of one kind in a roll.
type Part = fn(&Roll) -> &Requests;

/// Cases in which the product loses more than a plain roll of the same topology, by the medians.
fn worse(rolls: &[Roll]) -> Vec<String> {
    let lost = |topology: &str, way: Way, what: Part| {
        let of_kind = rolls
            .iter()
            .filter(|one| one.topology == topology && one.way == way.name());
        median(of_kind.map(|one| what(one).lost()))
    };
    let kinds: [(&str, Part); 2] = [
        ("searches", |roll| &roll.searches),
        ("inserts", |roll| &roll.inserts),
    ];
    let mut worse = Vec::new();
    for topology in COMPARED {
        for way in Way::ALL.into_iter().filter(|way| *way != Way::Plain) {
            for (name, what) in kinds {
                let ours = lost(topology.name, way, what);
                let plain = lost(topology.name, Way::Plain, what);
                // NaN, and not greater, if one of the two was not rolled.
                if ours > plain {
                    let (topology, way) = (topology.name, way.name());
                    worse.push(format!(
                        "{topology} {way}: {ours:.1} s without {name}, plain {plain:.1} s"
                    ));
                }
            }
        }
    }
    worse
}

#[test]
#[ignore = "an hour, root and a container runtime: make test-roll"]
fn an_upgrade_loses_no_more_than_a_plain_helm_upgrade() {
    let topologies = chosen("ROLL", &COMPARED, |topology| topology.name);
    let ways = chosen("WAYS", &Way::ALL, Way::name);
    let (runs, mut site, mut rolls) = (runs(), Site::start(&topologies), Vec::new());
    // One roll of each kind in turn, so that a change of the machine's speed affects all kinds.
    for _ in 0..runs {
        for topology in &topologies {
            for way in &ways {
                let outcome = site.roll(topology, *way);
                eprintln!("{}", table::steps(&outcome));
                let roll = outcome.record();
                keep(&roll);
                rolls.push(roll);
            }
        }
    }
    let table = rolls::table(&rolls);
    eprintln!("\n{table}");
    let failed = rolls.iter().filter_map(|one| one.failure.clone());
    let wrong: Vec<String> = failed.chain(worse(&rolls)).collect();
    assert!(wrong.is_empty(), "{}\n\n{table}", wrong.join("\n"));
}
