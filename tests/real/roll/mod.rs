//! Rolling upgrades of a distributed Milvus that serves searches and inserts meanwhile, for
//! `roll_compare` and `roll_short`.
//!
//! | module | job |
//! |---|---|
//! | `topology` | the Milvus that is installed, and its target version |
//! | `site` | a node on which one roll after the other is made, each of a new Milvus |
//! | `stand` | a Milvus with data, and a roll of it under load |
//! | `quiet` | whether everything is right, before a roll and after it |
//! | `ways` | the ways to upgrade |
//! | `follow` | runs a command and shows its output |
//! | `score` | evaluates the requests of the load |
//! | `load` | how busy the machine was |
//! | `outcome`, `table` | the result of a roll, and how it is printed |
//! | `rolls` | results as a file and as a table; a module of `xtask` |

mod follow;
mod load;
pub mod outcome;
mod quiet;
#[path = "../../../xtask/src/rolls.rs"]
pub mod rolls;
pub mod score;
pub mod site;
mod stand;
pub mod table;
pub mod topology;
pub mod ways;
