//! Answers without time to judge, and without the ability to judge.

use super::*;

/// A state source with these running objects.
fn state_source(objects: Vec<milvus_guard_core::manifest::Object>) -> StateSource {
    StateSource::Files(Box::new(crate::server::state_source::Files {
        place: Arc::new(milvus_guard_core::milvus::NamespaceState::new(objects)),
        facts: milvus_guard_core::evidence::Facts::default(),
        policies: milvus_guard_core::policy::PolicySet::default(),
        accounts: milvus_guard_core::admission::review_state::Accounts::default(),
        catalogue: crate::server::data::Data::default(),
        decisions: std::sync::Mutex::default(),
    }))
}

#[test]
fn a_denial_stays_if_there_is_no_time_to_confirm_it() {
    let fixture = milvus_guard_core::rules::testing::Fixture::cluster("2.4.5");
    let failure = FailurePolicies {
        release: FailurePolicy::Ignore,
        workload: FailurePolicy::Fail,
    };
    let answerer = Answerer::new(
        state_source(milvus_guard_core::rules::testing::objects(&fixture)),
        Arc::new(Metrics::new()),
        None,
        failure,
    );
    let yaml = fixture.yaml();
    let mut documents = milvus_guard_core::manifest::documents(&yaml)
        .map(|document| document.unwrap().root.to_json());
    let old = documents
        .find(|object| {
            object["metadata"]["name"]
                .as_str()
                .unwrap()
                .ends_with("-proxy")
        })
        .unwrap();
    let new = old.to_string().replace("2.4.5", "2.5.12");
    let text = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","request":{{"uid":"1","operation":"UPDATE","namespace":"milvus","name":{},"resource":{{"group":"apps","version":"v1","resource":"deployments"}},"object":{new},"oldObject":{old}}}}}"#,
        old["metadata"]["name"]
    );
    let review = Review::parse(text.as_bytes()).unwrap();
    let task = Task::within(&review, &Budget::small());
    let namespace = task.namespace().unwrap();
    let now = Timestamp::now();
    let mut cut_short = 0;
    // The time ends after this number of rules.
    for rules in 0..200 {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let late = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= rules;
        let by_memory = answerer.ruling(&task, &answerer.state_source.state(namespace, now, None));
        assert!(
            by_memory
                .response
                .denied
                .as_ref()
                .unwrap()
                .contains("MG201")
        );
        let live = answerer
            .state_source
            .state(namespace, now, Some(Overdue(&late)));
        cut_short += usize::from(ran_out_of_time(&answerer.ruling(&task, &live)));
        asked.store(0, std::sync::atomic::Ordering::Relaxed);
        let ruling = answerer.confirm(&task, by_memory, Doubt::Denial, Ok(live));
        let said = ruling
            .response
            .denied
            .unwrap_or_else(|| panic!("allowed after {rules} rules"));
        assert!(
            said.contains("MG201 component-order: proxy would change"),
            "{said}"
        );
    }
    assert!(cut_short > 10 && cut_short < 200, "{cut_short}");
}

#[test]
fn a_guard_that_cannot_judge_allows_other_workloads_in_namespaces_without_milvus() {
    let state_source = |milvus: bool| {
        let fixture = milvus_guard_core::rules::testing::Fixture::cluster("2.4.5");
        state_source(if milvus {
            milvus_guard_core::rules::testing::objects(&fixture)
        } else {
            Vec::new()
        })
    };
    let failure = FailurePolicies {
        release: FailurePolicy::Ignore,
        workload: FailurePolicy::Fail,
    };
    let is_denied = |milvus: bool, image: &str| {
        let answerer = Answerer::new(
            state_source(milvus),
            Arc::new(Metrics::new()),
            None,
            failure,
        );
        let text = format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","request":{{"uid":"1","operation":"CREATE","namespace":"n","object":{{"image":"{image}"}}}}}}"#
        );
        let review = Review::parse(text.as_bytes()).unwrap();
        let ruling = answerer.unjudged(Gate::Workload, "it is busy");
        let ruling = answerer.spare_others(Gate::Workload, &review, ruling);
        assert!(
            ruling.response.denied.is_some() || ruling.response.warnings[0].contains("it is busy")
        );
        ruling.response.denied.is_some()
    };
    assert!(!is_denied(false, "bitnami/kafka:3.1.0"));
    assert!(is_denied(true, "bitnami/kafka:3.1.0"));
    assert!(is_denied(false, "milvusdb/milvus:v2.4.5"));
}

/// Reviews whose clients disconnected counted as waiting for ever, and in the end every review was
/// answered with "too many reviews are waiting".
#[tokio::test(flavor = "multi_thread")]
async fn a_review_whose_client_disconnects_is_no_longer_in_flight() {
    let fixture = milvus_guard_core::rules::testing::Fixture::cluster("2.4.5");
    let failure = FailurePolicies {
        release: FailurePolicy::Ignore,
        workload: FailurePolicy::Fail,
    };
    let metrics = Arc::new(Metrics::new());
    let answerer = Answerer::new(
        state_source(milvus_guard_core::rules::testing::objects(&fixture)),
        Arc::clone(&metrics),
        None,
        failure,
    );
    let yaml = fixture.yaml();
    let mut documents = milvus_guard_core::manifest::documents(&yaml)
        .map(|document| document.unwrap().root.to_json());
    let old = documents.next().unwrap();
    let new = old.to_string().replace("2.4.5", "2.5.12");
    let text = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","request":{{"uid":"1","operation":"UPDATE","namespace":"milvus","name":{},"resource":{{"group":"apps","version":"v1","resource":"deployments"}},"object":{new},"oldObject":{old}}}}}"#,
        old["metadata"]["name"]
    );
    // Every slot is taken, so the review waits.
    let every_slot = u32::try_from(answerer.slots.available_permits()).unwrap();
    let taken = answerer.slots.acquire_many(every_slot).await.unwrap();
    let mut answer = Box::pin(answerer.answer(Path::Validate, text.as_bytes(), Some("30s")));
    let waits = tokio::time::timeout(std::time::Duration::from_millis(10), &mut answer).await;
    assert!(waits.is_err() && metrics.in_flight.get() == 1);
    drop(answer);
    assert_eq!(metrics.in_flight.get(), 0);
    drop(taken);
}
