//! What `status --wait` shows while a run is in progress: the step, the pods of each component, and
//! how long a component had no ready pod. Pure: the input is observations, the output is text.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style as Ansi};
use jiff::{SignedDuration, Timestamp};

use milvus_guard_core::{layout, report::Style, text::plain};

use super::view::{ComponentView, RunView, lasted};

/// Width in columns from which a row shows the version of its image.
const WITH_VERSION: usize = 80;
/// Width in columns from which a bar has twice as many marks.
const WITH_WIDE_BAR: usize = 100;
/// Marks of a bar, and of a bar on a wide terminal.
const BAR: usize = 10;
const WIDE_BAR: usize = 2 * BAR;
/// Columns of a name. A longer name keeps its end, because names differ there.
const NAME: usize = 18;

/// How long components of a release had no ready pod, measured at each look.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    last: Option<Timestamp>,
    watched: SignedDuration,
    interrupted: SignedDuration,
    /// Time without a ready pod, by workload that wanted pods at any look.
    without: BTreeMap<String, SignedDuration>,
}

impl Watch {
    /// Adds a look. The time since the previous look counts for the state that is seen now, so the
    /// error of each interruption is less than the time between two looks.
    pub fn see(&mut self, view: &RunView, now: Timestamp) {
        let since = self
            .last
            .map_or(SignedDuration::ZERO, |last| now.duration_since(last));
        self.last = Some(now);
        if view.components.is_empty() {
            return;
        }
        let since = since.max(SignedDuration::ZERO);
        self.watched += since;
        let mut is_interrupted = false;
        for one in &view.components {
            let is_known = self.without.contains_key(&one.workload);
            if one.leaves || !(is_known || one.wanted > 0) {
                continue;
            }
            let without = self.without.entry(one.workload.clone()).or_default();
            // Ready, not available: new pods serve before they count as available.
            if one.ready == 0 {
                *without += since;
                is_interrupted = true;
            }
        }
        if is_interrupted {
            self.interrupted += since;
        }
    }

    fn without(&self, workload: &str) -> SignedDuration {
        self.without.get(workload).copied().unwrap_or_default()
    }

    /// The measured interruption in one sentence; `None` before the second look.
    #[must_use]
    pub fn interruption(&self) -> Option<String> {
        let watched = lasted(self.watched);
        if self.watched.is_zero() {
            return None;
        }
        if self.interrupted.is_zero() {
            return Some(format!(
                "none in {watched}: each component had a ready pod at each look"
            ));
        }
        let mut longest: Vec<_> = self
            .without
            .iter()
            .filter(|(_, time)| !time.is_zero())
            .collect();
        longest.sort_by_key(|(_, time)| std::cmp::Reverse(**time));
        let each: Vec<String> = longest
            .iter()
            .map(|(workload, time)| format!("{} {}", plain(workload), lasted(**time)))
            .collect();
        Some(format!(
            "{} of {watched} without a ready pod of a component ({})",
            lasted(self.interrupted),
            each.join(", ")
        ))
    }
}

/// The whole screen.
#[must_use]
pub fn screen(view: &RunView, watch: &Watch, style: &Style, now: Timestamp) -> String {
    let mut lines = view.heading(now);
    if let Some(interruption) = watch.interruption() {
        lines.push(format!("measured   {interruption}"));
    }
    let mut text = layout::refill(style.width, &lines.join("\n"));
    if !view.components.is_empty() {
        text.push_str("\n\n");
        text.push_str(&table(view, watch, style));
    }
    text + "\n"
}

/// The current state in one line of a log.
#[must_use]
pub fn line(view: &RunView, now: Timestamp) -> String {
    let step = view.step.as_ref().map_or_else(String::new, |step| {
        let waits = step
            .waiting_for
            .as_ref()
            .map_or_else(String::new, |on| format!("; waits for {}", plain(on)));
        let (number, of) = (step.number, step.of);
        format!(
            ", {} {number} of {of}: {}{waits}",
            step.doing(),
            plain(&step.title)
        )
    });
    format!("{now:.0}  {}{step}\n", view.phase)
}

fn table(view: &RunView, watch: &Watch, style: &Style) -> String {
    let names = names(&view.components);
    let width = |texts: &[String], title: &str| {
        let longest = texts.iter().map(|text| layout::columns(text)).max();
        longest.unwrap_or(0).max(title.len())
    };
    let versions: Vec<String> = view.components.iter().map(version).collect();
    let with_version = style.width >= WITH_VERSION;
    let bar_width = if style.width >= WITH_WIDE_BAR {
        WIDE_BAR
    } else {
        BAR
    };
    let name_width = width(&names, "COMPONENT");
    let version_width = width(&versions, "VERSION");
    let shown_version = |text: &str| {
        if with_version {
            format!("  {text:<version_width$}")
        } else {
            String::new()
        }
    };
    let title = format!(
        "  {:<name_width$}{}  {:<bar_width$}  NEW  OLD  READY  NO POD",
        "COMPONENT",
        shown_version("VERSION"),
        "PODS"
    );
    let mut lines = vec![style.paint(Ansi::new().bold(), &title)];
    for ((one, name), version) in view.components.iter().zip(&names).zip(&versions) {
        let moves = view
            .step
            .as_ref()
            .is_some_and(|step| !step.done && step.is_about(one));
        let mark = match (moves, style.unicode) {
            (false, _) => " ",
            (true, true) => "▶",
            (true, false) => ">",
        };
        let without = watch.without(&one.workload);
        let without = if without.is_zero() {
            "-".to_owned()
        } else {
            lasted(without)
        };
        let ready = format!("{}/{}", one.ready, one.wanted);
        lines.push(
            format!(
                "{mark} {name:<name_width$}{}  {}  {:>3}  {:>3}  {}  {}",
                shown_version(version),
                bar(one, bar_width, style),
                one.updated,
                one.old,
                ready_cell(one, &ready, style),
                without
            )
            .trim_end()
            .to_owned(),
        );
    }
    let [new, old, missing] = marks(style);
    lines.push(format!("  {new} new  {old} old  {missing} missing"));
    lines.join("\n")
}

/// How many pods are ready, coloured if fewer than wanted.
fn ready_cell(one: &ComponentView, ready: &str, style: &Style) -> String {
    let cell = format!("{ready:>5}");
    match one.ready {
        0 if one.wanted > 0 => style.paint(AnsiColor::Red.on_default().bold(), &cell),
        some if some < one.wanted => style.paint(AnsiColor::Yellow.on_default(), &cell),
        _ => cell,
    }
}

/// The component, or its workload if a component has several.
fn names(components: &[ComponentView]) -> Vec<String> {
    let name = |one: &ComponentView| {
        let of_component = components
            .iter()
            .filter(|other| other.component == one.component);
        let name = if of_component.count() > 1 {
            plain(&one.workload)
        } else {
            one.component.name().to_owned()
        };
        let length = name.chars().count();
        if length <= NAME {
            return name;
        }
        let end: String = name.chars().skip(length - NAME + 2).collect();
        format!("..{end}")
    };
    components.iter().map(name).collect()
}

/// The tag of the image, without the digest.
fn version(one: &ComponentView) -> String {
    let name = one.image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    let tag = last.split_once(':').map_or("by digest", |(_, tag)| tag);
    milvus_guard_core::text::shortened(&plain(tag), NAME)
}

/// The marks of a pod with the new template, of one with an older template, and of a missing pod.
fn marks(style: &Style) -> [String; 3] {
    let [new, old, missing] = if style.unicode {
        ["█", "░", "·"]
    } else {
        ["#", "o", "."]
    };
    [
        style.paint(AnsiColor::Green.on_default(), new),
        style.paint(AnsiColor::Yellow.on_default(), old),
        style.paint(AnsiColor::Red.on_default(), missing),
    ]
}

/// One mark per pod; if there are more pods than columns, one mark for several pods.
fn bar(one: &ComponentView, width: usize, style: &Style) -> String {
    let pods = |number: i64| usize::try_from(number).unwrap_or(0);
    let (new, old) = (pods(one.updated), pods(one.old));
    let total = pods(one.wanted).max(new + old);
    let cells = |number: usize| {
        if total <= width {
            number
        } else {
            (number * width / total).max(usize::from(number > 0))
        }
    };
    let all = total.min(width);
    let old_cells = cells(old).min(all);
    let new_cells = cells(new).min(all - old_cells);
    // The remainder of the rounding goes to the new pods, unless pods are missing.
    let new_cells = if new + old == total {
        all - old_cells
    } else {
        new_cells
    };
    let [new_mark, old_mark, missing_mark] = marks(style);
    format!(
        "{}{}{}{}",
        new_mark.repeat(new_cells),
        old_mark.repeat(old_cells),
        missing_mark.repeat(all - old_cells - new_cells),
        " ".repeat(width - all)
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use milvus_guard_core::milvus::Component;

    use super::*;
    use crate::engine::view::StepView;

    fn component(
        component: Component,
        [wanted, updated, old, available]: [i64; 4],
    ) -> ComponentView {
        ComponentView {
            component,
            workload: format!("my-release-milvus-{component}"),
            image: "registry.example.com:5000/milvusdb/milvus:v2.5.27".into(),
            wanted,
            updated,
            old,
            ready: available,
            available,
            leaves: component == Component::IndexNode,
        }
    }

    fn view(querynodes: [i64; 4]) -> RunView {
        RunView {
            schema_version: crate::engine::view::SCHEMA_VERSION,
            run: "milvus/run-1".into(),
            release: "my-release".into(),
            namespace: "milvus".into(),
            kind: "rolling",
            from: "2.4.24".into(),
            to: "2.5.27".into(),
            phase: "Running",
            step: Some(StepView {
                id: "update-querynode".into(),
                title: "Move querynode to 2.5.27".into(),
                component: Some(Component::QueryNode),
                workload: None,
                number: 5,
                of: 9,
                done: false,
                back: false,
                attempts: 1,
                since: at(0),
                waiting_for: Some("my-release-milvus-querynode: 1 old pod is left".into()),
            }),
            holder: None,
            updated_at: None,
            backup: None,
            message: None,
            components: vec![
                component(Component::MixCoord, [1, 1, 0, 1]),
                component(Component::QueryNode, querynodes),
                component(Component::StreamingNode, [24, 6, 12, 18]),
                component(Component::IndexNode, [0, 0, 0, 0]),
            ],
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn style(width: usize, unicode: bool) -> Style {
        Style {
            width,
            unicode,
            ..Style::default()
        }
    }

    #[test]
    fn the_screen_of_a_run() {
        let mut watch = Watch::default();
        watch.see(&view([3, 2, 1, 2]), at(0));
        watch.see(&view([3, 2, 1, 0]), at(2));
        watch.see(&view([3, 2, 1, 2]), at(65));
        insta::assert_snapshot!(screen(
            &view([3, 2, 1, 2]),
            &watch,
            &style(80, true),
            at(65)
        ));
    }

    #[rstest]
    #[case(60)]
    #[case(80)]
    #[case(120)]
    fn no_line_is_longer_than_the_terminal(#[case] width: usize) {
        let mut watch = Watch::default();
        watch.see(&view([100, 99, 1, 0]), at(0));
        watch.see(&view([100, 99, 1, 0]), at(7200));
        let text = screen(
            &view([100, 99, 1, 0]),
            &watch,
            &style(width, true),
            at(7200),
        );
        for line in text.lines() {
            assert!(layout::columns(line) <= width, "{line}");
        }
        assert!(text.contains("▶ querynode"), "{text}");
        let plain = screen(&view([3, 2, 1, 2]), &watch, &style(width, false), at(7200));
        assert!(plain.is_ascii(), "{plain}");
    }

    #[test]
    fn only_pods_that_were_wanted_count_as_missing() {
        let mut watch = Watch::default();
        watch.see(&view([3, 3, 0, 3]), at(0));
        watch.see(&view([3, 3, 0, 3]), at(90));
        assert_eq!(
            watch.interruption().unwrap(),
            "none in 1 min 30 s: each component had a ready pod at each look"
        );
        // Ready pods serve before they are available.
        let mut young = view([3, 3, 0, 0]);
        young.components[0].ready = 3;
        watch.see(&young, at(90));
        // Scaled to zero by the run: pods that were wanted before count as missing.
        watch.see(&view([0, 0, 0, 0]), at(100));
        assert_eq!(
            watch.interruption().unwrap(),
            "10 s of 1 min 40 s without a ready pod of a component \
             (my-release-milvus-querynode 10 s)"
        );
    }

    #[test]
    fn components_that_cannot_be_read_are_not_measured() {
        let mut watch = Watch::default();
        let mut unread = view([3, 3, 0, 3]);
        unread.components.clear();
        for second in [0, 1, 2] {
            watch.see(&unread, at(second));
        }
        assert_eq!(watch.interruption(), None);
    }

    #[rstest]
    #[case([0, 0, 0, 0], "          ")]
    #[case([3, 2, 1, 3], "██░       ")]
    #[case([3, 1, 1, 2], "█░·       ")]
    #[case([2, 2, 1, 2], "██░       ")]
    #[case([100, 99, 1, 100], "█████████░")]
    #[case([100, 1, 50, 51], "█░░░░░····")]
    fn a_bar_shows_new_old_and_missing_pods(#[case] pods: [i64; 4], #[case] expected: &str) {
        assert_eq!(
            bar(&component(Component::Proxy, pods), BAR, &style(80, true)),
            expected
        );
    }

    #[test]
    fn a_line_of_a_log_has_the_step_and_what_it_waits_for() {
        assert_eq!(
            line(&view([3, 2, 1, 2]), at(0)),
            "2027-01-15T08:00:00Z  Running, at 5 of 9: Move querynode to 2.5.27; waits for \
             my-release-milvus-querynode: 1 old pod is left\n"
        );
    }
}
