//! A plan as a Mermaid flowchart: one box for each stop, components that move together side by
//! side, and a mark at each point of no return.

use std::fmt::Write;

use crate::milvus::Component;

use super::{Hop, Move, NoReturn, Plan};

/// The flowchart, without the fence of Markdown; empty if the plan has no stop.
#[must_use]
pub fn render(plan: &Plan) -> String {
    if plan.stops.is_empty() {
        return String::new();
    }
    let mut chart = Chart {
        out: String::from("flowchart TD\n"),
        before: vec!["start".to_owned()],
    };
    chart.line(&format!("start([\"{} runs\"])", label(&plan.from)));
    for stop in &plan.stops {
        chart.stop(stop);
    }
    chart.line(&format!("finish([\"{} runs\"])", label(&plan.to)));
    chart.join(&["finish".to_owned()], None);
    // Its shape and its words tell the mark from a step where there are no colours.
    chart.line("classDef noReturn stroke:#b3261e,stroke-width:4px");
    chart.out
}

/// The point of no return.
const NEXT: &str = "once the next step is complete";
const FINISHED: &str = "once this upgrade is finished";

struct Chart {
    out: String,
    /// Nodes that the next one follows.
    before: Vec<String>,
}

impl Chart {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "  {text}");
    }

    /// Draws edges from the nodes before to these, which the next ones follow.
    fn join(&mut self, nodes: &[String], remark: Option<&str>) {
        let remark = remark.map_or_else(String::new, |text| format!("|\"{}\"|", label(text)));
        let edge = format!(
            "{} -->{remark} {}",
            self.before.join(" & "),
            nodes.join(" & ")
        );
        self.line(&edge);
        self.before = nodes.to_vec();
    }

    fn stop(&mut self, stop: &Hop) {
        let id = format!("stop{}", stop.number);
        let title = format!(
            "{}. {}: {} to {}",
            stop.number,
            stop.kind.what(),
            stop.from,
            stop.to
        );
        self.line(&format!("subgraph {id}[\"{}\"]", label(&title)));
        self.line("direction TB");
        let mut nodes = Nodes {
            stop: &id,
            number: 0,
        };
        let no_return = stop.no_return();
        let mut drawn: Vec<(Vec<String>, Option<&str>)> = Vec::new();
        if stop.order.is_empty() {
            if no_return == Some(NoReturn::Before(0)) {
                drawn.push((vec![self.no_return(&id, NEXT)], None));
            }
            let node = self.node(&mut nodes, stop.kind.whole());
            drawn.push((vec![node], None));
        }
        let mut at_once = false;
        for (at, step) in stop.order.iter().enumerate() {
            if no_return == Some(NoReturn::Before(at)) {
                drawn.push((vec![self.no_return(&id, NEXT)], None));
            }
            let names = names(step);
            let step_nodes = names
                .iter()
                .map(|name| self.node(&mut nodes, name))
                .collect();
            drawn.push((step_nodes, at_once.then_some("immediately")));
            at_once = step.at_once_with_next;
        }
        if no_return == Some(NoReturn::Finished) {
            drawn.push((vec![self.no_return(&id, FINISHED)], None));
        }
        self.line("end");
        for (nodes, remark) in drawn {
            self.join(&nodes, remark);
        }
    }

    fn node(&mut self, nodes: &mut Nodes<'_>, text: &str) -> String {
        nodes.number += 1;
        let id = format!("{}step{}", nodes.stop, nodes.number);
        self.line(&format!("{id}[\"{}\"]", label(text)));
        id
    }

    fn no_return(&mut self, stop: &str, from: &str) -> String {
        let id = format!("{stop}noReturn");
        let text = format!("POINT OF NO RETURN: no rollback {from}");
        self.line(&format!("{id}{{{{\"{}\"}}}}:::noReturn", label(&text)));
        id
    }
}

/// Counts the nodes of a stop.
struct Nodes<'a> {
    stop: &'a str,
    number: usize,
}

/// What moves in a step, each component apart.
fn names(step: &Move) -> Vec<String> {
    let removed = |component: &Component| format!("remove {}", component.name());
    let moved = step
        .components
        .iter()
        .map(|component| component.name().to_owned());
    moved.chain(step.removes.iter().map(removed)).collect()
}

/// A text as a label in quotes: everything that could end it or mean something to Mermaid or HTML
/// is written as a character code.
fn label(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            if c.is_ascii_alphanumeric() || " .,:+-".contains(c) {
                out.push(c);
            } else if c.is_control() {
                out.push(' ');
            } else {
                let _ = write!(out, "#{};", u32::from(c));
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::milvus::catalogue::PointOfNoReturn;
    use crate::upgrade_path::text::tests::{between, sample};

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(render(&sample()));
    }

    /// The forms of a line that the chart may have.
    fn is_known(line: &str) -> bool {
        let text = line.trim();
        let id = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric());
        let quoted = |text: &str| {
            let inside = text
                .strip_prefix('"')
                .and_then(|text| text.strip_suffix('"'));
            inside.is_some_and(|inside| {
                inside
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || " .,:+-#;".contains(c))
            })
        };
        let shape = |open: &str, close: &str| {
            let node = text.strip_prefix("subgraph ").unwrap_or(text);
            let node = node.strip_suffix(":::noReturn").unwrap_or(node);
            let parts = node
                .strip_suffix(close)
                .and_then(|node| node.split_once(open));
            parts.is_some_and(|(name, title)| id(name) && quoted(title))
        };
        let edge = || {
            let Some((from, to)) = text.split_once(" -->") else {
                return false;
            };
            let to = to.strip_prefix("|\"immediately\"|").unwrap_or(to).trim();
            from.split(" & ").chain(to.split(" & ")).all(id)
        };
        matches!(text, "flowchart TD" | "direction TB" | "end")
            || text.starts_with("classDef noReturn ")
            || [("([", "])"), ("[", "]"), ("{{", "}}")]
                .iter()
                .any(|(open, close)| shape(open, close))
            || edge()
    }

    proptest! {
        #[test]
        fn a_text_never_becomes_a_part_of_the_chart(text in "\\PC{0,40}", control in any::<char>()) {
            let mut plan = sample();
            let hostile = format!("{text}{control}\"]\n end");
            plan.from.clone_from(&hostile);
            plan.to.clone_from(&hostile);
            for stop in &mut plan.stops {
                stop.from.clone_from(&hostile);
                stop.to.clone_from(&hostile);
            }
            let chart = render(&plan);
            for line in chart.lines() {
                prop_assert!(is_known(line), "{}", line);
            }
            prop_assert_eq!(chart.lines().count(), render(&sample()).lines().count());
        }
    }

    #[test]
    fn each_way_to_lose_the_rollback_is_marked_once_in_its_stop() {
        for (from, to) in [
            ("2.1.4", "2.5.27"),
            ("2.5.27", "2.6.24"),
            ("2.4.5", "2.4.24"),
            ("2.2.16", "3.0.2"),
        ] {
            let plan = between(from, to);
            let chart = render(&plan);
            for stop in &plan.stops {
                let marks = chart
                    .matches(&format!("stop{}noReturn{{{{", stop.number))
                    .count();
                let expected = usize::from(stop.point_of_no_return != PointOfNoReturn::None);
                assert_eq!(
                    marks, expected,
                    "{from} to {to}, stop {}: {chart}",
                    stop.number
                );
            }
        }
    }
}
