//! A plan as a [`page`](crate::page): a section for each stop, with a lane for each component and a
//! line at the point of no return.

use maud::{Markup, html};

use crate::{
    milvus::{
        Component,
        catalogue::{Gate, PointOfNoReturn},
    },
    page::{entry, page},
    project,
    text::{capitalized, count, plain},
};

use super::{Document, Hop, Move, NoReturn, Plan, StopKind};

impl Document<'_> {
    /// One file for a browser and for paper, with a lane for each component.
    #[must_use]
    pub fn html(&self) -> String {
        render(self)
    }
}

fn render(document: &Document<'_>) -> String {
    let plan = document.plan;
    let title = format!(
        "milvus-guard plan: {} {} to {}",
        plan.release, plan.from, plan.to
    );
    let body = html! {
        (heading(document))
        main {
            (remarks("Refused", "deny", document.refusals))
            (remarks("Warnings", "warn", document.warnings))
            @for hop in &plan.stops { (stop(plan, hop)) }
            (notes(plan))
        }
        (origin(document))
    };
    page(&title, &body)
}

fn heading(document: &Document<'_>) -> Markup {
    let plan = document.plan;
    let is_refused = plan.blocked.is_some() || !document.refusals.is_empty();
    let class = if is_refused { "deny" } else { "plan" };
    html! {
        header class=(class) {
            h1 { "Upgrade plan: " (plain(&plan.release)) " " (plain(&plan.from)) " → " (plain(&plan.to)) }
            p { "Namespace " (plain(&plan.namespace)) ", " (plan.topology) ", "
                (count(plan.stops.len(), "stop")) "." }
            @if let Some(blocked) = &plan.blocked {
                p {
                    strong { "There is no upgrade path from " (plain(&blocked.at)) " to " (plain(&plan.to)) ": " }
                    (sentence(&blocked.reason))
                }
                p { strong { "Fix: " } (plain(&blocked.fix)) }
            } @else if plan.stops.is_empty() {
                p { "Nothing to do: the version is the same." }
            }
        }
    }
}

/// Texts of the rules, each in a separate box.
fn remarks(title: &str, class: &str, texts: &[String]) -> Markup {
    html! {
        @if !texts.is_empty() {
            section {
                h2 { (title) " (" (texts.len()) ")" }
                @for text in texts { article class=(class) { p { (plain(text)) } } }
            }
        }
    }
}

fn stop(plan: &Plan, stop: &Hop) -> Markup {
    let chart = stop.chart.as_ref().map_or_else(String::new, |chart| {
        let tag = if chart.ships_version {
            format!(" (ships {})", stop.to)
        } else {
            format!(" with image.all.tag=v{}", stop.to)
        };
        format!("{}{tag}", chart.version)
    });
    let until = stop.point_of_no_return.until(plan.topology);
    html! {
        section {
            h2 { (stop.number) ". " (plain(&stop.from)) " → " (plain(&stop.to)) ": " (stop.kind.what()) }
            @if !stop.reason.is_empty() { p { (sentence(&stop.reason)) } }
            (lanes(plan, stop))
            dl {
                (list("Before", &stop.prerequisites))
                (list("Back up", &stop.backup))
                (entry("Chart", &chart))
                (list("Values", &stop.values))
                @if !stop.commands.is_empty() {
                    dt { "Commands" }
                    dd { @for command in &stop.commands { pre { (plain(command)) } } }
                }
                (list("Steps", &step_notes(stop)))
                (entry("Expect", &sentence(&stop.interruption)))
                dt { "Rollback" }
                dd {
                    @if stop.point_of_no_return == PointOfNoReturn::None { "Possible." }
                    @else {
                        "Possible " (until) "."
                        @if !stop.lost.is_empty() { " Lost after that point: " (plain(stop.lost.trim_end_matches('.'))) "." }
                    }
                }
                (list("Beware", &stop.warnings))
                (list("Sources", &stop.sources.iter().map(|source| project::source_text(source)).collect::<Vec<_>>()))
            }
        }
    }
}

/// What a migration does, in order; the new version starts last.
const MIGRATION: [&str; 5] = ["stop", "back up", "migrate", "verify", "start"];

/// The diagram: a row for each component, a column for each step.
fn lanes(plan: &Plan, stop: &Hop) -> Markup {
    let is_migration = stop.order.is_empty() && stop.kind == StopKind::Migration;
    let columns: Vec<String> = if is_migration {
        MIGRATION.map(str::to_owned).to_vec()
    } else {
        (1..=stop.order.len().max(1))
            .map(|number| number.to_string())
            .collect()
    };
    let last = columns.len() - 1;
    // Nothing is lost by a migration before the new version starts.
    let no_return = stop.no_return().map(|at| {
        if is_migration {
            NoReturn::Before(last)
        } else {
            at
        }
    });
    let class = |at: usize| match no_return {
        Some(NoReturn::Before(before)) if before == at => "no-return",
        Some(NoReturn::Finished) if at == last => "no-return-after",
        _ => "",
    };
    let row = |name: &str, cells: Vec<(&str, &str)>| {
        html! {
            tr {
                th scope="row" { (name) }
                @for (at, (kind, mark)) in cells.into_iter().enumerate() {
                    td class=(format!("{kind} {}", class(at)).trim()) { (mark) }
                }
            }
        }
    };
    let removes = stop.order.iter().any(|step| !step.removes.is_empty());
    html! {
        div.wide {
            table.lanes {
                thead {
                    tr {
                        th scope="col" { "Component" }
                        @for (at, column) in columns.iter().enumerate() {
                            th scope="col" class=(class(at)) { (column) }
                        }
                    }
                }
                tbody {
                    @if stop.order.is_empty() { (row("all at once", vec![MOVES; columns.len()])) }
                    @for component in components(&stop.order) {
                        (row(component.name(), stop.order.iter().map(|step| cell(step, component)).collect()))
                    }
                }
            }
        }
        p.soft.legend {
            @if !stop.order.is_empty() { "● moves to " (plain(&stop.to)) ". " }
            @if removes { "✕ is removed. " }
            @if no_return.is_some() { b { "Red line: point of no return." } " " }
            "A rollback is possible " (stop.point_of_no_return.until(plan.topology)) "."
        }
    }
}

/// The components of an order, by the step in which they are first.
fn components(order: &[Move]) -> Vec<Component> {
    let mut found = Vec::new();
    for component in order
        .iter()
        .flat_map(|step| step.components.iter().chain(&step.removes))
    {
        if !found.contains(component) {
            found.push(*component);
        }
    }
    found
}

/// Class and mark of what moves.
const MOVES: (&str, &str) = ("moves", "●");

/// The class and the mark of a component in a step.
fn cell(step: &Move, component: Component) -> (&'static str, &'static str) {
    if step.removes.contains(&component) {
        ("removes", "✕")
    } else if step.components.contains(&component) {
        MOVES
    } else {
        ("", "")
    }
}

/// What to know of single steps.
fn step_notes(stop: &Hop) -> Vec<String> {
    let notes = stop.order.iter().enumerate().filter_map(|(at, step)| {
        let mut notes: Vec<String> = step.note.iter().map(|note| sentence(note)).collect();
        if step.gate == Gate::Running {
            notes.push("Wait until its pods run.".into());
        }
        if step.at_once_with_next {
            notes.push("The next step follows immediately.".into());
        }
        (!notes.is_empty()).then(|| format!("{}: {}", at + 1, notes.join(" ")))
    });
    notes.collect()
}

fn list(name: &str, items: &[String]) -> Markup {
    html! {
        @match items {
            [] => {}
            [only] => { dt { (name) } dd { (plain(only)) } }
            several => { dt { (name) } dd { ul { @for item in several { li { (plain(item)) } } } } }
        }
    }
}

fn notes(plan: &Plan) -> Markup {
    html! {
        @if !plan.notes.is_empty() {
            section { h2 { "Notes" } ul { @for note in &plan.notes { li { (plain(note)) } } } }
        }
    }
}

fn origin(document: &Document<'_>) -> Markup {
    html! {
        footer {
            p {
                (project::NAME) " " (env!("CARGO_PKG_VERSION"))
                ", plan " code { (document.id()) } "."
            }
        }
    }
}

/// A text of the data as a sentence with one full stop; nothing stays nothing.
fn sentence(text: &str) -> String {
    let text = plain(text);
    let text = text.trim_end_matches('.');
    if text.is_empty() {
        String::new()
    } else {
        format!("{}.", capitalized(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        page::testing::{hostile, tags, without_style},
        upgrade_path::{
            Blocked,
            text::tests::{between, sample},
        },
    };

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(without_style(&Document::of(&sample()).html()));
    }

    #[test]
    fn each_way_to_lose_the_rollback_has_its_line() {
        for (from, to) in [
            ("2.1.4", "2.5.27"),
            ("2.5.27", "2.6.24"),
            ("2.4.5", "2.4.24"),
            ("2.2.16", "3.0.2"),
        ] {
            let plan = between(from, to);
            for stop in &plan.stops {
                let diagram = lanes(&plan, stop).into_string();
                let lines = diagram.contains("no-return");
                let is_lost = stop.point_of_no_return != PointOfNoReturn::None;
                assert_eq!(lines, is_lost, "{from} to {to}: {diagram}");
                assert_eq!(diagram.contains("Red line"), is_lost, "{diagram}");
                for component in components(&stop.order) {
                    let lane = format!("<th scope=\"row\">{component}</th>");
                    assert_eq!(diagram.matches(&lane).count(), 1, "{diagram}");
                }
            }
        }
    }

    #[test]
    fn what_the_rules_say_comes_first() {
        let plan = sample();
        let (warnings, refusals) = (["MG104 <b>".to_owned()], ["a pod is missing".to_owned()]);
        let document = Document {
            run_hash: Some("0123456789abcdef"),
            warnings: &warnings,
            refusals: &refusals,
            ..Document::of(&plan)
        };
        let page = document.html();
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}: {page}"));
        assert!(at("a pod is missing") < at("MG104 &lt;b&gt;"));
        assert!(at("MG104") < at("class=\"lanes\""));
        assert!(at("<code>0123456789ab</code>") > at("<footer>"));
        let markdown = document.markdown();
        let at = |text: &str| {
            markdown
                .find(text)
                .unwrap_or_else(|| panic!("{text}: {markdown}"))
        };
        assert!(at("a pod is missing") < at("MG104 &lt;b&gt;"));
        assert!(at("MG104") < at("```mermaid"));
        assert!(
            markdown.contains("<sub>plan 0123456789ab</sub>"),
            "{markdown}"
        );
    }

    #[test]
    fn a_plan_without_a_path_says_why() {
        let mut plan = sample();
        plan.stops.clear();
        plan.blocked = Some(Blocked {
            at: "2.5.4".into(),
            reason: "there is no path.".into(),
            fix: "stay".into(),
        });
        let page = Document::of(&plan).html();
        assert!(page.contains("There is no path.<") && page.contains("<header class=\"deny\">"));
    }

    /// A plan in which every text that may come from an input is this one.
    fn filled(text: &str) -> Plan {
        let mut plan = sample();
        let owned = || text.to_owned();
        (plan.release, plan.namespace) = (owned(), owned());
        (plan.from, plan.to) = (owned(), owned());
        plan.notes = vec![owned()];
        for stop in &mut plan.stops {
            (stop.from, stop.to, stop.reason) = (owned(), owned(), owned());
            (stop.lost, stop.interruption) = (owned(), owned());
            for texts in [
                &mut stop.prerequisites,
                &mut stop.backup,
                &mut stop.values,
                &mut stop.commands,
                &mut stop.warnings,
                &mut stop.sources,
            ] {
                *texts = vec![owned(), owned()];
            }
            for step in &mut stop.order {
                step.note = Some(owned());
            }
        }
        plan
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_text_never_becomes_markup(text in hostile()) {
            let page = Document::of(&filled(&text)).html();
            let expected = Document::of(&filled("a name")).html();
            prop_assert_eq!(tags(&page), tags(&expected));
            let steers = page.contains(['\u{1b}', '\u{202e}', '\u{0}']);
            prop_assert!(!steers);
        }
    }
}
