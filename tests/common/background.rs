//! Background threads of a test, until they are dropped: they simulate nodes, Milvus or a kubelet.

use std::{
    any::Any,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use kube::Client;
use milvus_guard_sources::kubernetes::{Access, Cluster};
use tokio::sync::oneshot;

/// A thread that ends when this value is dropped.
pub struct Background {
    /// The sending half of a channel; dropping it ends the thread.
    stop: Option<Box<dyn Any + Send + Sync>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Runs `work` with a client of this cluster on a new runtime. The end stops it at an await.
    pub fn start<F: Future<Output = ()>>(
        kubeconfig: &Path,
        work: impl FnOnce(Client) -> F + Send + 'static,
    ) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let kubeconfig = kubeconfig.to_owned();
        let thread = thread::spawn(move || {
            block_on(async move {
                let client = connect(kubeconfig).await;
                tokio::select! { () = work(client) => {}, _ = stopped => {} }
            });
        });
        Self {
            stop: Some(Box::new(stop)),
            thread: Some(thread),
        }
    }

    /// Repeats `work` with this pause in between. A call that has started is never interrupted.
    pub fn repeat(pause: Duration, mut work: impl FnMut() + Send + 'static) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            loop {
                work();
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Self {
            stop: Some(Box::new(stop)),
            thread: Some(thread),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs a future to its end on this thread.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// A client of the cluster in this kubeconfig.
pub async fn connect(kubeconfig: PathBuf) -> Client {
    let access = Access {
        kubeconfig: Some(kubeconfig),
        context: None,
    };
    Cluster::connect(&access).await.unwrap().client().clone()
}
