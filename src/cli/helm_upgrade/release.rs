//! Judges what Helm rendered against the release in the cluster.

use std::env;

use serde_json::Value;
use tokio::runtime::Runtime;

use milvus_guard_core::{
    admission::acceptance::{ACCEPT, from_label},
    evaluate::Verdict,
    milvus::Version,
    policy::Action,
    report::{Format, InputEntry, ReleaseEntry, Report, Show, render},
    rules::advice::CHART,
};
use milvus_guard_sources::files::part::Choice;

use super::{
    process::{RENDERED, Upgrade},
    target::{HelmTarget, environment, long_value, short_value},
};
use crate::cli::{
    exit::Failure,
    gather::{ClusterArgs, Gatherer, Source},
    judging::{Change, Judged, JudgingArgs},
    output::{self, Screen},
    runtime,
};

/// What to judge, and in which cluster.
#[derive(Debug)]
pub(in crate::cli) struct Question<'a> {
    pub(in crate::cli) judging: &'a JudgingArgs,
    pub(in crate::cli) cluster: &'a ClusterArgs,
    pub(in crate::cli) namespace: &'a str,
    /// The manifests that Helm rendered.
    pub(in crate::cli) after: &'a Source,
    pub(in crate::cli) choice: Choice,
    /// Rules that the deployer accepts.
    pub(in crate::cli) accepted: &'a [String],
    /// Version of the Helm that makes the change, if known.
    pub(in crate::cli) helm: Option<Version>,
}

impl Question<'_> {
    /// The number of the next revision of a release in Helm.
    pub(in crate::cli) fn next_revision(&self, name: &str) -> Result<u64, Failure> {
        let runtime = runtime::runtime()?;
        self.gatherer(&runtime).next_revision(name)
    }

    fn gatherer<'a>(&'a self, runtime: &'a Runtime) -> Gatherer<'a> {
        Gatherer {
            runtime,
            cluster: self.cluster,
            namespace: Some(self.namespace),
            instance: None,
        }
    }

    /// Judges against this state; `None` for a new installation.
    pub(in crate::cli) fn against(&self, before: Option<&Source>) -> Result<Report, Failure> {
        Ok(self.judge(before)?.report)
    }

    fn judge(&self, before: Option<&Source>) -> Result<Judged, Failure> {
        let runtime = runtime::runtime()?;
        let change = Change {
            before,
            after: self.after,
            choice: self.choice,
            is_rollback: false,
            accepted: self.accepted,
            helm: self.helm,
        };
        self.judging.judge(&self.gatherer(&runtime), &change)
    }

    /// Judges against the running state. If nothing of the release runs, judges against the
    /// revision that Helm deployed last: its data may still exist.
    pub(in crate::cli) fn against_cluster(
        &self,
        instance: Option<&str>,
    ) -> Result<Report, Failure> {
        let Judged {
            mut report,
            running,
        } = self.judge(Some(&Source::Live))?;
        let wanted = report.releases.iter().map(|release| &release.name);
        let mut names: Vec<String> = wanted.cloned().collect();
        // If one of the releases runs, the others are new parts of the Helm release: a hook, or a
        // second Milvus of an umbrella chart.
        if names.is_empty() || names.iter().any(|name| running.contains(name)) {
            return Ok(report);
        }
        if let Some(instance) = instance {
            names = vec![instance.to_owned()];
        }
        if let Some(driver) = unreadable_driver() {
            report.inputs.push(InputEntry {
                role: "before".into(),
                source: format!("release:{}", names[0]),
                not_read: vec![format!(
                    "Helm's storage: HELM_DRIVER is {driver}; only the running state is known"
                )],
                ..InputEntry::default()
            });
            return Ok(report);
        }
        let runtime = runtime::runtime()?;
        for name in names {
            if self.gatherer(&runtime).is_deployed(&name)? {
                let revision = None;
                return self.against(Some(&Source::Revision { name, revision }));
            }
        }
        Ok(report)
    }
}

/// Renders an upgrade and judges it against the release in the cluster.
pub(in crate::cli) fn judge(upgrade: &Upgrade, judging: &JudgingArgs) -> Result<Report, Failure> {
    let target = HelmTarget::of(&upgrade.words(), &environment);
    // A target that cannot be found is reported before Helm runs.
    target.namespace()?;
    let printed = upgrade.render()?;
    judge_rendered(upgrade, &target, judging, &printed)
}

/// Judges what Helm printed against the release in the cluster.
pub(in crate::cli) fn judge_rendered(
    upgrade: &Upgrade,
    target: &HelmTarget,
    judging: &JudgingArgs,
    printed: &str,
) -> Result<Report, Failure> {
    let (cluster, namespace) = (target.cluster(), target.namespace()?);
    let release: Value = serde_json::from_str(printed).map_err(|error| {
        Failure::no_verdict(format!("what Helm printed is not a release: {error}"))
    })?;
    let revision = release["version"].as_u64().unwrap_or_default();
    let after = Source::Text {
        name: RENDERED,
        text: printed.into(),
    };
    let question = Question {
        judging,
        cluster: &cluster,
        namespace: &namespace,
        after: &after,
        choice: Choice::Seen,
        accepted: &accepted(&upgrade.words(), revision),
        helm: upgrade.version(),
    };
    let mut report = question.against_cluster(release["name"].as_str())?;
    name_chart(&mut report, upgrade.published_chart().as_deref());
    Ok(report)
}

/// Names the user's chart in the commands of a report, instead of the chart of the Milvus project
/// under the name that its documentation gives its repository.
fn name_chart(report: &mut Report, chart: Option<&str>) {
    let Some(chart) = chart else { return };
    for finding in &mut report.findings {
        if let Some(command) = &mut finding.fix.command {
            *command = with_chart(command, chart);
        }
    }
}

/// A command of Helm with another chart; any other command unchanged.
fn with_chart(command: &str, chart: &str) -> String {
    if command.starts_with("helm ") {
        command.replacen(&format!(" {CHART} "), &format!(" {chart} "), 1)
    } else {
        command.to_owned()
    }
}

/// The first release of a report, if all of them are new.
pub(in crate::cli) fn newcomer(report: &Report) -> Option<&str> {
    let is_new = |release: &ReleaseEntry| release.topology.before.is_none();
    let first = report.releases.first()?;
    report.releases.iter().all(is_new).then_some(&first.name)
}

/// The value of `HELM_DRIVER`, if with it Helm's records are not in the cluster's API.
fn unreadable_driver() -> Option<String> {
    let driver = env::var("HELM_DRIVER").ok()?;
    ["sql", "memory"]
        .contains(&driver.as_str())
        .then_some(driver)
}

/// The value of `--labels guard.milvus.io/accept=...`; the webhook reads it from Helm's record.
pub(in crate::cli) fn acceptance(args: &[String]) -> Option<String> {
    let pairs = long_value(args, "--labels").or_else(|| short_value(args, 'l'))?;
    let mut pairs = pairs.split(',').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == ACCEPT)?;
    Some(value.to_owned())
}

/// The rules that the deployer accepts for a revision.
pub(in crate::cli) fn accepted(args: &[String], revision: u64) -> Vec<String> {
    acceptance(args).map_or_else(Vec::new, |value| from_label(&value, revision))
}

/// Refuses a report on standard output, which belongs to Helm.
pub(in crate::cli) fn only_files(judging: &JudgingArgs, whose: &str) -> Result<(), Failure> {
    match judging.format.iter().find(|output| output.path.is_none()) {
        None => Ok(()),
        Some(output) => Err(Failure::usage(format!(
            "standard output is {whose}; give the report a file, as in --format {0}=FILE",
            output.format.name()
        ))),
    }
}

/// Writes the reports that go to files.
pub(in crate::cli) fn write(
    report: &Report,
    judging: &JudgingArgs,
    screen: &Screen,
) -> Result<(), Failure> {
    if judging.format.is_empty() {
        return Ok(());
    }
    output::report(report, &judging.format, |_| judging.show(), screen)
}

/// The report for a person, for standard error.
pub(in crate::cli) fn text(report: &Report, show: Show, screen: &Screen) -> String {
    render(report, Format::Text, &screen.style_stderr(show))
}

/// One line for each warning; `None` if there is nothing to warn of.
pub(in crate::cli) fn warnings(report: &Report) -> Option<String> {
    if report.verdict == Verdict::Allow {
        return None;
    }
    let lines: Vec<String> = report
        .findings
        .iter()
        .filter(|finding| !finding.not_evaluated)
        .filter(|finding| matches!(finding.action, Action::Warn | Action::Hold | Action::Deny))
        .map(|finding| {
            format!(
                "milvus-guard: warning: {} {}: {}\n",
                finding.rule,
                finding.name,
                milvus_guard_core::text::plain(&finding.message)
            )
        })
        .collect();
    (!lines.is_empty()).then(|| lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_the_chart_that_the_user_named() {
        let helm = "helm upgrade r zilliztech/milvus -n milvus --version 4.2.58";
        assert_eq!(
            with_chart(helm, "mirror/milvus"),
            "helm upgrade r mirror/milvus -n milvus --version 4.2.58"
        );
        let other = "milvus-guard upgrade -i r -n milvus -t 2.5.27";
        assert_eq!(with_chart(other, "mirror/milvus"), other);
    }

    #[test]
    fn acceptance_is_read_from_the_labels_of_the_release() {
        let of = |line: &str, revision| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            accepted(&words, revision)
        };
        let line = "r c --labels a=b,guard.milvus.io/accept=MG201_MG205-r8";
        assert_eq!(of(line, 8), ["MG201", "MG205"]);
        assert!(of(line, 9).is_empty());
        assert_eq!(of("r c -l guard.milvus.io/accept=MG201-r2", 2), ["MG201"]);
        assert!(of("r c", 1).is_empty());
    }
}
