//! The post-renderer with Helm's SQL driver: Helm's records are in a real `PostgreSQL`, where no
//! webhook and no reader of the cluster sees them. It needs the database's package: `make
//! test-node`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use milvus_guard_testbed::{ControlPlane, Postgres};

use crate::common::{
    Chart,
    plugin::{BOTH, PATCH, PluginCluster, SKIPPED},
};

/// Runs the check with each Helm with our plugins, and with its records in a separate database.
fn with_database(cluster: &ControlPlane, judge: impl Fn(&PluginCluster, &Postgres)) {
    for with in BOTH {
        let database = Postgres::start();
        let mut setup = PluginCluster::new(cluster, with);
        setup.variables = vec![
            ("HELM_DRIVER", "sql".into()),
            ("HELM_DRIVER_SQL_CONNECTION_STRING", database.url()),
        ];
        judge(&setup, &database);
        let path = format!("/api/v1/namespaces/{}/secrets", setup.namespace);
        let secrets = cluster.get_json(&path).to_string();
        assert!(!secrets.contains("sh.helm.release"), "{with:?}: {secrets}");
    }
}

#[test]
#[ignore = "needs PostgreSQL: make test-node"]
fn a_skipped_migration_is_stopped_when_the_records_are_in_a_database() {
    let cluster = ControlPlane::start();
    with_database(&cluster, |setup, database| {
        setup.install(&Chart::compact("3.2.18"), &[]);
        assert_eq!(setup.history(), ["deployed"]);
        let next = Chart::compact("4.0.31");
        let verbs: [&[&str]; 4] = [
            &["upgrade"],
            &["upgrade", "--install"],
            &["upgrade", "--dry-run=server"],
            &["template", "--is-upgrade"],
        ];
        for verb in verbs {
            let (code, stdout, stderr) = setup.rendered(verb, &next, &SKIPPED);
            let seen = format!("{:?} {verb:?}: {code} {stdout}{stderr}", setup.with);
            assert_ne!(code, 0, "{seen}");
            for part in [
                "milvus-guard stops this release. Helm has stored and sent nothing.",
                "MG101 2.1.4 would become 2.2.16 without evidence of a metadata migration",
                "post render",
            ] {
                assert!(stderr.contains(part), "{part:?} is missing: {seen}");
            }
            assert!(!stdout.contains("kind: Deployment"), "{seen}");
            assert!(!seen.contains(database.password()), "{seen}");
        }
        assert_eq!(setup.history(), ["deployed"]);
        assert_eq!(setup.images(), ["milvusdb/milvus:v2.1.4"]);
    });
}

#[test]
#[ignore = "needs PostgreSQL: make test-node"]
fn a_good_upgrade_is_unchanged_when_the_records_are_in_a_database() {
    let cluster = ControlPlane::start();
    with_database(&cluster, |setup, _| {
        let chart = Chart::compact("4.1.34");
        setup.install(&chart, &[]);
        let upgrade = |revision: &str| {
            let (code, _, stderr) = setup.rendered(&["upgrade"], &chart, &PATCH);
            assert_eq!(code, 0, "{:?}: {stderr}", setup.with);
            let (code, kept, stderr) = setup.helm(&[
                "get",
                "manifest",
                "my-release",
                "-n",
                setup.namespace,
                "--revision",
                revision,
            ]);
            assert_eq!(code, 0, "{:?}: {stderr}", setup.with);
            kept
        };
        let ours = upgrade("2");
        assert_eq!(setup.images(), ["milvusdb/milvus:v2.4.24"]);
        // The same with a copy of the post-renderer instead of the link.
        fs::remove_file(setup.post_renderer_link()).unwrap();
        fs::write(setup.post_renderer_link(), "#!/bin/sh\nexec cat\n").unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(setup.post_renderer_link(), executable).unwrap();
        let copied = upgrade("3");
        assert!(ours.contains("kind: Deployment"), "{:?}", setup.with);
        assert_eq!(ours, copied, "{:?}", setup.with);
        assert_eq!(setup.history(), ["superseded", "superseded", "deployed"]);
    });
}
