//! Requests to etcd that survive a lost connection, a change of the leader and a stalled disk.
//!
//! Reads are repeated automatically. Writes are not: if the acknowledgement was lost, the write may
//! have been made, and the caller must read back ([`EtcdConnection::try_txn`]).

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use etcd_client::{
    AlarmAction, AlarmType, Client, Error, GetOptions, GetResponse, LeaseTimeToLiveOptions,
    ResponseHeader, TlsOptions, Txn, TxnResponse,
};
use serde::Serialize;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use milvus_guard_core::milvus::metadata_root::Root;

use super::{
    connect::{CONNECT_DEADLINE, Endpoint, public},
    failure::{Failure, Kind},
};

/// Largest page in bytes. A page of collection records with 4096 partitions each is larger and is
/// then read in smaller pages; a single record cannot be larger than etcd's request limit (1.5 MiB
/// by default).
pub const MAX_PAGE_BYTES: usize = 32 * 1024 * 1024;

/// Limit for one request. A page or a transaction takes milliseconds; the election of a leader
/// takes about two seconds.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(8);
/// How long to wait for etcd before a run stops, unless the caller sets another time. A restart
/// of a member takes some seconds.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Pause between attempts: the first one and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Receives the reason for waiting.
pub type Tell<'e> = &'e (dyn Fn(&str) + Send + Sync);

/// A connection to one etcd cluster that reconnects when it breaks. Clones share it.
#[derive(Clone)]
pub struct EtcdConnection<'e> {
    shared: Arc<Shared>,
    patience: Duration,
    tell: Option<Tell<'e>>,
}

struct Shared {
    endpoint: Endpoint,
    /// Prefix of all keys of the metadata; a user who may migrate may read it.
    prefix: String,
    tls: Option<TlsOptions>,
    live: Mutex<Option<Live>>,
    cluster: OnceLock<u64>,
    /// Index of the address to try first.
    next: AtomicUsize,
    generation: AtomicU64,
}

#[derive(Clone)]
struct Live {
    client: Client,
    generation: u64,
}

/// How full etcd is and whether it accepts writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Version of the member that answered.
    pub version: String,
    /// Bytes of its database file.
    pub db_size: i64,
    /// Size in bytes at which it stops accepting writes; 0 if not reported (before etcd 3.6).
    pub quota: i64,
    /// The alarm NOSPACE is raised: etcd accepts no writes.
    pub no_space: bool,
    /// The alarm CORRUPT is raised: members disagree.
    pub corrupt: bool,
}

impl fmt::Debug for EtcdConnection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConnection")
            .field("endpoint", &self.shared.endpoint)
            .finish_non_exhaustive()
    }
}

impl<'e> EtcdConnection<'e> {
    /// Connects to the first endpoint that answers. Each is tried once: if none answers, the
    /// address is most likely wrong.
    ///
    /// # Errors
    /// Invalid settings ([`Kind::Refused`]), or why no endpoint answered.
    pub async fn connect(
        endpoint: &Endpoint,
        patience: Duration,
        tell: Option<Tell<'e>>,
    ) -> Result<Self, Failure> {
        let refused = |reason| Failure::new(Kind::Refused, reason);
        let tls = endpoint
            .prepare()
            .map_err(|error| refused(error.to_string()))?;
        let root = Root::new(&endpoint.root_path, &endpoint.meta_sub_path)
            .map_err(|error| refused(error.to_string()))?;
        let shared = Shared {
            endpoint: endpoint.clone(),
            prefix: root.prefix().to_owned(),
            tls,
            live: Mutex::new(None),
            cluster: OnceLock::new(),
            next: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
        };
        let store = Self {
            shared: Arc::new(shared),
            patience,
            tell,
        };
        store.live().await?;
        Ok(store)
    }

    /// The same connection for a separate task that does not report waiting.
    #[must_use]
    pub fn silent(&self) -> EtcdConnection<'static> {
        EtcdConnection {
            shared: Arc::clone(&self.shared),
            patience: self.patience,
            tell: None,
        }
    }

    /// Id of the etcd cluster.
    #[must_use]
    pub fn cluster_id(&self) -> u64 {
        self.shared.cluster.get().copied().unwrap_or_default()
    }

    /// Prefix of all keys of the metadata.
    pub(super) fn prefix(&self) -> &str {
        &self.shared.prefix
    }

    /// Reads keys; repeated until etcd answers.
    ///
    /// # Errors
    /// The error of etcd, or that it did not answer in time.
    pub async fn get(&self, key: &[u8], options: GetOptions) -> Result<GetResponse, Failure> {
        self.call(|client| {
            let (key, options) = (key.to_vec(), options.clone());
            async move { kv(&client).get(key, Some(options)).await }
        })
        .await
    }

    /// A transaction that only reads; repeated until etcd answers.
    ///
    /// # Errors
    /// The error of etcd, or that it did not answer in time.
    pub async fn read_txn(&self, txn: &Txn) -> Result<TxnResponse, Failure> {
        self.call(|client| {
            let txn = txn.clone();
            async move { kv(&client).txn(txn).await }
        })
        .await
    }

    /// One attempt at a transaction that writes.
    ///
    /// # Errors
    /// After [`Kind::Unavailable`] and [`Kind::Login`] the write may have been made, or may still
    /// be made later; after other kinds it was not made.
    pub async fn try_txn(&self, txn: Txn) -> Result<TxnResponse, Failure> {
        self.attempt(|client| {
            let txn = txn.clone();
            async move { kv(&client).txn(txn).await }
        })
        .await
    }

    /// Grants a lease of `seconds`. If the acknowledgement is lost, the lease expires.
    ///
    /// # Errors
    /// The error of etcd, or that it did not answer in time.
    pub async fn grant(&self, seconds: i64) -> Result<i64, Failure> {
        self.call(|mut client| async move {
            client
                .lease_grant(seconds, None)
                .await
                .map(|lease| lease.id())
        })
        .await
    }

    /// Ends a lease and removes its keys. A lease that has ended already is not an error.
    ///
    /// # Errors
    /// The error of etcd, or that it did not answer in time.
    pub async fn revoke(&self, lease: i64) -> Result<(), Failure> {
        match self
            .call(|mut client| async move { client.lease_revoke(lease).await.map(|_| ()) })
            .await
        {
            Err(failure) if failure.kind == Kind::LeaseGone => Ok(()),
            other => other,
        }
    }

    /// Renews a lease, in one attempt.
    ///
    /// # Errors
    /// [`Kind::LeaseGone`], or why the request failed.
    pub async fn renew(&self, lease: i64) -> Result<(), Failure> {
        let renewed = self.attempt(|mut client| async move {
            match client.lease_keep_alive(lease).await {
                Err(Error::LeaseKeepAliveError(_)) => Ok(false),
                other => other.map(|_| true),
            }
        });
        if renewed.await? {
            Ok(())
        } else {
            Err(Failure::new(Kind::LeaseGone, "the lease has ended"))
        }
    }

    /// Seconds until a lease ends; `None` if it has ended.
    ///
    /// # Errors
    /// The error of etcd, or that it did not answer in time.
    pub async fn time_left(&self, lease: i64) -> Result<Option<i64>, Failure> {
        let answer = self
            .call(|mut client| async move { client.lease_time_to_live(lease, None).await })
            .await?;
        Ok(u64::try_from(answer.ttl()).ok().map(|_| answer.ttl()))
    }

    /// Keys that a lease holds; `None` if it has ended.
    ///
    /// # Errors
    /// The error of etcd, or that it did not answer in time.
    pub async fn keys_of(&self, lease: i64) -> Result<Option<Vec<Vec<u8>>>, Failure> {
        let answer = self
            .call(|mut client| async move {
                let options = LeaseTimeToLiveOptions::new().with_keys();
                client.lease_time_to_live(lease, Some(options)).await
            })
            .await?;
        let lives = u64::try_from(answer.ttl()).is_ok();
        Ok(lives.then(|| answer.keys().to_vec()))
    }

    /// How full it is and whether it accepts writes. Without the permission the answer is empty.
    ///
    /// # Errors
    /// The error of etcd, or that it did not answer in time.
    pub async fn health(&self) -> Result<Health, Failure> {
        let status = match self
            .call(|mut client| async move { client.status().await })
            .await
        {
            Err(failure) if failure.kind == Kind::Permission => return Ok(Health::default()),
            other => other?,
        };
        let mut health = Health {
            version: status.version().to_owned(),
            db_size: status.db_size(),
            quota: status.db_size_quota(),
            ..Health::default()
        };
        let alarms = self
            .call(|mut client| async move {
                client.alarm(AlarmAction::Get, AlarmType::None, None).await
            })
            .await;
        match alarms {
            Err(failure) if failure.kind == Kind::Permission => {}
            Err(failure) => return Err(failure),
            Ok(alarms) => {
                for alarm in alarms.alarms() {
                    health.no_space |= alarm.alarm() == AlarmType::Nospace;
                    health.corrupt |= alarm.alarm() == AlarmType::Corrupt;
                }
            }
        }
        Ok(health)
    }

    /// A budget with the patience of this connection.
    #[must_use]
    pub fn patience(&self) -> RetryBudget<'_> {
        RetryBudget {
            store: self,
            began: Instant::now(),
            pause: PAUSES.0,
            told: false,
        }
    }

    async fn call<T, F, Fut>(&self, request: F) -> Result<T, Failure>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let mut patience = self.patience();
        loop {
            match self.attempt(&request).await {
                Err(failure) if failure.is_passing() => patience.wait(failure).await?,
                other => return other,
            }
        }
    }

    async fn attempt<T, F, Fut>(&self, request: F) -> Result<T, Failure>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let live = self.live().await?;
        // Boxed, because the futures of requests are large and many futures contain this one.
        let failure = match timeout(REQUEST_DEADLINE, Box::pin(request(live.client))).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Failure::from(error),
            Err(_) => Failure::new(
                Kind::Unavailable,
                format!("no answer within {} seconds", REQUEST_DEADLINE.as_secs()),
            ),
        };
        if failure.is_passing() {
            self.abandon(live.generation).await;
        }
        Err(Failure {
            reason: self.shared.endpoint.told(failure.reason),
            ..failure
        })
    }

    /// The live connection; connects again if there is none.
    async fn live(&self) -> Result<Live, Failure> {
        let mut slot = self.shared.live.lock().await;
        if let Some(live) = &*slot {
            return Ok(live.clone());
        }
        let live = self.open().await?;
        *slot = Some(live.clone());
        Ok(live)
    }

    async fn open(&self) -> Result<Live, Failure> {
        let addresses = &self.shared.endpoint.addresses;
        let mut failures = Vec::new();
        for _ in 0..addresses.len() {
            let index = self.shared.next.load(Ordering::Relaxed) % addresses.len().max(1);
            let Some(address) = addresses.get(index) else {
                break;
            };
            let failure = match timeout(CONNECT_DEADLINE, Box::pin(self.open_at(address))).await {
                Ok(Ok(client)) => {
                    let generation = self.shared.generation.fetch_add(1, Ordering::Relaxed) + 1;
                    return Ok(Live { client, generation });
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(
                    Kind::Unavailable,
                    format!("no answer within {} seconds", CONNECT_DEADLINE.as_secs()),
                ),
            };
            let reason =
                self.shared
                    .endpoint
                    .told(format!("{}: {}", public(address), failure.reason));
            if !failure.is_passing() {
                return Err(Failure { reason, ..failure });
            }
            failures.push(reason);
            self.shared.next.fetch_add(1, Ordering::Relaxed);
        }
        Err(Failure::new(Kind::Unavailable, failures.join("; ")))
    }

    async fn open_at(&self, address: &str) -> Result<Client, Failure> {
        let client = self
            .shared
            .endpoint
            .dial(address, self.shared.tls.as_ref())
            .await?;
        let probe = GetOptions::new().with_keys_only().with_limit(1);
        let answer = kv(&client)
            .get(self.shared.prefix.clone(), Some(probe))
            .await?;
        let cluster = answer.header().map_or(0, ResponseHeader::cluster_id);
        let known = *self.shared.cluster.get_or_init(|| cluster);
        if known == cluster {
            return Ok(client);
        }
        Err(Failure::new(
            Kind::Refused,
            format!(
                "this is cluster {cluster:x}, the endpoints before it are of cluster {known:x}"
            ),
        ))
    }

    /// Drops a broken connection, unless another clone has replaced it already.
    async fn abandon(&self, generation: u64) {
        let mut slot = self.shared.live.lock().await;
        if slot
            .as_ref()
            .is_some_and(|live| live.generation == generation)
        {
            *slot = None;
            self.shared.next.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Failure {
    /// Whether another attempt may succeed.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Login)
    }
}

/// Waiting for etcd, bounded.
#[derive(Debug)]
pub struct RetryBudget<'a> {
    store: &'a EtcdConnection<'a>,
    began: Instant,
    pause: Duration,
    told: bool,
}

impl RetryBudget<'_> {
    /// Waits before the next attempt after a failure, and reports the wait once.
    ///
    /// # Errors
    /// The failure, if the time is used up.
    pub async fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        let seconds = self.store.patience.as_secs();
        if self.began.elapsed() + self.pause > self.store.patience {
            return Err(Failure::new(
                failure.kind,
                format!(
                    "etcd did not answer for {seconds} seconds: {}",
                    failure.reason
                ),
            ));
        }
        if let Some(tell) = self.store.tell
            && !self.told
        {
            tell(&format!(
                "etcd to answer again ({}), for at most {seconds} seconds",
                failure.reason
            ));
            self.told = true;
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
        Ok(())
    }
}

fn kv(client: &Client) -> etcd_client::KvClient {
    client.kv_client().max_decoding_message_size(MAX_PAGE_BYTES)
}
