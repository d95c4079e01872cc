//! From Milvus 2.1 to 2.5 on a real control plane with the guard installed: a denied `helm upgrade`,
//! the plan, the migration of the metadata in a real etcd, and plain upgrades that the guard holds
//! and releases in order. `make demo-cluster` prints it.

use std::{
    fmt::Write as _, io::Write as _, os::unix::fs::symlink, path::PathBuf, process::Command,
};

use crate::common::{
    Chart, guard,
    jobs::Kubelet,
    migration_cluster::{MigrationCluster, NAMESPACE, RELEASE},
    run,
    webhook::GUARD,
};
use milvus_guard_testbed::Helm;

/// Environment variable: the file to which the text of the story is written.
const RECORD: &str = "MILVUS_GUARD_RECORD";

struct Story {
    setup: MigrationCluster,
    _kubelet: Kubelet,
    /// The folder in which the commands run.
    folder: PathBuf,
    _chart: Chart,
    text: String,
    chapter: usize,
}

impl Story {
    fn begin() -> Self {
        let setup = MigrationCluster::holding(Helm::V4);
        let kubelet = Kubelet::start(&setup);
        let chart = Chart::compact("4.1.34");
        let folder = setup.folder.path().to_owned();
        symlink(chart.path(), folder.join("milvus")).unwrap();
        Self {
            setup,
            _kubelet: kubelet,
            folder,
            _chart: chart,
            text: String::new(),
            chapter: 0,
        }
    }

    fn tell(&mut self, text: &str) {
        println!("{text}");
        std::io::stdout().flush().unwrap();
        writeln!(self.text, "{text}").unwrap();
    }

    fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        self.tell(&format!("\n=== {}. {title}\n", self.chapter));
    }

    /// Runs a command, prints it with its output, and returns the output.
    #[track_caller]
    fn shell(&mut self, command: &mut Command, shown: &[&str], expected: i32) -> String {
        self.tell(&format!("$ {}", shown.join(" ")));
        let (code, stdout, stderr) = run(command.current_dir(&self.folder));
        let said = format!("{stderr}{stdout}");
        self.tell(said.trim_end());
        assert_eq!(code, expected, "{shown:?}");
        if code != 0 {
            self.tell(&format!("(exit code {code})"));
        }
        self.tell("");
        said
    }

    #[track_caller]
    fn guard(&mut self, args: &[&str]) -> String {
        let mut command = guard();
        command
            .args(args)
            .env("KUBECONFIG", self.setup.cluster().kubeconfig())
            .env("COLUMNS", "100");
        self.shell(&mut command, &[&["milvus-guard"], args].concat(), 0)
    }

    #[track_caller]
    fn kubectl(&mut self, args: &[&str]) -> String {
        let mut command = self.setup.cluster().kubectl_command();
        self.shell(command.args(args), &[&["kubectl"], args].concat(), 0)
    }

    #[track_caller]
    fn upgrade(&mut self, tag: &str, expected: i32) -> String {
        let tag = format!("image.all.tag={tag}");
        let args = ["upgrade", RELEASE, "./milvus", "-n", NAMESPACE];
        let values = ["--reset-then-reuse-values", "--set", &tag];
        let args = [&args[..], &values].concat();
        let mut command = self.setup.cluster().helm_command(Helm::V4);
        self.shell(
            command.args(&args),
            &[&["helm"], &args[..]].concat(),
            expected,
        )
    }

    /// The text of the story; the temporary folder is shown as `/backup`, the volume of the backup.
    fn recording(&self) -> String {
        let temporary = std::env::temp_dir();
        let start = format!("{}/.tmp", temporary.display());
        let mut text = self.text.trim_start().to_owned();
        while let Some(at) = text.find(&start) {
            let end = at + start.len() + text[at + start.len()..].find('/').unwrap_or(0);
            text.replace_range(at..end, "/backup");
        }
        text
    }

    /// The images of the Deployments.
    fn images(&mut self) -> String {
        let columns = "-o=custom-columns=NAME:.metadata.name,IMAGE:.spec.template.spec.containers[0].image,READY:.status.readyReplicas";
        self.kubectl(&["get", "deployments", "-n", NAMESPACE, columns])
    }
}

#[test]
fn from_2_1_to_2_5() {
    let mut story = Story::begin();
    story.tell(
        "A real kube-apiserver, its controllers, etcd and Helm. Nodes are simulated: pods become\n\
         ready without a container, and the pod of a migration runs milvus-guard as a process.",
    );

    story.chapter("A cluster with milvus-guard and Milvus 2.1.4");
    assert!(story.images().contains("milvusdb/milvus:v2.1.4"));

    story.chapter("A plain helm upgrade to 2.2 would lose the metadata: it is denied");
    let said = story.upgrade("v2.2.16", 1);
    assert!(said.contains("MG101"), "{said}");
    assert!(!story.images().contains("v2.2.16"));

    story.chapter("The way to 2.5");
    let args = ["plan", "-i", RELEASE, "-n", NAMESPACE, "--to", "2.5.27"];
    let said = story.guard(&args);
    assert!(said.contains("4 stops"), "{said}");

    story.chapter("The migration of the metadata, by a Job in the namespace of the guard");
    let etcd = story.setup.etcd.endpoint();
    let versions = ["-s", "2.1.4", "-t", "2.2.16", "-e", &etcd];
    let job = ["--job-image", "milvus-guard:test", "--yes"];
    let args = ["migrate", "-i", RELEASE, "-n", NAMESPACE];
    let said = story.guard(&[&args[..], &versions, &job].concat());
    assert!(said.contains("runs 2.2.16"), "{said}");
    story.upgrade("v2.2.16", 0);

    for tag in ["v2.3.22", "v2.4.24", "v2.5.27"] {
        story.chapter(&format!(
            "A plain helm upgrade to {tag} is held, and rolls in order"
        ));
        let said = story.upgrade(tag, 0);
        assert!(said.contains("MG201"), "{said}");
        let args = [
            "status",
            "-i",
            RELEASE,
            "-n",
            NAMESPACE,
            "--run-namespace",
            GUARD,
            "--wait",
        ];
        let said = story.guard(&args);
        assert!(
            said.contains("Succeeded") || said.contains("succeeded"),
            "{said}"
        );
        assert_eq!(story.images().matches(tag).count(), 8);
    }
    if let Some(file) = std::env::var_os(RECORD) {
        std::fs::write(file, story.recording()).unwrap();
    }
}
