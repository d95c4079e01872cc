//! Whether a node has room for a new pod before an old one ends. Pure.

use std::fmt;

/// CPU and memory: what a pod requests, or what a node has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
}

/// A Deployment that starts a new pod before an old one ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surge {
    /// Its name.
    pub deployment: String,
    /// What one pod requests.
    pub asks: Resources,
}

impl Resources {
    /// Reads values in Kubernetes' notation; absent or unreadable values count as zero.
    #[must_use]
    pub fn read(cpu: Option<&str>, memory: Option<&str>) -> Self {
        let of = |text: Option<&str>, unit| text.and_then(|text| quantity(text, unit)).unwrap_or(0);
        Self {
            cpu: of(cpu, 1000.0),
            memory: of(memory, 1.0),
        }
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    /// What is left after subtracting the other.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
        }
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.max(other.cpu),
            memory: self.memory.max(other.memory),
        }
    }

    fn fits(self, room: Self) -> bool {
        self.cpu <= room.cpu && self.memory <= room.memory
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cores, thousandths) = (self.cpu / 1000, self.cpu % 1000);
        let mib = self.memory / (1024 * 1024);
        if thousandths == 0 {
            write!(f, "{cores} CPU, {mib} MiB")
        } else {
            write!(f, "{}m CPU, {mib} MiB", self.cpu)
        }
    }
}

/// A quantity as Kubernetes writes it (`500m`, `2`, `1.5Gi`, `1e3`), times a unit.
fn quantity(text: &str, unit: f64) -> Option<i64> {
    const SUFFIXES: [(&str, f64); 13] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
    ];
    let text = text.trim();
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))
        .unwrap_or((text, 1.0));
    let value = number
        .parse::<f64>()
        .ok()
        .filter(|value| value.is_finite() && *value >= 0.0)?
        * factor
        * unit;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "it saturates, and no node has that much"
    )]
    Some(value.ceil() as i64)
}

/// Pods for which no node has room, by their requests; `None` if none, or if no node is known.
#[must_use]
pub fn warning(surges: &[Surge], nodes: &[Resources]) -> Option<String> {
    if nodes.is_empty() {
        return None;
    }
    let homeless: Vec<&Surge> = surges
        .iter()
        .filter(|surge| !nodes.iter().any(|room| surge.asks.fits(*room)))
        .collect();
    let [first, more @ ..] = &homeless[..] else {
        return None;
    };
    let others = match more.len() {
        0 => String::new(),
        1 => format!(", nor for one of {}", more[0].deployment),
        many => format!(", nor for those of {many} other Deployments"),
    };
    let best = nodes
        .iter()
        .max_by_key(|room| (room.memory, room.cpu))
        .copied()
        .unwrap_or_default();
    Some(format!(
        "no node has room for another pod of {} ({}){others}: most is {best}. A new pod comes \
         before the old one goes, and waits until there is room; add a node first, or let the \
         autoscaler of the cluster do it",
        first.deployment, first.asks
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("500m", "512Mi", 500, 536_870_912)]
    #[case("2", "1G", 2000, 1_000_000_000)]
    #[case("1.5", "1.5Gi", 1500, 1_610_612_736)]
    #[case("1e3", "128974848", 1_000_000, 128_974_848)]
    #[case("-1", "lots", 0, 0)]
    #[case("", "NaN", 0, 0)]
    #[case("100u", "1e400", 1, 0)]
    fn quantities_of_kubernetes_are_parsed(
        #[case] cpu: &str,
        #[case] memory: &str,
        #[case] milli: i64,
        #[case] bytes: i64,
    ) {
        assert_eq!(
            Resources::read(Some(cpu), Some(memory)),
            Resources {
                cpu: milli,
                memory: bytes
            }
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_counts_as_zero(text in "\\PC{0,12}") {
            let read = Resources::read(Some(&text), Some(&text));
            prop_assert!(read.cpu >= 0 && read.memory >= 0);
        }
    }

    #[test]
    fn a_pod_needs_one_node_that_has_both() {
        let of = |cpu, gib: i64| Resources {
            cpu,
            memory: gib << 30,
        };
        let surge = |name: &str, asks| Surge {
            deployment: name.into(),
            asks,
        };
        let nodes = [of(4000, 2), of(500, 16)];
        assert_eq!(warning(&[surge("proxy", of(500, 8))], &nodes), None);
        assert_eq!(
            warning(&[surge("proxy", of(5000, 80))], &[]),
            None,
            "the nodes are unknown"
        );
        let text = warning(
            &[surge("proxy", of(1000, 8)), surge("querynode", of(8000, 1))],
            &nodes,
        )
        .unwrap();
        assert!(
            text.starts_with(
                "no node has room for another pod of proxy (1 CPU, 8192 MiB), nor for one of \
                 querynode: most is 500m CPU, 16384 MiB."
            ),
            "{text}"
        );
    }
}
