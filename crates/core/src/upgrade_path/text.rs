//! A plan for a person at a terminal.

use anstyle::{AnsiColor, Style as Ansi};

use crate::{
    layout,
    milvus::{
        Topology,
        catalogue::{Gate, PointOfNoReturn, Rolling},
    },
    report::Style,
    text::{count, plain},
};

use super::{Hop, Move, Plan, StopKind};

/// A plan as text.
#[must_use]
pub fn render(plan: &Plan, style: &Style) -> String {
    let mut page = Page {
        out: String::new(),
        style,
        topology: plan.topology,
    };
    let arrow = page.arrow();
    let title = format!(
        "{} (namespace {}): {} {arrow} {}, {}",
        plain(&plan.release),
        plain(&plan.namespace),
        plan.from,
        plan.to,
        plan.topology
    );
    page.title(&title);
    if let Some(blocked) = &plan.blocked {
        page.line("");
        page.paragraph(
            "",
            &format!(
                "There is no upgrade path from {} to {}: {}.",
                blocked.at,
                plan.to,
                blocked.reason.trim_end_matches('.')
            ),
        );
        page.paragraph("fix  ", &blocked.fix);
        return page.out;
    }
    if plan.stops.is_empty() {
        page.line("Nothing to do: the version is the same.");
        return page.out;
    }
    let way: Vec<&str> = std::iter::once(plan.from.as_str())
        .chain(plan.stops.iter().map(|stop| stop.to.as_str()))
        .collect();
    let mut way = way;
    way.dedup();
    let stops = format!("{}: ", count(plan.stops.len(), "stop"));
    page.paragraph(&stops, &way.join(&format!(" {arrow} ")));
    for stop in &plan.stops {
        page.stop(stop);
    }
    if !plan.notes.is_empty() {
        page.line("");
        for note in &plan.notes {
            page.paragraph("note  ", note);
        }
    }
    page.line("");
    page.line(&format!("plan {}", &plan.hash()[..12]));
    page.out
}

struct Page<'a> {
    topology: Topology,
    out: String,
    style: &'a Style,
}

impl Page<'_> {
    fn bold(&self, text: &str) -> String {
        self.style.paint(Ansi::new().bold(), text)
    }

    fn arrow(&self) -> &'static str {
        if self.style.unicode { "→" } else { "->" }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn title(&mut self, text: &str) {
        for line in layout::fill(self.style.width, "", "   ", text).lines() {
            let line = self.bold(line);
            self.line(&line);
        }
    }

    fn paragraph(&mut self, first: &str, text: &str) {
        let text = layout::hang(self.style.width, first, text);
        self.line(&text);
    }

    fn list(&mut self, title: &str, items: &[String]) {
        let label = format!("{title:<11}");
        // What must not be missed has a colour.
        let label = if title == "beware" {
            self.style
                .paint(AnsiColor::Yellow.on_default().bold(), &label)
        } else {
            label
        };
        for (position, item) in items.iter().enumerate() {
            let first = if position == 0 {
                format!("   {label}")
            } else {
                " ".repeat(14)
            };
            self.paragraph(&first, item);
        }
    }

    fn stop(&mut self, stop: &Hop) {
        let arrow = self.arrow();
        let what = match stop.kind {
            StopKind::Migration => "metadata migration, Milvus is stopped",
            StopKind::RollingUpgrade => "ordered rolling upgrade",
            StopKind::Restart => "plain upgrade with downtime",
            StopKind::MixCoordinators => "four coordinators become one, same version",
        };
        self.line("");
        let title = if stop.from == stop.to {
            format!("{}. {}: {what}", stop.number, stop.to)
        } else {
            format!("{}. {} {arrow} {}: {what}", stop.number, stop.from, stop.to)
        };
        self.title(&title);
        if !stop.reason.is_empty() {
            self.list("why", std::slice::from_ref(&stop.reason));
        }
        self.list("before", &stop.prerequisites);
        self.list("back up", &stop.backup);
        let chart = stop.chart.as_ref().map(|chart| {
            if chart.ships_version {
                format!("{} (ships {})", chart.version, stop.to)
            } else {
                format!("{} with image.all.tag=v{}", chart.version, stop.to)
            }
        });
        self.list("chart", &chart.into_iter().collect::<Vec<_>>());
        self.list("values", &stop.values);
        self.order(&stop.order);
        let restarts = stop.rolling == Rolling::Restart && stop.kind != StopKind::MixCoordinators;
        if stop.order.is_empty() && restarts && self.topology == Topology::Cluster {
            self.list("order", &["all components at once".to_owned()]);
        }
        self.list(
            "expect",
            &[stop.interruption.clone()]
                .into_iter()
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>(),
        );
        if stop.point_of_no_return == PointOfNoReturn::None {
            self.list("rollback", &["possible".to_owned()]);
        } else {
            let lost = if stop.lost.is_empty() {
                String::new()
            } else {
                format!("; lost after that point: {}", stop.lost)
            };
            self.list(
                "rollback",
                &[format!(
                    "possible {}{lost}",
                    stop.point_of_no_return.until(self.topology)
                )],
            );
        }
        self.list("beware", &stop.warnings);
        for (position, command) in stop.commands.iter().enumerate() {
            let title = if position == 0 { "run" } else { "then" };
            let line = self
                .style
                .command(&format!("   {title:<11}"), &plain(command));
            self.line(&line);
        }
    }

    fn order(&mut self, order: &[Move]) {
        for (position, step) in order.iter().enumerate() {
            let first = if position == 0 {
                format!("   {:<11}", "order")
            } else {
                " ".repeat(14)
            };
            let names = |components: &[crate::milvus::Component]| {
                components
                    .iter()
                    .map(|component| component.name())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let mut text = if step.removes.is_empty() {
                format!("{}. {}", position + 1, names(&step.components))
            } else {
                format!("{}. remove {}", position + 1, names(&step.removes))
            };
            if step.gate == Gate::Running {
                text += ", wait until its pods run";
            }
            if step.at_once_with_next {
                text += ", the next step follows immediately";
            }
            if let Some(note) = &step.note {
                text += &format!(" ({note})");
            }
            self.paragraph(&first, &text);
            if step.point_of_no_return {
                let mark = if self.style.unicode {
                    "── point of no return ──"
                } else {
                    "-- point of no return --"
                };
                let mark = self.style.paint(AnsiColor::Red.on_default().bold(), mark);
                self.line(&format!("{}{mark}", " ".repeat(14)));
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use crate::{
        milvus::catalogue::Catalogue,
        report::Style,
        upgrade_path::{Plan, plan, route::tests::request},
    };

    pub(in crate::upgrade_path) fn sample() -> Plan {
        between("2.1.4", "2.5.27")
    }

    pub(in crate::upgrade_path) fn between(from: &str, to: &str) -> Plan {
        plan(&request(from, to), Catalogue::embedded())
    }

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(super::render(&sample(), &Style::default()));
    }

    #[test]
    fn snapshot_of_markdown() {
        insta::assert_snapshot!(crate::upgrade_path::Document::of(&sample()).markdown());
    }

    #[test]
    fn json_has_the_hash() {
        let plan = sample();
        let value = plan.to_json();
        assert_eq!(value["hash"], plan.hash());
        assert_eq!(value["stops"].as_array().unwrap().len(), 4);
    }
}
