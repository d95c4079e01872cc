use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::certs::{Authority, Identity, service_account_keys};
use crate::command::flag;
use crate::daemon::{Daemon, Ready};
use crate::http::Client;
use crate::kubeconfig::{kubeconfig, with_certificate};
use crate::ports::with_free_ports;
use crate::programs::Program;
use crate::scratch::Scratch;
use crate::{Error, Etcd};

/// The API server and its certificates.
#[derive(Debug)]
pub(crate) struct ApiServer {
    pub(crate) daemon: Daemon,
    pub(crate) port: u16,
    pub(crate) client: Client,
    pub(crate) certs: Certs,
}

#[derive(Debug)]
pub(crate) struct Certs {
    pub(crate) authority: Authority,
    pub(crate) server: Identity,
    pub(crate) admin: Identity,
    pub(crate) service_account_key: PathBuf,
    pub(crate) service_account_pub: PathBuf,
}

impl ApiServer {
    pub(crate) fn start(scratch: &Scratch, etcd: &Etcd, more: &[String]) -> Result<Self, Error> {
        let certs = Certs::new(scratch)?;
        let (daemon, port, client) =
            with_free_ports(|ports| Self::start_on(ports, &certs, etcd, more, scratch))?;
        Ok(Self {
            daemon,
            port,
            client,
            certs,
        })
    }

    fn start_on(
        [port]: [u16; 1],
        certs: &Certs,
        etcd: &Etcd,
        more: &[String],
        scratch: &Scratch,
    ) -> Result<(Daemon, u16, Client), Error> {
        let mut args: Vec<OsString> = [
            format!("--etcd-servers={}", etcd.endpoint()),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            // The Service `kubernetes` cannot have a loopback address as its endpoint, and no test
            // needs it.
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--profiling=false".to_owned(),
        ]
        .map(OsString::from)
        .to_vec();
        args.extend([
            flag("--tls-cert-file", &certs.server.cert_path),
            flag("--tls-private-key-file", &certs.server.key_path),
            flag("--client-ca-file", &certs.authority.path),
            flag("--service-account-key-file", &certs.service_account_pub),
            flag(
                "--service-account-signing-key-file",
                &certs.service_account_key,
            ),
            flag("--cert-dir", &scratch.join("api-server-certs")),
        ]);
        if etcd.has_tls() {
            args.extend([
                flag("--etcd-cafile", etcd.ca_path()),
                flag("--etcd-certfile", etcd.client_cert_path()),
                flag("--etcd-keyfile", etcd.client_key_path()),
            ]);
        }
        args.extend(more.iter().map(OsString::from));
        let client = Client::tls(port, &certs.authority, &certs.admin)?;
        let asked = client.clone();
        // The server creates the namespace only after it is ready, and almost every test writes
        // into it.
        let ready: Ready =
            Box::new(move |_| asked.is_ok("/readyz") && asked.is_ok("/api/v1/namespaces/default"));
        Ok((
            Daemon::start(Program::KubeApiserver, args, scratch, ready)?,
            port,
            client,
        ))
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// A kubeconfig for this server.
    pub(crate) fn kubeconfig(&self, user: &Value) -> String {
        kubeconfig(&self.url(), &self.certs.authority.pem, user)
    }

    /// A kubeconfig for a part of the control plane.
    fn component_kubeconfig(&self, scratch: &Scratch, name: &str) -> Result<PathBuf, Error> {
        let identity =
            self.certs
                .authority
                .client(scratch, name, &format!("system:{name}"), None)?;
        scratch.write(
            &format!("{name}.kubeconfig"),
            &self.kubeconfig(&with_certificate(&identity)),
        )
    }

    /// Flags that controller manager and scheduler share. The port serves only `/healthz`, without
    /// authentication.
    fn component_args(&self, port: u16, kubeconfig: &Path) -> Vec<OsString> {
        vec![
            flag("--kubeconfig", kubeconfig),
            flag("--tls-cert-file", &self.certs.server.cert_path),
            flag("--tls-private-key-file", &self.certs.server.key_path),
            format!("--secure-port={port}").into(),
            "--bind-address=127.0.0.1".into(),
            "--leader-elect=false".into(),
            // With the default limits, which are for large clusters, the controllers wait 4 s in
            // all at their start.
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
        ]
    }

    pub(crate) fn start_controller_manager(&self, scratch: &Scratch) -> Result<Daemon, Error> {
        let kubeconfig = self.component_kubeconfig(scratch, "kube-controller-manager")?;
        with_free_ports(|[port]| {
            let mut args = self.component_args(port, &kubeconfig);
            args.push(flag(
                "--service-account-private-key-file",
                &self.certs.service_account_key,
            ));
            args.push(flag("--root-ca-file", &self.certs.authority.path));
            args.push("--use-service-account-credentials=true".into());
            // No kubelet reports here. The node controllers would evict the pods of nodes that a
            // test creates. The pod garbage collector would set a terminating pod without a node to
            // Failed at its next tick, which a test cannot predict.
            let off = [
                "node-ipam",
                "node-lifecycle",
                "taint-eviction",
                "pod-garbage-collector",
            ];
            let off = off.map(|name| format!("-{name}-controller")).join(",");
            args.push(format!("--controllers=*,{off}").into());
            let health = Client::tls(port, &self.certs.authority, &self.certs.admin)?;
            let api = self.client.clone();
            let ready: Ready = Box::new(move |_| {
                health.is_ok("/healthz")
                    && api.is_ok("/api/v1/namespaces/default/serviceaccounts/default")
            });
            Daemon::start(Program::KubeControllerManager, args, scratch, ready)
        })
    }

    pub(crate) fn start_scheduler(&self, scratch: &Scratch) -> Result<Daemon, Error> {
        let kubeconfig = self.component_kubeconfig(scratch, "kube-scheduler")?;
        with_free_ports(|[port]| {
            let health = Client::tls(port, &self.certs.authority, &self.certs.admin)?;
            let ready: Ready = Box::new(move |_| health.is_ok("/healthz"));
            Daemon::start(
                Program::KubeScheduler,
                self.component_args(port, &kubeconfig),
                scratch,
                ready,
            )
        })
    }
}

impl Certs {
    fn new(scratch: &Scratch) -> Result<Self, Error> {
        let authority = Authority::new(scratch)?;
        let server = authority.server(
            scratch,
            "server",
            &["localhost", "kubernetes", "kubernetes.default.svc"],
        )?;
        let admin = authority.client(scratch, "admin", "admin", Some("system:masters"))?;
        let (service_account_key, service_account_pub) = service_account_keys(scratch)?;
        Ok(Self {
            authority,
            server,
            admin,
            service_account_key,
            service_account_pub,
        })
    }
}
