//! A replica as the chart deploys it, in a cgroup with the chart's memory limit and on a real API
//! server, under every attack at once: ten thousand honest reviews are answered correctly and in
//! time, and the memory stays below 200 MiB.
//!
//! It needs root and a release build: `make test-hostile`.

use std::{
    collections::VecDeque,
    env, fs, io,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    BINARY, Chart,
    bombs::{self, Bomb, MIB},
    https::Https,
    machine::alone,
    webhook::{Caller, GUARD, Server, Webhook, serve, update},
};
use milvus_guard_core::manifest::documents;
use milvus_guard_testbed::{Helm, expect_success};
use serde_json::{Value, json};

const REVIEWS: usize = 10_000;
const CLIENTS: usize = 8;
/// Between two reviews of one client: 200 reviews per second in all.
const EVERY: Duration = Duration::from_millis(40);
/// Reviews of one connection; then the client opens a new one, as API servers do.
const PER_CONNECTION: usize = 500;
const MAX_PEAK: u64 = 200 * MIB as u64;

/// A memory cgroup of this test.
struct Cgroup {
    folder: PathBuf,
    is_v2: bool,
}

impl Cgroup {
    fn with_limit(limit: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let is_v2 = controllers
            .split_whitespace()
            .any(|controller| controller == "memory");
        let parent = if is_v2 {
            root.to_owned()
        } else {
            root.join("memory")
        };
        if is_v2 {
            fs::write(root.join("cgroup.subtree_control"), "+memory")
                .expect("delegating the memory controller needs root");
        }
        let folder = parent.join(format!("milvus-guard-hostile-{}", std::process::id()));
        fs::create_dir(&folder).expect("creating a cgroup needs root");
        let cgroup = Self { folder, is_v2 };
        cgroup.write(
            if is_v2 {
                "memory.max"
            } else {
                "memory.limit_in_bytes"
            },
            limit,
        );
        cgroup
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.join(file), text).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// The same command, started in this cgroup.
    fn enclosed(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside
            .args(["-c", r#"echo $$ > "$0" && exec "$@""#])
            .arg(self.folder.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(key, value),
                None => inside.env_remove(key),
            };
        }
        inside
    }

    fn holds(&self, pid: u32) -> bool {
        self.read("cgroup.procs")
            .lines()
            .any(|line| line == pid.to_string())
    }

    /// Peak memory in bytes, including the page cache of files that the process reads and writes.
    fn peak(&self) -> u64 {
        self.read(if self.is_v2 {
            "memory.peak"
        } else {
            "memory.max_usage_in_bytes"
        })
        .trim()
        .parse()
        .unwrap()
    }

    fn oom_kills(&self) -> u64 {
        let text = self.read(if self.is_v2 {
            "memory.events"
        } else {
            "memory.oom_control"
        });
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
            .expect("the kernel must count OOM kills")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A killed process leaves the cgroup with a delay.
        let gone = milvus_guard_testbed::wait_until(Duration::from_secs(10), || {
            fs::remove_dir(&self.folder).is_ok()
        });
        if !gone {
            eprintln!("{} could not be removed", self.folder.display());
        }
    }
}

/// The chart's values for a replica: its memory limit, and the timeout of a review.
fn chart() -> (String, Duration) {
    let text = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/charts/milvus-guard/values.yaml"
    ))
    .unwrap();
    let values = documents(&text).next().unwrap().unwrap().root.to_json();
    let limit = values["resources"]["limits"]["memory"]
        .as_str()
        .unwrap()
        .to_owned();
    let timeouts = ["releaseGate", "workloadGate", "versionLabel"]
        .map(|gate| values[gate]["timeoutSeconds"].as_u64().unwrap());
    (
        limit.replace("Mi", "M"),
        Duration::from_secs(*timeouts.iter().min().unwrap()),
    )
}

/// An honest review, and its answer without an attack.
struct Question {
    name: &'static str,
    path: String,
    body: String,
    answer: Value,
}

/// Changes that users make to a release, and the answers.
fn questions(webhook: &Webhook, caller: &Caller) -> Vec<Question> {
    let old = webhook.deployment("milvus", "my-release-milvus-proxy");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        update(&old, &new).to_string()
    };
    let (done, manifest) =
        webhook.helm(Helm::V4, &["get", "manifest", "my-release", "-n", "milvus"]);
    assert!(done, "{manifest}");
    let mut web = old.clone();
    web["metadata"]["name"] = json!("web");
    web["spec"]["template"]["spec"]["containers"] = json!([{"name": "web", "image": "nginx:1"}]);
    for labels in [
        "/metadata/labels",
        "/spec/selector/matchLabels",
        "/spec/template/metadata/labels",
    ] {
        *web.pointer_mut(labels).unwrap() = json!({"app": "web"});
    }
    let mut web_after = web.clone();
    web_after["spec"]["template"]["spec"]["containers"][0]["image"] = json!("nginx:2");
    let variable = json!([{"name": "GOGC", "value": "100"}]);
    let all = [
        (
            "a safe change",
            "validate",
            changed(&|new| {
                new["spec"]["template"]["spec"]["containers"][0]["env"] = variable.clone();
            }),
        ),
        (
            "a label",
            "validate",
            changed(&|new| new["metadata"]["labels"]["team"] = json!("search")),
        ),
        (
            "another workload",
            "validate",
            update(&web, &web_after).to_string(),
        ),
        (
            "a version label",
            "mutate",
            changed(&|new| {
                new["spec"]["template"]["spec"]["containers"][0]["image"] =
                    json!("milvusdb/milvus:v2.3.21");
            }),
        ),
        (
            "a Helm release",
            "validate",
            String::from_utf8(bombs::manifest(&[(&manifest, 1)])).unwrap(),
        ),
        (
            "an unsafe change",
            "validate",
            changed(&|new| {
                new["spec"]["template"]["spec"]["containers"][0]["image"] =
                    json!("milvusdb/milvus:v2.4.5");
            }),
        ),
    ];
    let questions: Vec<Question> = all
        .into_iter()
        .map(|(name, gate, body)| {
            let path = format!("{}?timeout=5s", caller.path.replace("validate", gate));
            let reply = caller.connect().post(&path, body.as_bytes()).unwrap();
            assert_eq!(reply.status, 200, "{name}: {}", reply.text());
            Question {
                name,
                path,
                body,
                answer: serde_json::from_slice(&reply.body).unwrap(),
            }
        })
        .collect();
    for question in &questions {
        let answer = &question.answer["response"];
        let is_right = match question.name {
            "an unsafe change" => {
                answer["allowed"] == false && answer.to_string().contains("MG201")
            }
            "a version label" => answer["allowed"] == true && answer["patchType"] == "JSONPatch",
            _ => answer["allowed"] == true && !answer.to_string().contains("did not check"),
        };
        assert!(is_right, "{}: {answer}", question.name);
    }
    questions
}

/// A stream of honest reviews; returns the duration of each, with the index of its question.
fn honest(caller: &Caller, questions: &[Question]) -> Vec<(usize, Duration)> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let client = || {
        let mut took = Vec::new();
        let mut connection: Option<(Https, usize)> = None;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= REVIEWS {
                return took;
            }
            // A denial waits for a live read that requests share, and releases are rare: one in
            // ten, and one in twenty.
            let which = match number % 20 {
                9 | 19 => 5,
                4 => 4,
                other => other % 4,
            };
            let question = &questions[which];
            let due =
                begun + EVERY / u32::try_from(CLIENTS).unwrap() * u32::try_from(number).unwrap();
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let uid = format!("honest-{number}");
            let body = question
                .body
                .replacen(r#""uid":"u-1""#, &format!(r#""uid":"{uid}""#), 1);
            let asked = Instant::now();
            let reply = loop {
                let (mut open, used) = connection.take().unwrap_or_else(|| (caller.connect(), 0));
                match open.post(&question.path, body.as_bytes()) {
                    Ok(reply) => {
                        connection = (!reply.closes() && used + 1 < PER_CONNECTION)
                            .then_some((open, used + 1));
                        break reply;
                    }
                    // A connection ended between two reviews: the API server also retries.
                    Err(error) if used > 0 => eprintln!("a connection ended after {used}: {error}"),
                    Err(error) => panic!("a review was lost on a new connection: {error}"),
                }
            };
            took.push((which, asked.elapsed()));
            assert_eq!(reply.status, 200, "{}: {}", question.name, reply.text());
            let answer: Value = serde_json::from_slice(&reply.body).unwrap();
            let mut right = question.answer.clone();
            right["response"]["uid"] = json!(uid);
            assert_eq!(answer, right, "{}", question.name);
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients
            .into_iter()
            .flat_map(|client| {
                client
                    .join()
                    .expect("every review of this client must be answered correctly")
            })
            .collect()
    })
}

/// Counts of what the attackers did.
#[derive(Default)]
struct Attacks {
    over: AtomicBool,
    silent: AtomicUsize,
    idle: AtomicUsize,
    slow: AtomicUsize,
    refused: AtomicUsize,
    bombs: AtomicUsize,
}

impl Attacks {
    /// Repeats an action until the end of the attack.
    fn again(&self, count: &AtomicUsize, mut once: impl FnMut() -> bool) {
        while !self.over.load(Ordering::Relaxed) {
            if once() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Holds this many connections, and continuously replaces the oldest by new ones.
    fn hold<T>(
        &self,
        count: &AtomicUsize,
        most: usize,
        pause: Duration,
        open: impl Fn(usize) -> io::Result<T>,
    ) {
        let mut held = VecDeque::new();
        let mut number = 0;
        self.again(count, || {
            if held.len() >= most {
                held.pop_front();
                thread::sleep(pause);
            }
            number += 1;
            open(number).map(|one| held.push_back(one)).is_ok()
        });
    }

    /// Every attack at once, until the end.
    fn run(&self, caller: &Caller, bombs: &[Bomb]) {
        let address = caller.url.trim_start_matches("https://");
        let tls = || Https::connect(&caller.url, &caller.config);
        let head = |path: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 7000000\r\n\r\n"
            )
        };
        let wrong = format!("/validate/{}", "0".repeat(64));
        let path = format!("{}?timeout=5s", caller.path);
        let part = vec![b' '; 1_500_000];
        thread::scope(|scope| {
            scope.spawn(|| {
                self.hold(&self.silent, 600, Duration::from_millis(5), |_| {
                    TcpStream::connect(address)
                });
            });
            scope.spawn(|| {
                self.hold(&self.idle, 100, Duration::from_millis(20), |number| {
                    let mut connection = tls()?;
                    connection.send(if number % 2 == 0 {
                        b"PRI * HTTP/2.0\r\n"
                    } else {
                        b"P"
                    })?;
                    Ok(connection)
                });
            });
            for known in [true, false] {
                let head = head(if known { &caller.path } else { &wrong });
                let (part, tls) = (&part, &tls);
                scope.spawn(move || {
                    self.hold(&self.slow, 20, Duration::from_millis(100), |number| {
                        let mut connection = tls()?;
                        connection.send(head.as_bytes())?;
                        if number % 2 == 0 {
                            // The server may close the connection meanwhile.
                            let _ = connection.send(part);
                        }
                        Ok(connection)
                    });
                });
            }
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut open = None;
                    self.again(&self.refused, || {
                        let Some(mut connection) = open.take().or_else(|| tls().ok()) else {
                            return false;
                        };
                        let Ok(reply) = connection.post(&wrong, b"{}") else {
                            return false;
                        };
                        assert_eq!(reply.status, 404);
                        open = Some(connection);
                        true
                    });
                });
            }
            for turn in 0..8 {
                let (path, tls) = (&path, &tls);
                scope.spawn(move || {
                    let mut next = bombs.iter().cycle().skip(turn * bombs.len() / 8);
                    self.again(&self.bombs, || {
                        // A bomb may be answered late or not at all; only honest reviews count.
                        let bomb = next.next().unwrap();
                        tls().is_ok_and(|mut connection| connection.post(path, &bomb.body).is_ok())
                    });
                });
            }
        });
    }
}

/// In milliseconds: the median, the 99th percentile and the maximum.
fn figures(took: &[(usize, Duration)], which: Option<usize>) -> [f64; 3] {
    let mut all: Vec<f64> = took
        .iter()
        .filter(|(of, _)| which.is_none_or(|which| which == *of))
        .map(|(_, took)| took.as_secs_f64() * 1000.0)
        .collect();
    all.sort_by(f64::total_cmp);
    let at = |percent: usize| all[(all.len() - 1) * percent / 100];
    [at(50), at(99), at(100)]
}

#[test]
#[ignore = "needs root and a release build: make test-hostile"]
fn honest_reviews_are_in_time_and_memory_stays_within_its_limit_during_attacks() {
    let _machine = alone();
    assert!(
        env::var_os(BINARY).is_some(),
        "{BINARY} must name the released program, which is measured"
    );
    let (limit, timeout) = chart();
    let cgroup = Cgroup::with_limit(&limit);
    let mut webhook = Webhook::start();
    let release = Chart::compact("4.1.34");
    webhook.install(Helm::V4, &release, &["--set", "image.all.tag=v2.3.22"]);
    webhook.roll_out("milvus");
    webhook.server.kill();
    let kubeconfig = webhook
        .cluster
        .kubeconfig_for_service_account(GUARD, "milvus-guard");
    let command = serve(
        &kubeconfig,
        webhook.folder.path(),
        "127.0.0.1:0",
        &["--log-format", "json"],
    );
    webhook.server = Server::spawn_ready(cgroup.enclosed(&command), webhook.folder.path());
    webhook.register();
    let pid = webhook.server.pid();
    assert!(cgroup.holds(pid), "the server must run in the cgroup");

    let caller = Caller::of(&webhook.cluster, &webhook.server, webhook.folder.path());
    let questions = questions(&webhook, &caller);
    let calm = honest(&caller, &questions);
    let before = (cgroup.peak(), webhook.server.peak_kib());
    let (bombs, attacks) = (bombs::of_every_kind(), Attacks::default());
    let stormy = thread::scope(|scope| {
        let attackers = scope.spawn(|| attacks.run(&caller, &bombs));
        let answered =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| honest(&caller, &questions)));
        attacks.over.store(true, Ordering::Relaxed);
        attackers
            .join()
            .expect("requests on a wrong path must be answered with 404");
        assert_eq!(
            cgroup.oom_kills(),
            0,
            "killed at {} MiB",
            cgroup.peak() / MIB as u64
        );
        answered.expect("honest reviews must be answered")
    });

    let (peak, resident) = (cgroup.peak(), webhook.server.peak_kib() * 1024);
    let counted = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let Attacks {
        silent,
        idle,
        slow,
        refused,
        bombs: sent,
        ..
    } = &attacks;
    let did = [silent, idle, slow, refused, sent].map(counted);
    eprintln!(
        "silent, idle TLS, slow bodies, requests on a wrong path, bombs of {} kinds: {did:?}",
        bombs.len()
    );
    for which in [None].into_iter().chain((0..questions.len()).map(Some)) {
        let name = which.map_or("all", |which| questions[which].name);
        let (alone, beside) = (figures(&calm, which), figures(&stormy, which));
        let ratio = |at: usize| beside[at] / alone[at];
        eprintln!(
            "{name}: p50, p99, longest [ms] alone {alone:.1?}, during attacks {beside:.1?}; ratio \
             {:.1}, {:.1}, {:.1}",
            ratio(0),
            ratio(1),
            ratio(2)
        );
    }
    let mib = |bytes: u64| bytes / MIB as u64;
    eprintln!(
        "peak of the cgroup {} MiB, resident {} MiB (before the attacks {} and {} MiB); limit \
         {limit}",
        mib(peak),
        mib(resident),
        mib(before.0),
        before.1 / 1024
    );
    assert_eq!((calm.len(), stormy.len()), (REVIEWS, REVIEWS));
    let longest = stormy.iter().map(|(_, took)| *took).max().unwrap();
    assert!(
        longest < timeout,
        "{longest:?}: an API server waits for {timeout:?}"
    );
    assert!(
        did[0] > 512 && did[1] > 100 && did[2] > 20 && did[3] > 1000 && did[4] >= bombs.len(),
        "too few attacks were made: {did:?}"
    );
    assert_eq!(cgroup.oom_kills(), 0);
    assert!(
        cgroup.holds(pid) && webhook.server.is_ready(),
        "the same process must still run and be ready"
    );
    assert!(
        peak < MAX_PEAK && resident < MAX_PEAK,
        "{} and {} MiB",
        mib(peak),
        mib(resident)
    );
    let log = webhook.server.log();
    assert!(!log.contains("panicked"), "{log}");
    expect_success(webhook.cluster.kubectl([
        "-n",
        "milvus",
        "scale",
        "deployment/my-release-milvus-proxy",
        "--replicas=2",
    ]));
}
