//! The hooks of the chart `milvus-upgrade`, with which one `helm upgrade` rolls Milvus in order:
//! before Helm changes anything a Job pauses the components, afterwards another one releases them.

use serde_json::Value;

use super::StoredRelease;
use crate::manifest::{Budget, documents_within};

/// Flag of `milvus-guard upgrade` in such a hook; its value is the moment.
pub const FLAG: &str = "--helm-hook=";

/// When Helm runs a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelmHook {
    /// Before it changes an object.
    PreUpgrade,
    /// After it has changed all.
    PostUpgrade,
    /// After `helm rollback` has changed all.
    PostRollback,
}

impl HelmHook {
    /// As the annotation `helm.sh/hook` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreUpgrade => "pre-upgrade",
            Self::PostUpgrade => "post-upgrade",
            Self::PostRollback => "post-rollback",
        }
    }
}

impl StoredRelease {
    /// Whether the hooks of this revision pause and release Milvus of this release in order: a Job
    /// before the upgrade and one after it, each with the command of its moment. What cannot be read
    /// does not count.
    #[must_use]
    pub fn has_order_hooks(&self, budget: &Budget<'_>) -> bool {
        let texts = self.hooks.iter().filter(|text| text.contains(FLAG));
        let jobs: Vec<Value> = texts
            .flat_map(|text| documents_within(text, budget))
            .filter_map(|document| Some(document.ok()?.root.to_json()))
            .filter(|object| object["kind"] == "Job")
            .collect();
        [HelmHook::PreUpgrade, HelmHook::PostUpgrade]
            .iter()
            .all(|hook| jobs.iter().any(|job| self.is_order_hook(job, *hook)))
    }

    fn is_order_hook(&self, job: &Value, hook: HelmHook) -> bool {
        let moments = job["metadata"]["annotations"]["helm.sh/hook"].as_str();
        let mut moments = moments.unwrap_or_default().split(',');
        let is_at_moment = moments.any(|moment| moment.trim() == hook.name());
        let containers = job["spec"]["template"]["spec"]["containers"].as_array();
        is_at_moment
            && containers
                .into_iter()
                .flatten()
                .any(|one| self.orders(one, hook))
    }

    fn orders(&self, container: &Value, hook: HelmHook) -> bool {
        let args = container["args"].as_array();
        let args: Vec<&str> = args
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let has = |wanted: &str| args.contains(&wanted);
        args.first() == Some(&"upgrade")
            && has(&format!("{FLAG}{}", hook.name()))
            && has(&format!("--instance={}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::manifest::Tree;

    fn job(moment: &str, args: &str) -> String {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: a, annotations: {{helm.sh/hook: \
             '{moment}'}}}}\nspec: {{template: {{spec: {{containers: [{{name: upgrade, args: \
             [{args}]}}]}}}}}}\n"
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
    #[case::in_one_text(&[ordered("pre-upgrade") + "---\n" + &ordered("post-upgrade")], true)]
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
    #[case::not_yaml(&[ordered("post-upgrade"), "--helm-hook=pre-upgrade: {".into()], false)]
    fn both_moments_of_this_release_are_needed(#[case] hooks: &[String], #[case] expected: bool) {
        let stored = StoredRelease {
            name: "my-release".into(),
            namespace: Some("milvus".into()),
            revision: 3,
            status: "pending-upgrade".into(),
            manifest: String::new(),
            hooks: hooks.to_vec(),
            user_values: Tree::string(""),
            chart: None,
            unread_values: None,
        };
        assert_eq!(stored.has_order_hooks(&Budget::default()), expected);
    }
}
