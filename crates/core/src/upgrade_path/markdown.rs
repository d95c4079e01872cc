//! A plan as a checklist for an issue or a pull request.

use std::fmt::Write;

use crate::milvus::catalogue::PointOfNoReturn;

use crate::report::escaped_markdown as escaped;

use super::{Document, mermaid};

impl Document<'_> {
    /// A checklist in Markdown that begins with the diagram.
    #[must_use]
    pub fn markdown(&self) -> String {
        render(self)
    }
}

fn render(document: &Document<'_>) -> String {
    let plan = document.plan;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "## {} in {}: {} → {}\n",
        plan.release, plan.namespace, plan.from, plan.to
    );
    if let Some(blocked) = &plan.blocked {
        let _ = writeln!(
            out,
            "There is no upgrade path from {} to {}: {}.\n\n**Fix:** {}",
            blocked.at, plan.to, blocked.reason, blocked.fix
        );
        return out;
    }
    for refusal in document.refusals {
        let _ = writeln!(
            out,
            "> ⛔ **This run would be refused:** {}\n",
            escaped(refusal)
        );
    }
    for warning in document.warnings {
        let _ = writeln!(out, "> ⚠️ {}\n", escaped(warning));
    }
    let chart = mermaid::render(plan);
    if !chart.is_empty() {
        let _ = writeln!(out, "```mermaid\n{chart}```\n");
    }
    for stop in &plan.stops {
        let _ = writeln!(
            out,
            "### {}. {} → {}: {}\n",
            stop.number,
            stop.from,
            stop.to,
            stop.kind.what()
        );
        if !stop.reason.is_empty() {
            let _ = writeln!(out, "{}.\n", stop.reason.trim_end_matches('.'));
        }
        for text in &stop.prerequisites {
            let _ = writeln!(out, "- [ ] {text}");
        }
        for text in &stop.backup {
            let _ = writeln!(out, "- [ ] back up: {text}");
        }
        if let Some(chart) = &stop.chart {
            let tag = if chart.ships_version {
                String::new()
            } else {
                format!(", `image.all.tag=v{}`", stop.to)
            };
            let _ = writeln!(out, "- [ ] chart `{}`{tag}", chart.version);
        }
        for value in &stop.values {
            let _ = writeln!(out, "- [ ] value `{value}`");
        }
        if !stop.commands.is_empty() {
            let _ = writeln!(out, "\n```sh\n{}\n```", stop.commands.join("\n"));
        }
        if !stop.order.is_empty() {
            out.push_str("\n| step | components | |\n|---|---|---|\n");
            for (position, step) in stop.order.iter().enumerate() {
                let components = if step.removes.is_empty() {
                    &step.components
                } else {
                    &step.removes
                };
                let names = components
                    .iter()
                    .map(|component| component.name())
                    .collect::<Vec<_>>()
                    .join(", ");
                let remove = if step.removes.is_empty() {
                    ""
                } else {
                    "remove "
                };
                let mut remarks: Vec<String> = step.note.iter().cloned().collect();
                if step.at_once_with_next {
                    remarks.push("the next step follows immediately".into());
                }
                if step.point_of_no_return {
                    remarks.push("**point of no return**".into());
                }
                let _ = writeln!(
                    out,
                    "| {} | {remove}{names} | {} |",
                    position + 1,
                    remarks.join("; ")
                );
            }
        }
        out.push('\n');
        if !stop.interruption.is_empty() {
            let _ = writeln!(
                out,
                "**Expect:** {}.\n",
                stop.interruption.trim_end_matches('.')
            );
        }
        if stop.point_of_no_return != PointOfNoReturn::None {
            let lost = if stop.lost.is_empty() {
                String::new()
            } else {
                format!(
                    " Lost after that point: {}.",
                    stop.lost.trim_end_matches('.')
                )
            };
            let _ = writeln!(
                out,
                "**Rollback:** possible {}.{lost}\n",
                stop.point_of_no_return.until(plan.topology)
            );
        }
        for warning in &stop.warnings {
            let _ = writeln!(out, "> ⚠️ {warning}");
        }
        if !stop.warnings.is_empty() {
            out.push('\n');
        }
    }
    for note in &plan.notes {
        let _ = writeln!(out, "- {note}");
    }
    let _ = writeln!(out, "\n<sub>plan {}</sub>", document.id());
    out
}
