//! Rolling upgrades of a distributed Milvus that serves searches and inserts all the while, for
//! `roll_compare` and `roll_short`.
//!
//! | module | job |
//! |---|---|
//! | `topology` | what is installed, and what it is brought to |
//! | `site` | a node on which one roll is made after the other, each of a new Milvus |
//! | `stand` | a Milvus with data, and a roll of it under load |
//! | `quiet` | whether everything is right, before a roll and after it |
//! | `ways` | the ways to upgrade |
//! | `follow` | a command that is shown while it runs |
//! | `score` | what the requests of the load say |
//! | `load` | how busy the machine was |
//! | `outcome`, `table` | what the load saw of a roll, and how it is shown |
//! | `rolls` | results as a file and as a table, of `xtask` |

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
