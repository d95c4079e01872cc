//! `helm guard plan`: the path from the running version to the version that a chart brings.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use clap::{Args as ClapArgs, Command, FromArgMatches};

use milvus_guard_core::milvus::Build;
use milvus_guard_sources::files::{Reading, Role, load_text};

use crate::cli::{
    exit::{Done, Failure},
    helm_upgrade::{
        process::{RENDERED, Upgrade},
        target::{HelmTarget, environment},
    },
    output::Screen,
    plan,
};

/// Arguments of `helm guard plan`.
#[derive(Debug, ClapArgs)]
#[command(
    disable_version_flag = true,
    override_usage = "helm guard plan RELEASE CHART [HELM FLAGS] [OPTIONS]\n       \
                      helm guard plan RELEASE --to VERSION [-n NAMESPACE]"
)]
pub(super) struct Args {
    /// Version to move to, instead of a chart: a release (2.5.27), a line (2.5) or latest
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,

    /// Rows that add to or override the built-in data; may be repeated
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,

    /// How to print the plan: text, json, yaml, markdown or html
    #[arg(long, default_value = "text")]
    format: String,

    /// Release, chart and flags of `helm upgrade`
    #[arg(last = true, value_name = "RELEASE CHART FLAGS")]
    helm: Vec<OsString>,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let upgrade = Upgrade::new(&args.helm)?;
    let release = if args.to.is_some() {
        Some(named(&upgrade.words())?)
    } else {
        upgrade.needs_chart("; or RELEASE with --to VERSION and no chart")?;
        None
    };
    let target = HelmTarget::of(&upgrade.words(), &environment);
    let (cluster, namespace) = (target.cluster(), target.namespace()?);
    let (release, to) = match (&args.to, release) {
        (Some(to), Some(release)) => (release, to.clone()),
        _ => rendered(&upgrade, &namespace)?,
    };
    let mut line: Vec<&OsStr> = ["plan", "--instance", &release, "--namespace", &namespace]
        .map(OsStr::new)
        .to_vec();
    line.extend(["--to", &to, "--format", &args.format].map(OsStr::new));
    for file in &args.data {
        line.extend([OsStr::new("--data"), file.as_os_str()]);
    }
    if let Some(file) = &cluster.kubeconfig {
        line.extend([OsStr::new("--kubeconfig"), file.as_os_str()]);
    }
    if let Some(context) = &cluster.context {
        line.extend(["--context", context].map(OsStr::new));
    }
    let mut parsed = plan::Args::augment_args(Command::new("plan"))
        .try_get_matches_from(line)
        .and_then(|matches| plan::Args::from_arg_matches(&matches))
        .map_err(|error| Failure::usage(error.to_string().trim_start_matches("error: ")))?;
    parsed.cluster.overrides = cluster.overrides;
    plan::run(&parsed, screen)
}

/// The release of a command line without a chart.
fn named(words: &[String]) -> Result<String, Failure> {
    words
        .first()
        .filter(|word| !word.starts_with('-'))
        .cloned()
        .ok_or_else(|| {
            Failure::usage("give RELEASE first, as in helm guard plan my-release --to 2.6")
        })
}

/// The Milvus release that a chart brings, and its version.
fn rendered(upgrade: &Upgrade, namespace: &str) -> Result<(String, String), Failure> {
    let how = Reading {
        namespace: Some(namespace),
        keep: Vec::new(),
    };
    let loaded =
        load_text(Role::Before, RENDERED, &upgrade.render()?, &how).map_err(Failure::usage)?;
    match loaded.snapshot.releases.as_slice() {
        [] => Err(Failure::usage("the chart brings no Milvus")),
        [release] => {
            let version = release.highest().as_ref().map(Build::to_string);
            let version = version.ok_or_else(|| {
                Failure::usage("the version that the chart brings cannot be read; give --to")
            })?;
            Ok((release.name.clone(), version))
        }
        several => Err(Failure::usage(format!(
            "the chart brings several Milvus releases ({}); use milvus-guard plan -i",
            crate::cli::gather::choices(several)
        ))),
    }
}
