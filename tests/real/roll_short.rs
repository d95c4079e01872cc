//! One rolling upgrade of a distributed Milvus under load by the product. Root only: `make
//! test-roll-short`.

use crate::roll::{rolls, site::Site, table, topology::SHORT, ways::Way};

/// Upper bound of the seconds without a right answer. On a machine that was busy with other builds
/// it was 50 to 104; the bound finds regressions, and is not a measurement.
const BOUND: f64 = 150.0;

#[test]
#[ignore = "minutes, root and a container runtime: make test-roll-short"]
fn an_upgrade_within_a_minor_version_loses_no_data_and_little_time() {
    let outcome = Site::start(&[&SHORT]).roll(&SHORT, Way::Upgrade);
    eprintln!("{}", table::steps(&outcome));
    let roll = outcome.record();
    let table = rolls::table(std::slice::from_ref(&roll));
    eprintln!("\n{table}");
    assert_eq!(roll.failure, None, "{table}");
    for requests in [&roll.searches, &roll.inserts] {
        assert!(requests.lost() < BOUND, "{table}");
    }
}
