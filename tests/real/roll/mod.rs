//! Rolling upgrades of a distributed Milvus that serves searches and inserts all the while, for
//! `roll_compare` and `roll_short`.
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
pub mod outcome;
pub mod score;
mod stand;
pub mod table;
pub mod topology;
pub mod ways;

use self::{outcome::Outcome, stand::Stand, topology::Topology, ways::Way};

/// A roll of a new cluster; shows its steps.
pub fn roll(topology: &'static Topology, way: Way) -> Outcome {
    let (from, to) = (topology.from.name(), topology.to.name());
    eprintln!("{} {}: {from} to {to}", topology.name, way.name());
    let outcome = Stand::start(topology).roll(way);
    eprintln!("{}", table::steps(&outcome));
    outcome
}
