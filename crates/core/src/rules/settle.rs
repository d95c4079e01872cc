//! Commands for findings. One command must carry what all findings of a change need, so it is made
//! after all rules have run.

use crate::change::Upgrade;

use super::{
    Category, Finding, Severity,
    advice::{ChartPin, Cure},
};

/// Makes the commands, once all rules have spoken. One command carries what all findings need;
/// where a denial would be left, no command is made.
pub(super) fn settle(upgrade: &Upgrade<'_>, findings: &mut [Finding]) {
    if !findings.iter().any(|finding| finding.cure.is_some()) {
        return;
    }
    let advice = upgrade.advice();
    let denies = |finding: &&Finding| finding.severity == Severity::Deny;
    let mut pins: Vec<ChartPin> = Vec::new();
    let mut fits = true;
    for finding in findings.iter() {
        match &finding.cure {
            Some(Cure::Values(values)) => {
                for value in values {
                    match pins.iter().find(|pin| pin.path == value.path) {
                        Some(pin) => fits &= pin == value,
                        None => pins.push(value.clone()),
                    }
                }
            }
            Some(Cure::OrderedUpgrade) | None => fits &= finding.severity != Severity::Deny,
        }
    }
    let helm = advice
        .helm_upgrade(&pins)
        .filter(|_| fits && !pins.is_empty());
    let barred = findings
        .iter()
        .filter(denies)
        .any(|finding| finding.rule.category == Category::Version);
    let ordered = advice.ordered_upgrade().filter(|_| !barred);
    for finding in findings.iter_mut() {
        match &finding.cure {
            Some(Cure::Values(_)) => finding.fix.command.clone_from(&helm),
            Some(Cure::OrderedUpgrade) => finding.fix.command.clone_from(&ordered),
            None => {}
        }
    }
}
