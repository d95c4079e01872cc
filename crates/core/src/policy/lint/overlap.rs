//! Whether two policies may apply to one namespace, by what they ask of its labels.

use std::collections::{BTreeMap, BTreeSet};

use super::NAMESPACE_NAME;
use crate::api::policy::{LabelOperator, Match};

/// What two matches together ask of one label of a namespace.
#[derive(Default)]
struct LabelDemand<'a> {
    allowed: Option<BTreeSet<&'a str>>,
    forbidden: BTreeSet<&'a str>,
    present: bool,
    absent: bool,
}

impl<'a> LabelDemand<'a> {
    fn one_of(&mut self, values: impl Iterator<Item = &'a str>) {
        let values: BTreeSet<&str> = values.collect();
        self.allowed = Some(match self.allowed.take() {
            Some(allowed) => allowed.intersection(&values).copied().collect(),
            None => values,
        });
        self.present = true;
    }

    fn can_be_met(&self) -> bool {
        !(self.present && self.absent)
            && self
                .allowed
                .as_ref()
                .is_none_or(|allowed| !allowed.is_subset(&self.forbidden))
    }
}

/// Whether one release can be meant by both. Where that is not known (labels that may stand
/// together), it can.
pub(super) fn overlap(one: &Match, other: &Match) -> bool {
    let apart = |a: &[String], b: &[String]| {
        !a.is_empty() && !b.is_empty() && !a.iter().any(|name| b.contains(name))
    };
    if apart(&one.releases, &other.releases) {
        return false;
    }
    let mut labels: BTreeMap<&str, LabelDemand<'_>> = BTreeMap::new();
    for part in [one, other] {
        if !part.namespaces.is_empty() {
            labels
                .entry(NAMESPACE_NAME)
                .or_default()
                .one_of(part.namespaces.iter().map(String::as_str));
        }
        let Some(selector) = &part.namespace_selector else {
            continue;
        };
        for (key, value) in &selector.match_labels {
            labels
                .entry(key)
                .or_default()
                .one_of(std::iter::once(value.as_str()));
        }
        for expression in &selector.match_expressions {
            let demand = labels.entry(&expression.key).or_default();
            let values = expression.values.iter().map(String::as_str);
            match expression.operator {
                LabelOperator::In => demand.one_of(values),
                LabelOperator::NotIn => demand.forbidden.extend(values),
                LabelOperator::Exists => demand.present = true,
                LabelOperator::DoesNotExist => demand.absent = true,
            }
        }
    }
    labels.values().all(LabelDemand::can_be_met)
}
