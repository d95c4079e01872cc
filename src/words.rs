//! Counts in words.

/// A number with its noun, in the plural where the number is not one: "1 warning", "2 warnings".
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {}", plural(noun)) }
}

/// The regular plural of an English noun, or of a Kubernetes kind: `Ingress` becomes `Ingresses`, `NetworkPolicy`
/// `NetworkPolicies`.
#[must_use]
pub fn plural(noun: &str) -> String {
    let before_y = noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u']));
    match before_y {
        Some(stem) => format!("{stem}ies"),
        None if noun == "Endpoints" => noun.to_owned(),
        None if noun.ends_with(['s', 'x']) || noun.ends_with("ch") || noun.ends_with("sh") => format!("{noun}es"),
        None => format!("{noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::count;

    #[rstest]
    #[case(0, "warning", "0 warnings")]
    #[case(1, "warning", "1 warning")]
    #[case(2, "Deployment", "2 Deployments")]
    #[case(2, "Ingress", "2 Ingresses")]
    #[case(2, "NetworkPolicy", "2 NetworkPolicies")]
    #[case(2, "Gateway", "2 Gateways")]
    fn counts(#[case] number: usize, #[case] noun: &str, #[case] words: &str) {
        assert_eq!(count(number, noun), words);
    }
}
