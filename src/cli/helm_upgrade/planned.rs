//! One `helm upgrade` that a run carries out in order: it is rendered, judged, searched for added
//! and removed components, and run when everything is paused.

use std::{ffi::OsString, path::Path};

use clap::Parser;
use serde_json::Value;

use milvus_guard_core::{
    evaluate::Verdict,
    milvus::Release,
    policy::Action,
    report::{Report, Show},
    rules::{self, Behavior},
};
use milvus_guard_operations::{
    engine::ReleaseName,
    rolling_upgrade::through_helm::{
        HelmChange,
        change::{ChangeError, Sides},
    },
};
use milvus_guard_sources::files::{Reading, Role, load_text};

use super::{
    process::{RENDERED, Upgrade},
    release::{self, judge_rendered},
    target::{HelmTarget, environment, long_value, short_value},
};
use crate::cli::{exit::Failure, gather::ClusterArgs, judging::JudgingArgs, output::Screen};

/// Flags that replace whole objects, which would resume what is paused.
const REPLACING: [&str; 3] = ["--force", "--force-replace", "--recreate-pods"];
/// Flags with which Helm waits, or rolls back when it fails.
const WAITING: [&str; 4] = [
    "--wait",
    "--wait-for-jobs",
    "--atomic",
    "--rollback-on-failure",
];

/// A `helm upgrade` as the user wrote it.
pub(in crate::cli) struct PlannedUpgrade {
    upgrade: Upgrade,
    target: HelmTarget,
    words: Vec<String>,
}

/// What Helm would send.
pub(in crate::cli) struct Rendered {
    /// The release as Helm prints it in JSON.
    printed: String,
    release: Value,
}

impl Rendered {
    /// A release as Helm prints it in JSON.
    ///
    /// # Errors
    /// If the text is not JSON.
    pub(in crate::cli) fn of(printed: String) -> Result<Self, Failure> {
        let release: Value = serde_json::from_str(&printed).map_err(|error| {
            Failure::no_verdict(format!("what Helm rendered is not a release: {error}"))
        })?;
        Ok(Self { printed, release })
    }

    /// As Helm printed it.
    pub(in crate::cli) fn printed(&self) -> &str {
        &self.printed
    }

    /// The objects, hooks left out.
    pub(in crate::cli) fn manifest(&self) -> &str {
        self.release["manifest"].as_str().unwrap_or_default()
    }

    /// What it changes in a running release of which this revision is deployed.
    ///
    /// # Errors
    /// If it contains no Milvus of this name.
    pub(in crate::cli) fn change(
        &self,
        name: &ReleaseName,
        live: &Release,
        (revision, deployed): (u64, &str),
    ) -> Result<Result<HelmChange, ChangeError>, Failure> {
        // A whole release, grouped at once: nothing is laid over the running state.
        let loaded = load_text(Role::Before, RENDERED, self.manifest(), &Reading::default())
            .map_err(Failure::usage)?;
        let releases = &loaded.snapshot.releases;
        let of_name = || releases.iter().find(|one| one.name == name.name);
        let after = match releases.as_slice() {
            [only] => Some(only),
            _ => of_name(),
        };
        let after = after.ok_or_else(|| {
            Failure::usage(format!(
                "the chart renders no Milvus with the name {}",
                name.name
            ))
        })?;
        Ok(HelmChange::of(&Sides {
            name,
            live,
            after,
            deployed,
            revision,
            rendered: self.manifest(),
        }))
    }

    /// The name of the release.
    pub(in crate::cli) fn name(&self) -> &str {
        self.release["name"].as_str().unwrap_or_default()
    }
}

impl PlannedUpgrade {
    /// Takes `helm upgrade RELEASE CHART FLAGS`, and the cluster that our own flags name.
    ///
    /// # Errors
    /// Wrong usage.
    pub(in crate::cli) fn of(
        line: &[OsString],
        namespace: Option<&str>,
        cluster: &ClusterArgs,
    ) -> Result<Self, Failure> {
        let [program, verb, args @ ..] = line else {
            return Err(Failure::usage(WHOLE_COMMAND));
        };
        let name = Path::new(program).file_name().unwrap_or_default();
        if verb != "upgrade" || !name.to_string_lossy().starts_with("helm") {
            return Err(Failure::usage(WHOLE_COMMAND));
        }
        let words: Vec<String> = args
            .iter()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        check_flags(&words)?;
        let mut target = HelmTarget::of(&words, &environment);
        let named = short_value(&words, 'n').or_else(|| long_value(&words, "--namespace"));
        target.namespace =
            agreed("--namespace", named, namespace.map(str::to_owned))?.or(target.namespace);
        let named = long_value(&words, "--kube-context");
        target.context =
            agreed("--kube-context", named, cluster.context.clone())?.or(target.context);
        let kubeconfig = cluster.kubeconfig.clone();
        target.kubeconfig = agreed("--kubeconfig", target.kubeconfig, kubeconfig)?;
        let mut upgrade = Upgrade::by(program.clone(), args)?;
        upgrade.needs_chart("")?;
        upgrade.set_variables(target.variables()?);
        Ok(Self {
            upgrade,
            target,
            words,
        })
    }

    /// The cluster that Helm uses.
    pub(in crate::cli) fn cluster(&self) -> ClusterArgs {
        self.target.cluster()
    }

    /// The namespace that Helm uses.
    pub(in crate::cli) fn namespace(&self) -> Result<String, Failure> {
        self.target.namespace()
    }

    /// A remark about flags that have another meaning here.
    pub(in crate::cli) fn remark(&self) -> Option<String> {
        let named = WAITING.iter().find(|flag| has(&self.words, flag))?;
        Some(format!(
            "Helm counts a paused Deployment as ready, so {named} does not wait for the components \
             of Milvus. This command waits until every one of them is new."
        ))
    }

    /// Renders what Helm would send; nothing is changed.
    ///
    /// # Errors
    /// If Helm cannot render it, or if it is about another release than `wanted`.
    pub(in crate::cli) fn render(&self, wanted: Option<&str>) -> Result<Rendered, Failure> {
        let rendered = Rendered::of(self.upgrade.render()?)?;
        match wanted.filter(|wanted| *wanted != rendered.name()) {
            None => Ok(rendered),
            Some(wanted) => Err(Failure::usage(format!(
                "-i is {wanted}, but Helm would upgrade {}",
                rendered.name()
            ))),
        }
    }

    /// Judges it as `check` does, except for the order, which the run ensures. `Err` is the reason
    /// of a denial, `Ok` the warnings.
    pub(in crate::cli) fn judge(
        &self,
        rendered: &Rendered,
        screen: &Screen,
    ) -> Result<Result<Option<String>, String>, Failure> {
        let judging = default_judging()?;
        let target = &self.target;
        let mut report = judge_rendered(&self.upgrade, target, &judging, &rendered.printed)?;
        leave_out_order(&mut report);
        if report.verdict == Verdict::Deny {
            return Ok(Err(release::text(&report, Show::Warn, screen)));
        }
        Ok(Ok(release::warnings(&report)))
    }

    /// What it changes in a running release.
    pub(in crate::cli) fn change(
        &self,
        rendered: &Rendered,
        name: &ReleaseName,
        live: &Release,
    ) -> Result<Result<HelmChange, ChangeError>, Failure> {
        let (revision, deployed) = self.upgrade.deployed(&name.name)?;
        rendered.change(name, live, (revision, &deployed))
    }

    /// Runs the upgrade, with Helm's output on standard error. Returns the exit code of Helm.
    pub(in crate::cli) fn run(&self) -> Result<u8, Failure> {
        self.upgrade.run_to_stderr()
    }
}

const WHOLE_COMMAND: &str =
    "write the whole command of Helm after --, as in: -- helm upgrade my-release CHART --set a=b";

/// Refuses flags that cannot be carried out in order.
fn check_flags(words: &[String]) -> Result<(), Failure> {
    if words.iter().any(|word| word.starts_with("--dry-run")) {
        return Err(Failure::usage(
            "give --dry-run before --, so that the plan is printed and nothing is changed",
        ));
    }
    match REPLACING.iter().find(|flag| has(words, flag)) {
        Some(flag) => Err(Failure::usage(format!(
            "{flag} replaces whole objects, which resumes what is paused: all components would roll \
             at the same time. Leave it out"
        ))),
        None => Ok(()),
    }
}

fn has(words: &[String], flag: &str) -> bool {
    let is = |word: &String| {
        word == flag
            || word
                .strip_prefix(flag)
                .and_then(|rest| rest.strip_prefix('='))
                .is_some_and(|value| value != "false")
    };
    words.iter().any(is)
}

/// A value that may be given at two places; an error if they differ.
fn agreed<T: PartialEq + std::fmt::Debug>(
    flag: &str,
    helms: Option<T>,
    ours: Option<T>,
) -> Result<Option<T>, Failure> {
    match (helms, ours) {
        (Some(helms), Some(ours)) if helms != ours => Err(Failure::usage(format!(
            "{flag} of Helm is {helms:?}, and before -- it is {ours:?}: give it once"
        ))),
        (helms, ours) => Ok(helms.or(ours)),
    }
}

/// Judging with the policies and the facts of the cluster only.
pub(in crate::cli) fn default_judging() -> Result<JudgingArgs, Failure> {
    #[derive(Parser)]
    struct Defaults {
        #[command(flatten)]
        judging: JudgingArgs,
    }
    let defaults = Defaults::try_parse_from(["check"]).map_err(Failure::usage)?;
    Ok(defaults.judging)
}

/// Removes the findings about order, which the run itself ensures.
pub(in crate::cli) fn leave_out_order(report: &mut Report) {
    let is_ours =
        |id: &str| rules::find(id).is_some_and(|rule| rule.has(Behavior::HandledByUpgrade));
    report.findings.retain(|finding| !is_ours(&finding.rule));
    let actions = || report.findings.iter().map(|finding| finding.action);
    report.verdict = if actions().any(|action| action == Action::Deny) {
        Verdict::Deny
    } else if actions().any(|action| matches!(action, Action::Hold | Action::Warn)) {
        Verdict::Warn
    } else {
        Verdict::Allow
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<PlannedUpgrade, String> {
        let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let cluster = ClusterArgs::default();
        PlannedUpgrade::of(&line, Some("milvus"), &cluster).map_err(|failure| failure.message)
    }

    #[test]
    fn incomplete_helm_commands_and_flags_that_break_the_order_are_refused() {
        let planned = of("/opt/helm3 upgrade r c --set a=b").unwrap();
        assert_eq!(planned.namespace().unwrap(), "milvus");
        assert!(planned.remark().is_none());
        assert!(of("helm upgrade r c --wait").unwrap().remark().is_some());
        let refused = |line: &str| of(line).err().unwrap_or_default();
        assert!(refused("upgrade r c").contains("the whole command"));
        assert!(refused("helm rollback r 1").contains("the whole command"));
        assert!(refused("helm upgrade r c --dry-run=server").contains("before --"));
        assert!(refused("helm upgrade r c --force").contains("--force replaces"));
        assert!(refused("helm upgrade r c -n other").contains("give it once"));
        assert_eq!(refused("helm upgrade r c -n milvus --force=false"), "");
    }
}
