//! Who manages a release: what its manifests are made from, and the tool that applies them. Advice
//! is phrased for both.

mod chart_place;
mod detection;

pub use chart_place::{ChartPlace, ChartPlaces, SUB_CHARTS};
pub use detection::{Neighbours, Surroundings, detect};

pub use super::vendor::Vendor;

/// Who manages a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// What the manifests are made from.
    pub source: Source,
    /// What applies them.
    pub tool: Tool,
}

/// What the manifests of a release are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A Helm chart.
    Chart(ChartSource),
    /// A custom resource of milvus-operator.
    Operator {
        /// Name of the custom resource of kind `Milvus`.
        resource: String,
    },
    /// Plain manifests, with or without kustomize.
    Manifests,
}

/// The chart of a release and its place in the release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChartSource {
    /// Whose chart it is.
    pub vendor: Vendor,
    /// Where the chart is a dependency of another one: the alias, or the name of the dependency
    /// without an alias. The values of the chart stand below this key.
    pub alias: Option<String>,
    /// The keys between the values of the installed chart and `alias`, joined with dots, where
    /// the parent of the chart is a dependency itself.
    pub between: Option<String>,
    /// Name of the chart that was installed, if it is known and another one.
    pub umbrella: Option<String>,
}

/// The tool that applies the manifests of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `helm install` and `helm upgrade`: Helm's own marks or its storage say so.
    Helm,
    /// Helm rendered the manifests; nothing says what applies them. The usual case of `helm
    /// template`.
    Rendered,
    /// Helm rendered the manifests and something else than Helm applied them: the running state
    /// lacks Helm's marks.
    Applied,
    /// Argo CD.
    ArgoCd {
        /// Name of the Application, if a mark says it.
        application: Option<String>,
    },
    /// A `HelmRelease` of Flux.
    FluxHelm {
        /// Name of the `HelmRelease`.
        name: String,
    },
    /// A `Kustomization` of Flux.
    FluxKustomize {
        /// Name of the `Kustomization`.
        name: String,
    },
    /// kustomize.
    Kustomize,
    /// Terraform.
    Terraform,
    /// Unknown: for example `kubectl apply`.
    Unknown,
}

impl Default for Manager {
    fn default() -> Self {
        Self {
            source: Source::Manifests,
            tool: Tool::Unknown,
        }
    }
}

impl Manager {
    /// The chart of the Milvus project, alone in its release and installed with Helm.
    #[must_use]
    pub fn plain_chart() -> Self {
        Self {
            source: Source::Chart(ChartSource::default()),
            tool: Tool::Helm,
        }
    }

    /// milvus-operator, by a custom resource of this name.
    #[must_use]
    pub fn operator(resource: impl Into<String>) -> Self {
        Self {
            source: Source::Operator {
                resource: resource.into(),
            },
            tool: Tool::Unknown,
        }
    }

    /// Whether milvus-operator owns the workloads.
    #[must_use]
    pub const fn is_operator(&self) -> bool {
        matches!(self.source, Source::Operator { .. })
    }

    /// Whether the chart is Bitnami's, whose versions have nothing to do with those of the Milvus
    /// project's chart.
    #[must_use]
    pub fn is_bitnami(&self) -> bool {
        self.chart()
            .is_some_and(|source| source.vendor == Vendor::Bitnami)
    }

    /// Whether a Helm chart made the workloads, by any tool that applies them.
    #[must_use]
    pub const fn is_chart(&self) -> bool {
        matches!(self.source, Source::Chart(_))
    }

    /// The chart, if there is one.
    #[must_use]
    pub const fn chart(&self) -> Option<&ChartSource> {
        match &self.source {
            Source::Chart(chart) => Some(chart),
            Source::Operator { .. } | Source::Manifests => None,
        }
    }

    /// The key below which the values of the Milvus chart stand; `None` if it is a separate
    /// release.
    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        self.chart().and_then(|chart| chart.alias.as_deref())
    }

    /// The whole key below which the values of the Milvus chart stand; `None` if it is a separate
    /// release.
    #[must_use]
    pub fn values_key(&self) -> Option<String> {
        let chart = self.chart()?;
        let alias = chart.alias.as_deref()?;
        Some(match &chart.between {
            Some(between) => format!("{between}.{alias}"),
            None => alias.to_owned(),
        })
    }

    /// What to back up before an upgrade, in the terms of the manager: the tables write `helm get
    /// values` for the source of the release.
    #[must_use]
    pub fn backups(&self, items: &[String]) -> Vec<String> {
        let source = match (&self.source, &self.tool) {
            (Source::Chart(_), Tool::Helm | Tool::Rendered) => None,
            (Source::Chart(_), _) => Some("the Helm values and the rendered manifests".to_owned()),
            (Source::Operator { resource }, _) => Some(format!("the Milvus resource {resource}")),
            (Source::Manifests, _) => Some("the manifests".to_owned()),
        };
        let own = |item: &String| {
            source
                .clone()
                .filter(|_| item.contains("helm get"))
                .unwrap_or_else(|| item.clone())
        };
        items.iter().map(own).collect()
    }

    /// Whether the plain commands for the Milvus chart fit: the chart is a separate release, and
    /// Helm makes it.
    #[must_use]
    pub fn takes_helm_commands(&self) -> bool {
        let plain = self
            .chart()
            .is_some_and(|chart| *chart == ChartSource::default());
        plain && matches!(self.tool, Tool::Helm | Tool::Rendered)
    }

    /// Whether `milvus-guard upgrade` and `migrate` find the release by its name and know its
    /// chart.
    #[must_use]
    pub fn takes_runs(&self) -> bool {
        self.is_chart() && self.alias().is_none_or(|alias| alias == "milvus")
    }

    /// How each stop of a plan is made where no command can be printed; `None` if commands can be.
    #[must_use]
    pub fn how_to_stop(&self) -> Option<String> {
        if self.takes_helm_commands() {
            return None;
        }
        let tool = match &self.tool {
            Tool::ArgoCd {
                application: Some(name),
            } => format!(" in the source of Application {name}"),
            Tool::ArgoCd { application: None } => {
                " in the source of the Argo CD Application".to_owned()
            }
            Tool::FluxHelm { name } => format!(" in HelmRelease {name}"),
            Tool::FluxKustomize { name } => format!(" in the source of Kustomization {name}"),
            Tool::Kustomize => " in the kustomize source".to_owned(),
            Tool::Terraform => " in the Terraform source".to_owned(),
            Tool::Helm | Tool::Rendered | Tool::Applied | Tool::Unknown => String::new(),
        };
        Some(match &self.source {
            Source::Operator { resource } => format!(
                "For each stop, set spec.components.image of the Milvus resource {resource}; the \
                 operator moves the components in order."
            ),
            Source::Chart(chart) => match &chart.alias {
                Some(alias) => format!(
                    "Milvus is the dependency {alias} of another chart: for each stop, change its \
                     version there, and set image and values below {alias}{tool}."
                ),
                None => format!(
                    "For each stop, change chart version, image and values of Milvus{tool}."
                ),
            },
            Source::Manifests => {
                format!(
                    "For each stop, change the images{tool}, component by component in the order \
                     of the stop."
                )
            }
        })
    }

    /// What both sides of a change say together. A render lacks the marks of the tool that applies
    /// it, and one object lacks its neighbours, so the more specific side counts.
    #[must_use]
    pub fn join(before: &Self, after: &Self) -> Self {
        let source = match (&before.source, &after.source) {
            (Source::Manifests, other) => other.clone(),
            (one @ Source::Operator { .. }, _)
            | (one, Source::Manifests)
            | (_, one @ Source::Operator { .. }) => one.clone(),
            (Source::Chart(before), Source::Chart(after)) => {
                // After a change of the chart the wanted one reads the values.
                let vendor = if after.vendor == Vendor::Zilliz {
                    before.vendor
                } else {
                    after.vendor
                };
                let below = if after.alias.is_some() { after } else { before };
                Source::Chart(ChartSource {
                    vendor,
                    alias: below.alias.clone(),
                    between: below.between.clone(),
                    umbrella: after.umbrella.clone().or_else(|| before.umbrella.clone()),
                })
            }
        };
        let tool = if before.tool.weight() > after.tool.weight() {
            before.tool.clone()
        } else {
            after.tool.clone()
        };
        Self { source, tool }
    }
}

impl Tool {
    /// How much a tool outweighs another one that the other side of the change names.
    const fn weight(&self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Rendered => 1,
            Self::Helm => 2,
            Self::Applied => 3,
            Self::Kustomize | Self::Terraform => 4,
            Self::FluxKustomize { .. } => 5,
            Self::FluxHelm { .. } => 6,
            Self::ArgoCd { .. } => 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_a_change_count() {
        let plain = Manager::plain_chart();
        let alias = ChartSource {
            alias: Some("vec".into()),
            ..ChartSource::default()
        };
        let rendered = Manager {
            source: Source::Chart(alias.clone()),
            tool: Tool::Rendered,
        };
        let joined = Manager::join(&plain, &rendered);
        assert_eq!(
            joined,
            Manager {
                source: Source::Chart(alias),
                tool: Tool::Helm
            }
        );
        assert_eq!(
            Manager::join(&Manager::operator("m"), &Manager::default()),
            Manager::operator("m")
        );
        let argo = Manager {
            tool: Tool::ArgoCd { application: None },
            ..plain.clone()
        };
        assert_eq!(Manager::join(&argo, &plain).tool, argo.tool);
        assert_eq!(Manager::join(&plain, &argo).tool, argo.tool);
    }
}
