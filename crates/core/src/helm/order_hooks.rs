//! The hooks of the chart `milvus-upgrade`, with which one `helm upgrade` rolls Milvus in order:
//! before Helm changes anything a Job pauses the components, afterwards another one releases them.

use std::sync::Arc;

use crate::manifest::{
    Object,
    object::{Container, Workload},
};

/// Flag of `milvus-guard upgrade` in such a hook; its value is the moment.
const FLAG: &str = "--helm-hook=";
/// Annotation with the moments at which Helm makes an object.
const MOMENTS: &str = "helm.sh/hook";

/// When Helm runs a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HelmHook {
    /// Before it changes an object.
    PreUpgrade,
    /// After it has changed all.
    PostUpgrade,
}

impl HelmHook {
    /// As the annotation has it.
    const fn name(self) -> &'static str {
        match self {
            Self::PreUpgrade => "pre-upgrade",
            Self::PostUpgrade => "post-upgrade",
        }
    }
}

/// A workload that Helm makes as a hook; `None` for any other object.
#[must_use]
pub fn as_hook(object: &Object) -> Option<Arc<Workload>> {
    match object {
        Object::Workload(workload) if workload.meta.annotation(MOMENTS).is_some() => {
            Some(Arc::clone(workload))
        }
        _ => None,
    }
}

/// Whether these hooks pause and release Milvus of a release in order: a Job
/// before the upgrade and one after it, each with the command of its moment.
#[must_use]
pub fn order(hooks: &[Arc<Workload>], release: &str) -> bool {
    [HelmHook::PreUpgrade, HelmHook::PostUpgrade]
        .into_iter()
        .all(|moment| hooks.iter().any(|one| is_order_hook(one, release, moment)))
}

fn is_order_hook(job: &Workload, release: &str, hook: HelmHook) -> bool {
    let mut moments = job.meta.annotation(MOMENTS).unwrap_or_default().split(',');
    job.meta.object.kind == "Job"
        && moments.any(|moment| moment.trim() == hook.name())
        && job
            .pod
            .containers
            .iter()
            .any(|one| has_command(one, release, hook))
}

fn has_command(container: &Container, release: &str, hook: HelmHook) -> bool {
    let has = |wanted: &str| container.command.iter().any(|word| word == wanted);
    container
        .command
        .first()
        .is_some_and(|verb| verb == "upgrade")
        && has(&format!("{FLAG}{}", hook.name()))
        && has(&format!("--instance={release}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::manifest::{Origin, documents};

    use super::*;

    fn job(moment: &str, args: &str) -> String {
        format!(
            "---\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: a, annotations: {{helm.sh/hook: \
             '{moment}'}}}}\nspec: {{template: {{spec: {{containers: [{{name: upgrade, image: a, \
             args: [{args}]}}]}}}}}}\n"
        )
    }

    fn ordered(moment: &str) -> String {
        job(
            moment,
            &format!("upgrade, --instance=my-release, --helm-hook={moment}"),
        )
    }

    #[rstest]
    #[case::both(&[ordered("pre-upgrade"), ordered("post-upgrade")], true)]
    #[case::several_moments(&[ordered("post-upgrade"),
        job("pre-install, pre-upgrade", "upgrade, --instance=my-release, --helm-hook=pre-upgrade")], true)]
    #[case::none(&[], false)]
    #[case::only_before(&[ordered("pre-upgrade")], false)]
    #[case::only_after(&[ordered("post-upgrade")], false)]
    #[case::of_another_release(&[ordered("post-upgrade"),
        job("pre-upgrade", "upgrade, --instance=other, --helm-hook=pre-upgrade")], false)]
    #[case::at_another_moment(&[ordered("post-upgrade"),
        job("test", "upgrade, --instance=my-release, --helm-hook=pre-upgrade")], false)]
    #[case::another_verb(&[ordered("post-upgrade"),
        job("pre-upgrade", "verify, --instance=my-release, --helm-hook=pre-upgrade")], false)]
    #[case::another_kind(&[ordered("post-upgrade"),
        ordered("pre-upgrade").replace("kind: Job", "kind: Deployment")], false)]
    fn both_moments_of_this_release_are_needed(#[case] hooks: &[String], #[case] expected: bool) {
        let text = hooks.concat();
        let origin = Origin {
            source: "test".into(),
            document: 1,
            line: 0,
        };
        let hooks: Vec<_> = documents(&text)
            .filter_map(|document| Object::read(&document.unwrap().root, &origin, Some("milvus")))
            .filter_map(|object| as_hook(&object))
            .collect();
        assert_eq!(order(&hooks, "my-release"), expected);
    }
}
