//! A real API server calls over TLS: it trusts the CA that the managed mode registered, and
//! presents the client certificate as configured according to `certs/README.md`.

use std::{fs, sync::Arc, time::Duration};

use milvus_guard_sources::kubernetes::{Access, Cluster};
use milvus_guard_testbed::ControlPlane;
use milvus_guard_webhook::certs::{
    CertStore, Managed, client_name, managed::Registers, server_config,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_presents_its_client_certificate() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver-webhooks");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let shown = params.signed_by(&key, &authority).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("client.crt"), shown.pem()).unwrap();
    fs::write(path("client.key"), key.serialize_pem()).unwrap();
    let user = json!({"name": address.to_string(), "user": {"client-certificate": path("client.crt"), "client-key": path("client.key")}});
    fs::write(
        path("kubeconfig"),
        json!({"apiVersion": "v1", "kind": "Config", "users": [user]}).to_string(),
    )
    .unwrap();
    let plugin = json!({"name": "ValidatingAdmissionWebhook", "configuration": {
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration", "kubeConfigFile": path("kubeconfig")}});
    let admission = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": [plugin]});
    fs::write(path("admission.yaml"), admission.to_string()).unwrap();
    let flag = format!("--admission-control-config-file={}", path("admission.yaml"));
    let cluster = ControlPlane::builder().api_server_arg(flag).start();

    cluster.apply(&format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {{name: milvus-guard}}\nwebhooks:\n\
         - name: validate.guard.milvus.io\n  admissionReviewVersions: [v1]\n  sideEffects: None\n  failurePolicy: Ignore\n  \
         rules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}}]\n  \
         clientConfig: {{url: 'https://{address}/validate'}}\n"
    ));
    let access = Access {
        kubeconfig: Some(cluster.kubeconfig().into()),
        context: None,
    };
    let managed = Managed {
        client: Cluster::connect(&access).await.unwrap().client().clone(),
        namespace: "default".into(),
        secret: "milvus-guard-tls".into(),
        names: vec!["127.0.0.1".into()],
        webhook_configuration: "milvus-guard".into(),
        registers: Registers::Itself,
    };
    let store = CertStore::new();
    tokio::spawn(managed.follow(store.clone(), || true, Duration::from_millis(20), |_| ()));

    let acceptor = TlsAcceptor::from(Arc::new(
        server_config(store, Some(authority.pem().as_bytes())).unwrap(),
    ));
    let (said, mut heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A failed handshake comes from an API server that has not read the bundle yet; it
            // retries.
            if let Ok(stream) = acceptor.accept(stream).await {
                let _ = said.send(stream.get_ref().1.peer_certificates().and_then(client_name));
            }
        }
    });
    let asked = async {
        let mut number = 0;
        loop {
            number += 1;
            cluster.kubectl(["create", "configmap", &format!("map-{number}")]);
            if let Ok(name) = heard.try_recv() {
                return name;
            }
        }
    };
    let name = tokio::time::timeout(DEADLINE, asked)
        .await
        .expect("the API server must call");
    assert_eq!(name.as_deref(), Some("kube-apiserver-webhooks"));
}
