//! Rolling upgrades of a distributed Milvus that serves searches and inserts all the while. Root
//! only, and slow: `make test-roll`, `make test-roll-short`.
//!
//! | module | job |
//! |---|---|
//! | `topology` | what is installed, and what it is brought to |
//! | `stand` | a Milvus with data, and a roll of it under load |
//! | `ways` | the ways to upgrade |
//! | `score` | what the requests of the load say |
//! | `load` | how busy the machine was |
//! | `outcome`, `table` | the result of a roll, and how it is shown |

mod load;
mod outcome;
mod score;
mod stand;
mod table;
mod topology;
mod ways;

use std::env;

use self::{
    outcome::Outcome,
    score::What,
    stand::Stand,
    topology::{ACROSS, SHORT, Topology, WITHIN},
    ways::Way,
};

/// What a variable chooses by name, separated by commas; all without it.
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

fn roll(topology: &'static Topology, way: Way) -> Outcome {
    let (from, to) = (topology.from.name(), topology.to.name());
    eprintln!("{} {}: {from} to {to}", topology.name, way.name());
    let outcome = Stand::start(topology).roll(way);
    eprintln!("{}", table::steps(&outcome));
    outcome
}

/// What a topology loses more by the product than by a plain upgrade, where both were rolled.
fn worse(topology: &Topology, outcomes: &[Outcome]) -> Vec<String> {
    let of = |way| {
        let mut all = outcomes.iter().filter(|one| one.topology == topology.name);
        all.find(|one| one.way == way)
    };
    let (Some(plain), Some(upgrade)) = (of(Way::Plain), of(Way::Upgrade)) else {
        return vec![];
    };
    [What::Search, What::Insert]
        .into_iter()
        .map(|what| (what, upgrade.lost(what), plain.lost(what)))
        .filter(|(_, upgrade, plain)| upgrade > plain)
        .map(|(what, upgrade, plain)| {
            let name = topology.name;
            format!("{name}: {what:?}: {upgrade:.1} s without an answer, plain {plain:.1} s")
        })
        .collect()
}

#[test]
#[ignore = "half an hour, root and a container runtime: make test-roll"]
fn an_upgrade_loses_no_more_than_a_plain_helm_upgrade() {
    let topologies = chosen("ROLL", &[&WITHIN, &ACROSS], |topology| topology.name);
    let ways = chosen("WAYS", &Way::ALL, Way::name);
    let mut outcomes = Vec::new();
    for topology in &topologies {
        outcomes.extend(ways.iter().map(|way| roll(topology, *way)));
    }
    let table = table::rolls(&outcomes);
    eprintln!("\n{table}");
    let failed = outcomes.iter().filter_map(|one| one.failure.clone());
    let worse = topologies.iter().flat_map(|one| worse(one, &outcomes));
    let wrong: Vec<String> = failed.chain(worse).collect();
    assert!(wrong.is_empty(), "{}\n\n{table}", wrong.join("\n"));
}

/// Seconds without a right answer that a roll within a minor version may cost, also on a slow and
/// busy machine. A bound for what breaks, not a measurement.
const BOUND: f64 = 240.0;

#[test]
#[ignore = "minutes, root and a container runtime: make test-roll-short"]
fn an_upgrade_within_a_minor_version_loses_no_data_and_little_time() {
    let outcome = roll(&SHORT, Way::Upgrade);
    let table = table::rolls(std::slice::from_ref(&outcome));
    eprintln!("\n{table}");
    assert_eq!(outcome.failure, None, "{table}");
    for what in [What::Search, What::Insert] {
        assert!(outcome.lost(what) < BOUND, "{table}");
    }
}
