//! What real Milvus servers report: complete after a load, what is missing after a restart, and why
//! there is no answer. The servers are large downloads: `make test-milvus`.

use std::future::Future;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use milvus_guard_sources::etcd::Tls;
use milvus_guard_sources::milvus::{
    ApiError, CollectionLoad, Loaded, Login, Proxy, health, loaded, version,
};
use milvus_guard_testbed::{
    Etcd, EtcdOptions, Milvus, MilvusStore, MilvusVersion, expect_success, wait_for,
};
use rstest::rstest;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/milvus/books.py");
/// The initial password of `root`.
const PASSWORD: &str = "Milvus";
/// Rows of one batch that the script writes.
const ROWS: i64 = 2000;
const DEADLINE: Duration = Duration::from_secs(120);

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn proxy(server: &Milvus, user: &str, password: &str) -> Proxy {
    let login = Login::Password {
        user: user.into(),
        password: password.into(),
    };
    Proxy {
        address: server.endpoint(),
        login,
        ..Proxy::default()
    }
}

fn script(server: &Milvus, verb: &str) {
    expect_success(server.python(
        Path::new(SCRIPT),
        [verb, &server.port().to_string(), PASSWORD],
    ));
}

fn names(loaded: &Loaded) -> Vec<String> {
    loaded
        .collections
        .iter()
        .map(CollectionLoad::label)
        .collect()
}

fn collection<'a>(loaded: &'a Loaded, label: &str) -> &'a CollectionLoad {
    loaded
        .collections
        .iter()
        .find(|collection| collection.label() == label)
        .unwrap_or_else(|| panic!("{label}: {loaded:#?}"))
}

/// How many restarts are tried until one is seen with something missing.
const RESTARTS: usize = 4;

/// Waits until Milvus reports that everything is loaded.
fn complete(proxy: &Proxy) -> Loaded {
    let mut last = None;
    wait_for("all to be loaded", DEADLINE, || {
        last = Some(run(loaded(proxy)).unwrap());
        last.as_ref().is_some_and(Loaded::is_complete)
    });
    last.unwrap()
}

#[rstest]
#[case(MilvusVersion::V2_2_16, "2.2")]
#[case(MilvusVersion::V2_3_5, "2.3")]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn a_real_milvus_reports_what_is_loaded_and_what_is_missing(
    #[case] wheel: MilvusVersion,
    #[case] minor: &str,
) {
    let server = MilvusStore::new().with_authorization().serve(wheel);
    let root = proxy(&server, "root", PASSWORD);
    script(&server, "write");
    say(wheel, "written");

    let told = run(version(&root)).unwrap();
    assert!(told.contains(minor), "{told}");
    say(wheel, &format!("calls itself {told}"));
    let told = run(health(&root)).unwrap();
    assert!(told.healthy, "{told:?}");
    logins(wheel, &server);

    let whole = complete(&root);
    assert_eq!(
        names(&whole),
        ["books", "drafts", "shop/orders"],
        "only loaded collections, without released ones"
    );
    assert_eq!(whole.notes, Vec::<String>::new());
    for (label, rows) in [("books", 3 * ROWS), ("drafts", ROWS), ("shop/orders", ROWS)] {
        let collection = collection(&whole, label);
        assert_eq!(collection.progress, 100, "{collection:#?}");
        assert_eq!(collection.shards.len(), 2, "{collection:#?}");
        assert_eq!(
            collection.expected.values().sum::<i64>(),
            rows,
            "{collection:#?}"
        );
        let replicas = collection.replicas.as_ref().unwrap();
        assert_eq!(
            (
                replicas.len(),
                replicas[0].leaders.len(),
                replicas[0].nodes.len()
            ),
            (1, 2, 1),
            "{collection:#?}"
        );
    }
    let one = Proxy {
        databases: vec!["shop".into()],
        ..root.clone()
    };
    assert_eq!(names(&run(loaded(&one)).unwrap()), ["shop/orders"]);
    // Without the only node, nothing is complete.
    assert!(!whole.clone().on_nodes(&[-1].into()).is_complete());
    let baseline = whole.baseline();
    assert_eq!(whole.regained(&baseline), Ok(()));

    script(&server, "release");
    let without = run(loaded(&root)).unwrap();
    assert_eq!(names(&without), ["drafts", "shop/orders"]);
    let lost = without.regained(&baseline).unwrap_err();
    assert!(
        lost.len() == 1 && lost[0].contains("collection books: was loaded before"),
        "{lost:?}"
    );
    script(&server, "load");
    assert_eq!(complete(&root).regained(&baseline), Ok(()));
    say(wheel, "released and loaded again");

    // On a busy machine everything can be loaded before the server answers for the first time.
    let mut seen = Vec::new();
    for _ in 0..RESTARTS {
        server.daemon().stop();
        let error = run(loaded(&root)).unwrap_err();
        assert!(
            matches!(error, ApiError::Unreachable { .. }) && !error.is_lasting(),
            "{error}"
        );
        seen = restarted(&server, &root);
        assert_eq!(complete(&root).regained(&baseline), Ok(()));
        if seen.iter().any(|answer| answer.starts_with("missing: ")) {
            break;
        }
    }
    assert!(
        seen.iter().any(|answer| answer.starts_with("missing: ")),
        "nothing was ever missing after a restart: {seen:#?}"
    );
    say(wheel, "restarted");

    script(&server, "drop");
    assert_eq!(
        run(loaded(&root)).unwrap().regained(&baseline),
        Ok(()),
        "a dropped collection is not expected"
    );
}

/// A client without access learns the reason within the deadline.
fn logins(wheel: MilvusVersion, server: &Milvus) {
    let nobody = Proxy {
        login: Login::None,
        ..proxy(server, "", "")
    };
    for (proxy, was_given) in [
        (&nobody, false),
        (&proxy(server, "root", "wrong-password"), true),
    ] {
        for error in [
            run(health(proxy)).unwrap_err(),
            run(version(proxy)).unwrap_err(),
            run(loaded(proxy)).unwrap_err(),
        ] {
            let expected =
                matches!(error, ApiError::Unauthenticated { given, .. } if given == was_given);
            assert!(
                expected && error.is_lasting(),
                "{}: {error:?}",
                wheel.name()
            );
            assert!(!error.to_string().contains("wrong-password"), "{error}");
        }
    }
    let token = Proxy {
        login: Login::Token(format!("root:{PASSWORD}")),
        ..nobody
    };
    run(version(&token)).unwrap();
    match (wheel, run(loaded(&proxy(server, "guest", "a-password")))) {
        // 2.2 requires a right to list databases, but a guest may do everything else.
        (MilvusVersion::V2_2_16, told) => {
            let told = told.unwrap();
            assert!(
                told.notes.iter().any(|note| note.contains("ListDatabases")),
                "{:?}",
                told.notes
            );
            assert_eq!(names(&told), ["books", "drafts"], "the default database");
        }
        (_, told) => {
            let error = told.unwrap_err();
            let expected = matches!(
                error,
                ApiError::PermissionDenied {
                    method: "ShowPartitions",
                    ..
                }
            );
            assert!(
                expected && error.is_lasting(),
                "{}: {error:?}",
                wheel.name()
            );
        }
    }
}

/// Restarts the server and polls until it has everything; returns the answers, without repetitions.
fn restarted(server: &Milvus, proxy: &Proxy) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    thread::scope(|scope| {
        let begin = Instant::now();
        scope.spawn(|| server.daemon().restart());
        wait_for("all to be loaded again", 2 * DEADLINE, || {
            let (answer, complete) = match run(loaded(proxy)) {
                Ok(loaded) if loaded.is_complete() => ("complete".to_owned(), true),
                Ok(loaded) => (format!("missing: {}", loaded.missing().join("; ")), false),
                Err(error) => (error.to_string(), false),
            };
            if seen.last() != Some(&answer) {
                say(
                    server.version(),
                    &format!("after {:.1} s: {answer}", begin.elapsed().as_secs_f64()),
                );
                seen.push(answer);
            }
            // A server that answers before it has loaded its collections is not complete.
            complete && run(loaded(proxy)).is_ok_and(|loaded| loaded.collections.len() == 3)
        });
    });
    seen
}

#[test]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn a_milvus_that_is_too_old_is_recognized() {
    let server = MilvusStore::new().serve(MilvusVersion::V2_1_0);
    expect_success(server.python(Path::new(SCRIPT), ["few", &server.port().to_string()]));
    let proxy = Proxy {
        address: server.endpoint(),
        ..Proxy::default()
    };
    let error = run(health(&proxy)).unwrap_err();
    assert_eq!(
        error,
        ApiError::Unimplemented {
            method: "CheckHealth"
        }
    );
    let whole = complete(&proxy);
    assert_eq!(names(&whole), ["few"]);
    assert!(
        whole.notes.iter().any(|note| note.contains("no databases")),
        "{:?}",
        whole.notes
    );
}

/// Any gRPC server will do: an etcd has no method of Milvus.
#[test]
fn a_proxy_with_tls_is_reached_and_errors_name_the_reason() {
    let server = Etcd::start_with(&EtcdOptions {
        tls: true,
        ..EtcdOptions::default()
    });
    let file = |path: &Path| Some(path.to_owned());
    let tls = Tls {
        ca: file(server.ca_path()),
        cert: file(server.client_cert_path()),
        key: file(server.client_key_path()),
    };
    let secure = Proxy {
        address: server.endpoint(),
        tls: Some(tls),
        ..Proxy::default()
    };
    assert_eq!(
        run(version(&secure)),
        Err(ApiError::Unimplemented {
            method: "GetVersion"
        })
    );
    let reason = |proxy: &Proxy| match run(version(proxy)) {
        Err(ApiError::Unreachable { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let unknown = reason(&Proxy {
        tls: None,
        ..secure.clone()
    });
    assert!(unknown.contains("give its CA"), "{unknown}");
    let other_host = reason(&Proxy {
        server_name: Some("milvus.example".into()),
        ..secure.clone()
    });
    assert!(
        other_host.contains(r#"not valid for name "milvus.example""#),
        "{other_host}"
    );
    let plain = reason(&Proxy {
        tls: None,
        address: secure.address.replace("https", "http"),
        ..Proxy::default()
    });
    assert!(plain.contains("https://"), "{plain}");
}

/// Progress for a user who waits for minutes.
fn say(version: MilvusVersion, what: &str) {
    // Not eprintln: libtest would capture it.
    eprintln!("test-milvus: {}: {what}", version.name());
}
