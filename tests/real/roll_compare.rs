//! Rolling upgrades of a distributed Milvus under load: the product against `helm upgrade`. Root
//! only, and slow: `make test-roll`.

use std::env;

use crate::roll::{
    outcome::Outcome,
    roll,
    score::What,
    table,
    topology::{ACROSS, Topology, WITHIN},
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
