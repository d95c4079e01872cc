//! One rolling upgrade of a distributed Milvus under load by the product. Root only: `make
//! test-roll-short`.

use crate::roll::{roll, score::What, table, topology::SHORT, ways::Way};

/// Seconds without a right answer that the roll may cost. On a machine that was busy with other
/// builds it cost 50 to 104; a bound for what breaks, not a measurement.
const BOUND: f64 = 150.0;

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
