//! The page of each verb, in the order of `--help`.

use super::Page;

/// The verbs in the order in which an upgrade needs them.
pub(super) const GROUPS: [(&str, &[&str]); 5] = [
    ("Before an upgrade", &["audit", "plan", "check", "helm"]),
    (
        "Upgrade",
        &["migrate", "upgrade", "status", "verify", "meta"],
    ),
    ("Rules, policies and data", &["rules", "policy", "data"]),
    ("Admission webhook", &["serve", "ping", "crds", "certs"]),
    ("This program", &["completions", "man"]),
];

type Codes = &'static [(&'static str, &'static str)];

/// Verbs that judge.
const JUDGING: Codes = &[
    ("0", "nothing at or above --fail-on"),
    ("1", "something at or above --fail-on"),
    ("2", USAGE),
    (
        "3",
        "no verdict: no cluster, no permission, or nothing there to judge",
    ),
];

/// Verbs that change a cluster.
const RUNNING: Codes = &[
    ("0", "done, or there was nothing to do"),
    ("1", "refused, nothing was changed"),
    ("2", USAGE),
    ("3", "stopped; the same command resumes"),
    ("4", "stopped, and rolled back"),
    ("5", "another run holds the lock"),
];

/// Verbs that change etcd.
const CHANGING_ETCD: Codes = &[
    ("0", "done, or there was nothing to do"),
    ("1", "refused, nothing was changed"),
    ("2", USAGE),
    ("3", "stopped; the same command resumes"),
    ("5", "another run holds the lock"),
];

/// Verbs that print data of the program.
const PRINTING: Codes = &[("0", "printed"), ("2", "wrong usage")];

const USAGE: &str = "wrong usage: a bad flag, or input that cannot be read or parsed";

pub(super) static PAGES: [Page; 35] = [
    Page {
        verb: "",
        notes: &[],
        examples: &[
            (
                "What is wrong with the releases that run",
                "milvus-guard audit -n milvus",
            ),
            (
                "The way to a version, with the required stops",
                "milvus-guard plan -i my-release -n milvus --to 2.5",
            ),
            (
                "Whether one upgrade is safe",
                "milvus-guard check -i my-release -n milvus -t 2.5.27",
            ),
        ],
        exit: &[
            ("0", "nothing found at or above --fail-on; or done"),
            ("1", "something found; or refused, and nothing was changed"),
            ("2", USAGE),
            ("3", "no verdict; or stopped, and the same command resumes"),
            ("4", "stopped, and rolled back"),
            ("5", "another run holds the lock"),
        ],
        docs: "README.md",
    },
    Page {
        verb: "audit",
        notes: &[],
        examples: &[
            (
                "The releases of one namespace",
                "milvus-guard audit -n milvus",
            ),
            (
                "All releases that this account may read",
                "milvus-guard audit --all-namespaces --format json",
            ),
            (
                "Without a cluster",
                "milvus-guard audit --before running.yaml",
            ),
        ],
        exit: JUDGING,
        docs: "what-is-judged.md",
    },
    Page {
        verb: "plan",
        notes: &[],
        examples: &[
            (
                "To the recommended release of a line",
                "milvus-guard plan --from 2.1.4 --to 2.5",
            ),
            (
                "From the version that runs",
                "milvus-guard plan -i my-release -n milvus --to 2.6.24",
            ),
            (
                "As a checklist for an issue",
                "milvus-guard plan --before running.yaml --to latest --format markdown",
            ),
        ],
        exit: &[
            ("0", "a path exists"),
            ("1", "no path exists"),
            ("2", USAGE),
            (
                "3",
                "no path could be looked for: no cluster, no permission, or no such release",
            ),
        ],
        docs: "upgrade.md",
    },
    Page {
        verb: "check",
        notes: &[
            "An input is a file, a directory, - (standard input), release:NAME[@REVISION] (Helm's storage), live (the running release) or, for --after, version:2.5.27 (the running release with other Milvus images). Without --before the change is an installation.",
            "A file for kubectl apply is a part: it is merged into the running release. The report says how an input was understood; --whole and --part override that.",
            "In GitHub Actions, --format github makes annotations, and --format markdown=\"$GITHUB_STEP_SUMMARY\" writes the summary of the step.",
        ],
        examples: &[
            (
                "A change of the version only",
                "milvus-guard check -i my-release -n milvus -t 2.5.27",
            ),
            (
                "What Helm would apply, against the running release",
                "helm template my-release zilliztech/milvus --version 4.2.58 -n milvus | milvus-guard check --before live -n milvus --after -",
            ),
            (
                "In a pipeline, without a cluster",
                "milvus-guard check --before running.yaml --after wanted.yaml --format github --format sarif=milvus-guard.sarif",
            ),
        ],
        exit: JUDGING,
        docs: "inputs.md",
    },
    Page {
        verb: "helm",
        notes: &["As a Helm plugin these verbs are `helm guard check` and so on."],
        examples: &[(
            "Judge what helm upgrade would send",
            "helm guard check my-release zilliztech/milvus --version 4.2.58 -n milvus",
        )],
        exit: JUDGING,
        docs: "helm-plugin.md",
    },
    Page {
        verb: "helm check",
        notes: &[
            "Flags that are not listed here are passed on to Helm, as they are: --version, -f, --set, --reuse-values, --reset-then-reuse-values, --repo, -n, --kube-context ... Helm renders with --dry-run=server, so the values of the release are reused as in the upgrade itself. Nothing is changed. Helm 3.13 or later is needed.",
        ],
        examples: &[
            (
                "With the values of the running release",
                "helm guard check my-release zilliztech/milvus --version 4.2.58 -n milvus --reset-then-reuse-values",
            ),
            (
                "As a comment for a pull request",
                "helm guard check my-release zilliztech/milvus -n milvus -f values.yaml --format markdown",
            ),
        ],
        exit: JUDGING,
        docs: "helm-plugin.md",
    },
    Page {
        verb: "helm plan",
        notes: &[],
        examples: &[
            (
                "To the version that a chart brings",
                "helm guard plan my-release zilliztech/milvus --version 4.2.58 -n milvus",
            ),
            (
                "To the recommended release of a line",
                "helm guard plan my-release --to 2.6 -n milvus",
            ),
        ],
        exit: &[
            ("0", "a path exists"),
            ("1", "no path exists"),
            ("2", USAGE),
            (
                "3",
                "no path could be looked for: no cluster, no permission, or no such release",
            ),
        ],
        docs: "helm-plugin.md",
    },
    Page {
        verb: "helm upgrade",
        notes: &[
            "Flags that are not listed here are passed on to Helm, as they are. The report goes to standard error; standard output is that of Helm. A denial can be accepted as with the webhook: --labels guard.milvus.io/accept=MG201-r8, where 8 is the revision about to be made; or by an UpgradeException.",
        ],
        examples: &[
            (
                "Judge, then upgrade",
                "helm guard upgrade my-release zilliztech/milvus --version 4.2.58 -n milvus --reset-then-reuse-values --wait",
            ),
            (
                "Judge, then upgrade component by component, with components that come and go",
                "helm guard upgrade my-release zilliztech/milvus --version 5.0.14 -n milvus -f values.yaml --in-order",
            ),
        ],
        exit: &[
            ("0", "Helm has made the upgrade"),
            ("1", "something at or above --fail-on; Helm was not run"),
            ("2", "wrong usage or unreadable input; Helm was not run"),
            ("3", "no verdict; Helm was not run"),
            (
                "N",
                "Helm's own code where Helm was run. Where it was not, standard error ends with 'Helm was not run, nothing was changed.'",
            ),
        ],
        docs: "helm-plugin.md",
    },
    Page {
        verb: "helm post-render",
        notes: &[
            "Helm tells a post-renderer neither namespace nor cluster. On Linux they are read from the command line of the Helm that runs it. Elsewhere, and under Terraform, name them here. A release that is not found is a new installation only if both are known.",
        ],
        examples: &[
            (
                "Helm 4",
                "helm upgrade my-release zilliztech/milvus -n milvus --post-renderer guard-post-render",
            ),
            (
                "Helm 3",
                "helm upgrade my-release zilliztech/milvus -n milvus --post-renderer helm-guard-post-render",
            ),
            (
                "A new installation",
                "helm template my-release zilliztech/milvus --post-renderer guard-post-render --post-renderer-args --before=none",
            ),
        ],
        exit: &[
            ("0", "the manifests were printed unchanged"),
            ("1", "something at or above --fail-on; Helm stops"),
            ("2", "wrong usage or unreadable input; Helm stops"),
            ("3", "no verdict; Helm stops"),
        ],
        docs: "helm-plugin.md",
    },
    Page {
        verb: "migrate",
        notes: &[
            "The command creates a Job in the cluster and follows it; the same command resumes after any interruption.",
        ],
        examples: &[
            (
                "Show the plan, change nothing",
                "milvus-guard migrate -i my-release -n milvus -s 2.1.4 -t 2.2.16 --dry-run",
            ),
            (
                "Migrate and start the new version",
                "milvus-guard migrate -i my-release -n milvus -s 2.1.4 -t 2.2.16",
            ),
            (
                "Migrate, then start it with the helm upgrade that is printed",
                "milvus-guard migrate -i my-release -n milvus -s 2.1.4 -t 2.2.16 --start helm",
            ),
            (
                "Go back",
                "milvus-guard migrate -i my-release -n milvus -s 2.1.4 -t 2.2.16 -o rollback",
            ),
            (
                "Record a migration that another tool made",
                "milvus-guard migrate -i my-release -n milvus -s 2.1.4 -t 2.2.16 --record-only",
            ),
        ],
        exit: RUNNING,
        docs: "migrate.md",
    },
    Page {
        verb: "upgrade",
        notes: &[
            "The command creates a Job in the cluster and follows it; the same command resumes after any interruption.",
            "After --, a whole helm upgrade brings the new version with its chart and values: components are paused, Helm applies its change, and they roll in order. Components may come and go.",
        ],
        examples: &[
            (
                "Show the plan and what the rules say, change nothing",
                "milvus-guard upgrade -i my-release -n milvus -t 2.5.27 --dry-run",
            ),
            (
                "Upgrade",
                "milvus-guard upgrade -i my-release -n milvus -t 2.5.27",
            ),
            (
                "With an image from another registry",
                "milvus-guard upgrade -i my-release -n milvus -t 2.5.27 -w registry.example.com/milvus:v2.5.27",
            ),
            (
                "With another chart and other values, such as from 2.5 to 2.6",
                "milvus-guard upgrade -i my-release -n milvus -- helm upgrade my-release zilliztech/milvus --version 5.0.14 -f values.yaml",
            ),
            (
                "Go back",
                "milvus-guard upgrade -i my-release -n milvus -t 2.5.27 -o rollback",
            ),
        ],
        exit: RUNNING,
        docs: "upgrade.md",
    },
    Page {
        verb: "status",
        notes: &[],
        examples: &[
            ("Every run that may be read", "milvus-guard status"),
            (
                "The run of one release",
                "milvus-guard status -i my-release -n milvus",
            ),
            (
                "A live table, until the run has ended or needs an operator",
                "milvus-guard status -i my-release -n milvus --watch",
            ),
        ],
        exit: &[
            ("0", "the run is done, or no run exists"),
            ("2", "wrong usage"),
            (
                "3",
                "the run is in progress, has stopped, or needs an operator; or the cluster cannot be read",
            ),
            ("4", "the run was rolled back"),
        ],
        docs: "upgrade.md",
    },
    Page {
        verb: "verify",
        notes: &[
            "Only --probe writes: to a new collection, milvus_guard_probe_..., which is dropped in all cases.",
        ],
        examples: &[
            (
                "Record the state before an upgrade",
                "milvus-guard verify -i my-release -n milvus --record-to before.json",
            ),
            (
                "Compare with it afterwards",
                "milvus-guard verify -i my-release -n milvus -t 2.5.27 --record before.json",
            ),
            (
                "Write, search and drop a small collection",
                "milvus-guard verify -i my-release -n milvus --probe --format json",
            ),
        ],
        exit: &[
            ("0", "verified"),
            ("1", "a check failed or could not be made (see --fail-on)"),
            ("2", USAGE),
            (
                "3",
                "no verdict possible: no cluster, no permission, or no such release",
            ),
        ],
        docs: "upgrade.md",
    },
    Page {
        verb: "meta",
        notes: &[],
        examples: &[(
            "What etcd holds",
            "milvus-guard meta inspect --etcd http://my-release-etcd:2379 -r my-release",
        )],
        exit: CHANGING_ETCD,
        docs: "metadata-migration.md",
    },
    Page {
        verb: "meta inspect",
        notes: &[],
        examples: &[
            (
                "Format, sessions and lock",
                "milvus-guard meta inspect --etcd http://my-release-etcd:2379 -r my-release",
            ),
            (
                "With TLS",
                "milvus-guard meta inspect --etcd https://a:2379,https://b:2379 --etcd-cacert ca.pem --etcd-cert tls.pem --etcd-key tls.key",
            ),
        ],
        exit: &[
            ("0", "the metadata was read"),
            ("2", "wrong usage"),
            ("3", "etcd could not be read"),
        ],
        docs: "metadata-migration.md",
    },
    Page {
        verb: "meta backup",
        notes: &[
            "The file is written under a temporary name, synced, read back and compared, and then renamed. An existing file is never replaced.",
        ],
        examples: &[(
            "Into a new file",
            "milvus-guard meta backup --etcd http://my-release-etcd:2379 -r my-release --out backup.mgb",
        )],
        exit: &[
            ("0", "saved"),
            ("1", "refused, or etcd could not be read; no file was made"),
            ("2", "wrong usage"),
        ],
        docs: "metadata-migration.md",
    },
    Page {
        verb: "meta migrate",
        notes: &[
            "A backup is always made first. Old records are deleted last, after the new ones were read back. After any interruption the same command resumes; `meta restore FILE` rolls back.",
        ],
        examples: &[
            (
                "Print every key that would change",
                "milvus-guard meta migrate -s 2.1.4 -t 2.2.16 --etcd http://etcd:2379 -r my-release --dry-run",
            ),
            (
                "Migrate without a question",
                "milvus-guard meta migrate -s 2.1.4 -t 2.2.16 --etcd http://etcd:2379 -r my-release --yes",
            ),
        ],
        exit: CHANGING_ETCD,
        docs: "metadata-migration.md",
    },
    Page {
        verb: "meta verify",
        notes: &[
            "Plans again from the backup and compares every key and value in etcd with the plan's end state. A running 2.2 changes the metadata, so verify before it is started.",
        ],
        examples: &[(
            "After a migration",
            "milvus-guard meta verify --etcd http://etcd:2379 -r my-release --backup backup.mgb",
        )],
        exit: &[
            ("0", "equal"),
            ("1", "different, or the backup does not fit"),
            ("2", "wrong usage"),
            ("3", "etcd could not be read"),
        ],
        docs: "metadata-migration.md",
    },
    Page {
        verb: "meta restore",
        notes: &[
            "Afterwards the root path contains exactly the records of the backup; records of 2.2 are removed. Sessions, and the allocators of timestamps and ids, are never touched. The whole file is checked before anything is written.",
        ],
        examples: &[
            (
                "Print what would change",
                "milvus-guard meta restore backup.mgb --etcd http://etcd:2379 -r my-release --dry-run",
            ),
            (
                "Restore without a question",
                "milvus-guard meta restore backup.mgb --etcd http://etcd:2379 -r my-release --yes",
            ),
        ],
        exit: CHANGING_ETCD,
        docs: "metadata-migration.md",
    },
    Page {
        verb: "rules",
        notes: &[],
        examples: &[("What a finding means", "milvus-guard rules explain MG301")],
        exit: PRINTING,
        docs: "rules/README.md",
    },
    Page {
        verb: "rules list",
        notes: &[],
        examples: &[
            ("For a person", "milvus-guard rules list"),
            ("For programs", "milvus-guard rules list --format json"),
        ],
        exit: PRINTING,
        docs: "rules/README.md",
    },
    Page {
        verb: "rules explain",
        notes: &[],
        examples: &[
            ("By id", "milvus-guard rules explain MG301"),
            (
                "By name",
                "milvus-guard rules explain message-queue-changed",
            ),
        ],
        exit: PRINTING,
        docs: "rules/README.md",
    },
    Page {
        verb: "policy",
        notes: &[],
        examples: &[(
            "Before policies are applied",
            "milvus-guard policy lint policies/",
        )],
        exit: &[
            ("0", "no error"),
            ("1", "an error, or a case that differs"),
            ("2", USAGE),
        ],
        docs: "policies.md",
    },
    Page {
        verb: "policy lint",
        notes: &[],
        examples: &[
            ("A folder", "milvus-guard policy lint policies/"),
            (
                "As annotations in GitHub Actions",
                "milvus-guard policy lint policies/ --format github --fail-on warning",
            ),
        ],
        exit: &[
            ("0", "nothing at or above --fail-on"),
            ("1", "something at or above --fail-on"),
            ("2", USAGE),
        ],
        docs: "policies.md",
    },
    Page {
        verb: "policy test",
        notes: &[
            "A case is a folder with expect.yaml, and with before.yaml (or before/), after.yaml (or after/) and facts.yaml as needed. expect.yaml may hold: verdict (deny, warn or allow); findings, each of which must be found, as in [{rule: MG201, action: deny}]; absent, rules that must not be found; now, the time for exceptions; after, instead of after.yaml, as in version:2.5.27.",
        ],
        examples: &[
            (
                "The cases of a folder",
                "milvus-guard policy test cases/ --policy policies/",
            ),
            (
                "As a test report",
                "milvus-guard policy test cases/ --policy policies/ --format junit",
            ),
        ],
        exit: &[
            ("0", "all cases are as expected"),
            ("1", "at least one differs"),
            ("2", USAGE),
        ],
        docs: "policies.md",
    },
    Page {
        verb: "data",
        notes: &[],
        examples: &[(
            "What is known about a release",
            "milvus-guard data show 2.6.24",
        )],
        exit: &[
            ("0", "printed, or valid"),
            ("1", "not found, or not valid"),
            ("2", USAGE),
        ],
        docs: "compatibility.md",
    },
    Page {
        verb: "data list",
        notes: &[],
        examples: &[
            ("The tables and their day", "milvus-guard data list"),
            (
                "What own files change",
                "milvus-guard data list --data own.yaml",
            ),
        ],
        exit: &[("0", "printed"), ("2", USAGE)],
        docs: "compatibility.md",
    },
    Page {
        verb: "data show",
        notes: &[],
        examples: &[
            (
                "A table; `data list` names them",
                "milvus-guard data show releases",
            ),
            (
                "A release: day, defects, charts",
                "milvus-guard data show 2.6.24",
            ),
            ("A chart", "milvus-guard data show chart 4.2.58"),
            (
                "The rows that decide a step",
                "milvus-guard data show path 2.4.24 2.6.24",
            ),
            ("A row by its id", "milvus-guard data show 2.5-to-2.6"),
        ],
        exit: &[("0", "found"), ("1", "not found"), ("2", USAGE)],
        docs: "compatibility.md",
    },
    Page {
        verb: "data validate",
        notes: &[],
        examples: &[("Own rows", "milvus-guard data validate own.yaml")],
        exit: &[
            ("0", "every row is valid"),
            ("1", "a row is wrong"),
            ("2", "a file cannot be read or is not YAML"),
        ],
        docs: "compatibility.md",
    },
    Page {
        verb: "serve",
        notes: &["In a cluster the chart charts/milvus-guard sets these flags."],
        examples: &[(
            "Without a cluster",
            "milvus-guard serve --no-cluster --tls-self-signed --listen 127.0.0.1:8443 --before running.yaml",
        )],
        exit: &[
            ("0", "stopped by a signal"),
            ("2", USAGE),
            ("3", "no cluster, no certificate or no port"),
        ],
        docs: "webhook.md",
    },
    Page {
        verb: "ping",
        notes: &[
            "It asks for a dry run of an UpgradeRun, which the guard refuses to everyone else. Nothing is stored. The account needs the right to create UpgradeRuns in the namespace.",
        ],
        examples: &[
            ("Now", "milvus-guard ping -n milvus-guard"),
            (
                "After an installation, as helm test does",
                "milvus-guard ping -n milvus-guard --timeout 2m",
            ),
        ],
        exit: &[
            ("0", "the guard answers"),
            ("1", "it does not answer"),
            ("2", USAGE),
            ("3", "the cluster cannot be asked"),
        ],
        docs: "webhook.md",
    },
    Page {
        verb: "crds",
        notes: &["The chart charts/milvus-guard contains the same definitions."],
        examples: &[(
            "Without the chart",
            "milvus-guard crds | kubectl apply --server-side -f -",
        )],
        exit: PRINTING,
        docs: "webhook.md",
    },
    Page {
        verb: "certs",
        notes: &[
            "Writes ca.crt (for clients to trust), tls.crt and tls.key (for the server). The authority's key is not kept. In a cluster, use cert-manager or the managed mode.",
        ],
        examples: &[("For this machine", "milvus-guard certs --out certs/local")],
        exit: &[
            ("0", "made"),
            ("2", "wrong usage, or files that exist or cannot be written"),
        ],
        docs: "webhook.md",
    },
    Page {
        verb: "completions",
        notes: &[
            "The script asks milvus-guard for the values: formats, rules, and namespaces and releases of the cluster. A cluster that does not answer within 2 s is left out.",
        ],
        examples: &[
            (
                "bash: in ~/.bashrc",
                "source <(milvus-guard completions bash)",
            ),
            (
                "zsh: in ~/.zshrc, after compinit",
                "source <(milvus-guard completions zsh)",
            ),
            (
                "fish",
                "milvus-guard completions fish > ~/.config/fish/completions/milvus-guard.fish",
            ),
            (
                "PowerShell: in $PROFILE",
                "milvus-guard completions powershell | Out-String | Invoke-Expression",
            ),
            (
                "Elvish: in ~/.config/elvish/rc.elv",
                "eval (milvus-guard completions elvish | slurp)",
            ),
        ],
        exit: PRINTING,
        docs: "README.md",
    },
    Page {
        verb: "man",
        notes: &[],
        examples: &[
            ("Read the main page", "milvus-guard man | man -l -"),
            (
                "Install a page for each verb",
                "milvus-guard man --out ~/.local/share/man/man1",
            ),
        ],
        exit: PRINTING,
        docs: "README.md",
    },
];
