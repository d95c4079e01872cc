//! The name that was probably meant.

use strsim::osa_distance;

use crate::rules::{self, Rule};

/// A question that names the rules nearest to an unknown one; empty where none is near, or too many
/// are.
pub(super) fn did_you_mean(id: &str) -> String {
    if id.len() > MAX_TYPO {
        return String::new();
    }
    let letters: String = id
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_uppercase();
    let as_id = if letters.starts_with(|first: char| first.is_ascii_digit()) {
        format!("MG{letters}")
    } else {
        letters
    };
    let as_name = id.to_ascii_lowercase().replace(['_', ' '], "-");
    let distances = rules::ALL.iter().filter_map(|rule| {
        let by_id = Some(osa_distance(&as_id, rule.id)).filter(|distance| *distance <= 1);
        let by_name = Some(osa_distance(&as_name, rule.name))
            .filter(|distance| *distance <= rule.name.len() / 4);
        Some((by_id.into_iter().chain(by_name).min()?, *rule))
    });
    let near: Vec<(usize, &Rule)> = distances.collect();
    let best = near.iter().map(|(distance, _)| *distance).min();
    let names: Vec<String> = near
        .iter()
        .filter(|(distance, _)| Some(*distance) == best)
        .map(|(_, rule)| format!("{} ({})", rule.id, rule.name))
        .collect();
    if names.is_empty() || names.len() > 3 {
        String::new()
    } else {
        format!("; did you mean {}?", names.join(" or "))
    }
}

/// Longer texts are not a mistyped rule.
const MAX_TYPO: usize = 64;

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn suggestions_are_few_or_none() {
        assert_eq!(
            did_you_mean("MG-201"),
            "; did you mean MG201 (component-order)?"
        );
        assert_eq!(
            did_you_mean("201"),
            "; did you mean MG201 (component-order)?"
        );
        assert_eq!(
            did_you_mean("Component_Order"),
            "; did you mean MG201 (component-order)?"
        );
        assert_eq!(
            did_you_mean("MG021"),
            "; did you mean MG201 (component-order)?",
            "two letters swapped are one mistake"
        );
        assert_eq!(did_you_mean("MG209"), "", "every 20x is as near");
        assert_eq!(did_you_mean("something-else-altogether"), "");
        assert_eq!(did_you_mean(&"MG".repeat(500)), "");
    }
}
