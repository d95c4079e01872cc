//! Why a release cannot be upgraded by rolling. Every reason names what to do first. Pure.

use crate::engine::release;
use milvus_guard_core::{
    evidence::Facts,
    milvus::{Build, Release, manager::Source, release::DECLARED_VERSION, release::VersionRead},
};

/// Why this release can never be upgraded by this verb; `None` if it can.
#[must_use]
pub fn unsupported(release: &Release) -> Option<String> {
    let name = &release.name;
    match release.manager.source {
        Source::Operator { .. } => {
            return Some(format!(
                "{name} is managed by milvus-operator, which would undo every step and rolls in \
                 order by itself; change the image in its own object"
            ));
        }
        Source::Manifests => {
            return Some(format!(
                "nothing says that Helm installed {name} (label app.kubernetes.io/managed-by), \
                 and only such a release can agree with what is done here; move its components by \
                 hand, in the order of milvus-guard plan"
            ));
        }
        Source::Chart(_) => {}
    }
    let other = release
        .components
        .iter()
        .find(|component| component.workload.meta.object.kind != "Deployment");
    other.map(|component| {
        let object = &component.workload.meta.object;
        format!(
            "{} runs as {} {}; the Milvus chart runs it as a Deployment, and only that is \
             supported",
            component.component, object.kind, object.name
        )
    })
}

/// Why the running version is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownSource {
    /// The version cannot be read from the tag of a running component.
    #[error(
        "the version of Deployment {name} cannot be read from its image {image}; say it with the \
         annotation {DECLARED_VERSION}: \"VERSION for {image}\""
    )]
    Image {
        /// The Deployment.
        name: String,
        /// Its image.
        image: String,
    },
    /// No component has a known version.
    #[error("no component of {0} says its version")]
    Release(String),
}

/// The running version: the lowest, because that is the oldest that wrote data.
///
/// # Errors
/// If it cannot be determined.
pub fn source(release: &Release) -> Result<Build, UnknownSource> {
    if let Some(unknown) = release
        .components
        .iter()
        .find(|one| one.is_running() && one.version() == VersionRead::Unknown)
    {
        return Err(UnknownSource::Image {
            name: unknown.workload.meta.object.name.clone(),
            image: unknown.image().to_string(),
        });
    }
    release
        .lowest()
        .ok_or_else(|| UnknownSource::Release(release.name.clone()))
}

/// Why this release cannot be upgraded now, although it could be; `None` if it can.
#[must_use]
pub fn blocked(release: &Release, facts: &Facts) -> Option<String> {
    if release.is_stopped() {
        return Some(format!(
            "every component of {} is scaled to zero, so nothing has to roll: start it on its \
             version, or upgrade it with Helm",
            release.name
        ));
    }
    if let Some(paused) = release
        .components
        .iter()
        .find(|component| component.workload.paused)
    {
        let (name, namespace) = (
            &paused.workload.meta.object.name,
            release.namespace.as_deref().unwrap_or("default"),
        );
        return Some(format!(
            "Deployment {name} is paused and would never roll; resume it first: kubectl rollout \
             resume deployment/{name} -n {namespace}"
        ));
    }
    release::self_healing(release, facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use milvus_guard_core::milvus::Manager;
    use milvus_guard_core::{evidence::DeployerFact, rules::testing::Fixture};

    #[test]
    fn a_healthy_helm_release_meets_the_preconditions() {
        let fit = Fixture::cluster("2.4.5").release();
        assert_eq!(
            (unsupported(&fit), blocked(&fit, &Facts::default())),
            (None, None)
        );
        assert_eq!(source(&fit).unwrap().to_string(), "2.4.5");
    }

    #[test]
    fn other_releases_are_refused_with_what_to_do_first() {
        let said = |why: Option<String>, part: &str| {
            let why = why.unwrap();
            assert!(why.contains(part), "{why}");
        };
        let fit = Fixture::cluster("2.4.5").release();
        said(
            unsupported(&Release {
                manager: Manager::operator("my-release"),
                ..fit.clone()
            }),
            "managed by milvus-operator",
        );
        said(
            unsupported(&Release {
                manager: Manager::default(),
                ..fit.clone()
            }),
            "nothing says that Helm installed",
        );
        said(
            blocked(
                &Fixture::cluster("2.4.5").stopped().release(),
                &Facts::default(),
            ),
            "scaled to zero",
        );
        let mut paused = fit.clone();
        std::sync::Arc::make_mut(&mut paused.components[0].workload).paused = true;
        said(
            blocked(&paused, &Facts::default()),
            "kubectl rollout resume deployment/",
        );
        let deployer = DeployerFact {
            release: fit.name.clone(),
            tool: "flux".into(),
            name: "milvus".into(),
            self_heal: true,
            retry_limit: None,
        };
        said(
            blocked(
                &fit,
                &Facts {
                    deployers: Some(vec![deployer]),
                    ..Facts::default()
                },
            ),
            "flux suspend helmrelease milvus",
        );
        said(
            source(&Fixture::cluster("2.4.5").tag("latest").release())
                .err()
                .map(|why| why.to_string()),
            "cannot be read from its image milvusdb/milvus:latest",
        );
    }
}
