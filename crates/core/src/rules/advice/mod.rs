//! What to do about a finding, in the terms of what manages the release.
//!
//! Rules take every fix and every command from here. A command is printed only if it leads to a change
//! without a denial, keeps the wanted image and the values of the user, and touches nothing else.
//!
//! | module | holds |
//! |---|---|
//! | `remedy` | what to do, as data |
//! | `values`, `queue`, `dependency`, `component`, `release` | advice, by what it is about |
//! | `layer` | places above the file of a chart |
//! | `place` | where a change is made |
//! | `command`, `shell` | commands that fit the release; their quoting |
//! | `wording` | lists and addresses in sentences |

mod command;
mod component;
mod dependency;
mod layer;
mod place;
mod queue;
mod release;
mod remedy;
mod shell;
mod values;
mod wording;

use crate::{
    change::Upgrade,
    milvus::{
        Manager, Release, Version,
        manager::{ChartSource, Tool},
    },
};

pub use command::CHART;
pub use remedy::{ChartPin, Cure, Remedy};
pub use shell::command;
pub(in crate::rules) use wording::public;

impl<'a> Upgrade<'a> {
    /// Advice for this change, in the terms of its manager.
    #[must_use]
    pub fn advice(&self) -> Advice<'_, 'a> {
        let manager = self.before.map_or_else(
            || self.after.manager.clone(),
            |before| Manager::join(&before.manager, &self.after.manager),
        );
        Advice {
            upgrade: self,
            manager: with_facts(manager, self),
        }
    }
}

/// Where the cluster names a deployer that no mark in the manifests names.
fn with_facts(mut manager: Manager, upgrade: &Upgrade<'_>) -> Manager {
    let named = matches!(
        manager.tool,
        Tool::ArgoCd { .. } | Tool::FluxHelm { .. } | Tool::FluxKustomize { .. }
    );
    let name = &upgrade.before.unwrap_or(upgrade.after).name;
    if let Some(deployer) = upgrade
        .facts
        .deployers
        .iter()
        .flatten()
        .find(|deployer| deployer.release == *name)
        .filter(|_| !named)
    {
        let name = deployer.name.clone();
        manager.tool = if deployer.tool == "flux" {
            Tool::FluxHelm { name }
        } else {
            Tool::ArgoCd {
                application: Some(name),
            }
        };
    }
    manager
}

/// Advice for one change.
#[derive(Debug)]
pub struct Advice<'u, 'a> {
    upgrade: &'u Upgrade<'a>,
    manager: Manager,
}

impl Advice<'_, '_> {
    /// Who manages the release, by both sides of the change.
    #[must_use]
    pub const fn manager(&self) -> &Manager {
        &self.manager
    }

    fn before(&self) -> &Release {
        self.upgrade.before.unwrap_or(self.upgrade.after)
    }

    /// The chart and its version that the change wants.
    fn chart(&self) -> Option<(&ChartSource, Version)> {
        let version = self
            .upgrade
            .after
            .chart
            .as_ref()
            .or(self.before().chart.as_ref())?
            .version;
        Some((self.manager.chart()?, version))
    }

    /// Whether the wanted chart version reads a value.
    fn reads(&self, path: &str) -> bool {
        self.chart().is_some_and(|(chart, version)| {
            self.upgrade.catalogue.reads(chart.vendor, version, path)
        })
    }
}
