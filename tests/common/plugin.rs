//! Both versions of Helm with our plugins, on a real API server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use milvus_guard_testbed::{ControlPlane, Helm};
use serde_json::Value;

use super::{Chart, run};

pub const BOTH: [Helm; 2] = [Helm::V3, Helm::V4];
/// An upgrade that would skip the metadata migration.
pub const SKIPPED: [&str; 2] = ["--set", "image.all.tag=v2.2.16"];
/// An upgrade to a patch release.
pub const PATCH: [&str; 2] = ["--set", "image.all.tag=v2.4.24"];

/// A cluster, and a Helm with our plugins.
pub struct PluginCluster<'a> {
    pub cluster: &'a ControlPlane,
    pub with: Helm,
    pub namespace: &'static str,
    /// Copy of `plugins/helm`, from which the plugins are installed.
    pub folder: tempfile::TempDir,
    /// Further environment variables of each run of Helm.
    pub variables: Vec<(&'static str, String)>,
}

impl<'a> PluginCluster<'a> {
    pub fn new(cluster: &'a ControlPlane, with: Helm) -> Self {
        let setup = Self::without_plugins(cluster, with);
        for plugin in setup.plugins() {
            let source = setup.folder.path().join(plugin);
            let source = source.to_str().unwrap();
            let (code, _, stderr) = setup.helm(&["plugin", "install", source]);
            assert_eq!(code, 0, "{plugin}: {stderr}");
        }
        setup
    }

    pub fn without_plugins(cluster: &'a ControlPlane, with: Helm) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for plugin in ["guard", "guard-post-render"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("plugins/helm")
                .join(plugin);
            let to = folder.path().join(plugin);
            fs::create_dir(&to).unwrap();
            for file in ["plugin.yaml", "link.sh"] {
                fs::copy(from.join(file), to.join(file)).unwrap();
            }
        }
        let namespace = if with == Helm::V3 {
            "milvus-3"
        } else {
            "milvus-4"
        };
        Self {
            cluster,
            with,
            namespace,
            folder,
            variables: Vec::new(),
        }
    }

    pub fn plugins(&self) -> &'static [&'static str] {
        if self.with == Helm::V3 {
            &["guard"]
        } else {
            &["guard", "guard-post-render"]
        }
    }

    pub fn command(&self) -> Command {
        let mut command = self.cluster.helm_command(self.with);
        command
            .env("MILVUS_GUARD_PROGRAM", env!("CARGO_BIN_EXE_milvus-guard"))
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn helm(&self, args: &[&str]) -> (i32, String, String) {
        run(self.command().args(args))
    }

    /// The link through which Helm runs the post-renderer.
    pub fn post_renderer_link(&self) -> PathBuf {
        let plugin = self.plugins().last().unwrap();
        let folder = self.folder.path().join(plugin);
        folder.join("bin/helm-guard-post-render")
    }

    /// Flags that make Helm run the post-renderer.
    pub fn post_renderer(&self) -> Vec<String> {
        let name = if self.with == Helm::V3 {
            self.post_renderer_link().to_str().unwrap().to_owned()
        } else {
            "guard-post-render".into()
        };
        vec!["--post-renderer".into(), name]
    }

    /// A Helm command for a chart, through the post-renderer.
    pub fn rendered(&self, verb: &[&str], chart: &Chart, more: &[&str]) -> (i32, String, String) {
        let own = self.post_renderer();
        let mut args = vec![verb[0], "my-release", chart.path(), "-n", self.namespace];
        args.extend(&verb[1..]);
        args.extend(own.iter().map(String::as_str));
        args.extend(more);
        self.helm(&args)
    }

    /// A command of the plugin for a chart.
    pub fn guard(&self, verb: &str, chart: &Chart, more: &[&str]) -> (i32, String, String) {
        let mut args = vec!["guard", verb, "my-release", chart.path(), "-n"];
        args.push(self.namespace);
        args.extend(more);
        self.helm(&args)
    }

    pub fn install(&self, chart: &Chart, values: &[&str]) {
        let mut args = vec!["install", "my-release", chart.path(), "-n", self.namespace];
        args.push("--create-namespace");
        args.extend(values);
        let (code, _, stderr) = self.helm(&args);
        assert_eq!(code, 0, "{stderr}");
    }

    /// Status of each revision.
    pub fn history(&self) -> Vec<String> {
        let args = ["history", "my-release", "-n", self.namespace, "-o", "json"];
        let (code, stdout, stderr) = self.helm(&args);
        assert_eq!(code, 0, "{stderr}");
        let history: Value = serde_json::from_str(&stdout).unwrap();
        let revisions = history.as_array().unwrap().iter();
        revisions
            .map(|revision| revision["status"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Images of Milvus, without duplicates.
    pub fn images(&self) -> Vec<String> {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments", self.namespace);
        let list = self.cluster.get_json(&path);
        let items = list["items"].as_array().unwrap().iter();
        let mut images: Vec<String> = items
            .map(|item| &item["spec"]["template"]["spec"]["containers"][0]["image"])
            .map(|image| image.as_str().unwrap().to_owned())
            .collect();
        images.sort();
        images.dedup();
        images
    }
}

/// A setup for each version of Helm.
pub fn setups(cluster: &ControlPlane) -> impl Iterator<Item = PluginCluster<'_>> {
    BOTH.into_iter()
        .map(|with| PluginCluster::new(cluster, with))
}
