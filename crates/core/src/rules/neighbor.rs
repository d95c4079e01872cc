//! What rules say of a new release next to one that runs.

use crate::change::Upgrade;

use super::Findings;

/// Denies a new release that would do something as the running one does.
pub(super) fn deny(
    upgrade: &Upgrade<'_>,
    findings: &mut Findings,
    does: &str,
    why: &'static str,
    fix: &'static str,
) {
    findings.checked();
    let Some((running, new)) = upgrade.both() else {
        return;
    };
    let finding = findings.deny(format!(
        "{} would {does} {}, which has other metadata",
        new.label(),
        running.label()
    ));
    finding.because(why).fix(fix);
    if let Some(first) = new.components.first() {
        finding.on(first);
    }
}
