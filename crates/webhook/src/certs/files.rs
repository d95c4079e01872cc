//! A pair in files, followed by content. Watches on files are not used: kubelet replaces a mounted
//! Secret by swapping the link `..data`, after which a watch on the old files sees nothing any
//! more.

use std::{
    convert::Infallible,
    fmt::Display,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{task::spawn_blocking, time::sleep};

use crate::mounted::read_settled;

use super::{
    error::CertError,
    store::{CertStore, Certificate, Offer, Reload, digest},
};

/// Bytes of a file that are read. A chain of ten RSA certificates has 20 KiB.
const MAX_SIZE: u64 = 1 << 20;

/// Where a certificate and its key are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// The chain, PEM, the server's certificate first.
    pub cert: PathBuf,
    /// The key of the first certificate, PEM.
    pub key: PathBuf,
}

/// What the two files hold.
#[derive(PartialEq, Eq)]
struct Content {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl CertFiles {
    /// Reads the pair. The dates are not judged.
    ///
    /// # Errors
    /// Where a file cannot be read or the two do not belong together.
    pub fn load(&self) -> Result<Certificate, CertError> {
        self.pair(&self.read()?)
    }

    /// Serves what the files hold, now and after each change, and never returns. A pair that cannot
    /// be used (no pair, expired, not valid yet, unreadable) is said once and looked at again
    /// at each poll; what was served before stays.
    pub async fn follow(
        self,
        store: CertStore,
        every: Duration,
        events: impl Fn(Reload) + Send,
    ) -> Infallible {
        let mut follower = Follower::new(self, store);
        loop {
            let files = follower.files.clone();
            let content = spawn_blocking(move || files.read()).await;
            let content =
                content.unwrap_or_else(|error| Err(unreadable(&follower.files.cert, error)));
            // The wall clock, at each poll: a timer for the day of expiry would not count the hours
            // of a suspended machine.
            if let Some(event) = follower.take(content, Timestamp::now()) {
                events(event);
            }
            sleep(every).await;
        }
    }

    /// Both files as they were at one time.
    fn read(&self) -> Result<Content, CertError> {
        read_settled(|| self.read_once())
    }

    fn read_once(&self) -> Result<Content, CertError> {
        Ok(Content {
            cert: Self::bytes(&self.cert)?,
            key: Self::bytes(&self.key)?,
        })
    }

    fn bytes(path: &Path) -> Result<Vec<u8>, CertError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut bytes))
            .map_err(|error| unreadable(path, error))?;
        if bytes.len() as u64 > MAX_SIZE {
            return Err(unreadable(path, "it is larger than 1 MiB"));
        }
        Ok(bytes)
    }

    /// Makes a pair of what the files hold; an error names them.
    fn pair(&self, content: &Content) -> Result<Certificate, CertError> {
        Certificate::from_pem(&content.cert, &content.key).map_err(|error| self.about(error))
    }

    fn about(&self, error: CertError) -> CertError {
        let (cert, key) = (
            self.cert.display().to_string(),
            self.key.display().to_string(),
        );
        CertError::InFiles {
            cert,
            key,
            source: Box::new(error),
        }
    }
}

fn unreadable(path: &Path, reason: impl Display) -> CertError {
    CertError::Unreadable {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

/// One who follows files: remembers what it complained about, so that each cause is said once.
#[derive(Debug)]
pub struct Follower {
    files: CertFiles,
    store: CertStore,
    complaint: Option<String>,
}

impl Follower {
    /// Follows these files into this store.
    #[must_use]
    pub fn new(files: CertFiles, store: CertStore) -> Self {
        Self {
            files,
            store,
            complaint: None,
        }
    }

    /// Looks at the files once.
    pub fn poll(&mut self, now: Timestamp) -> Option<Reload> {
        self.take(self.files.read(), now)
    }

    fn take(&mut self, content: Result<Content, CertError>, now: Timestamp) -> Option<Reload> {
        let (identity, taken) = match content {
            Err(error) => (String::new(), Err(error)),
            Ok(content) => {
                let identity = digest(&content.cert, &content.key);
                let files = &self.files;
                let taken = files.pair(&content).and_then(|pair| {
                    self.store
                        .offer(pair, now)
                        .map_err(|error| files.about(error))
                });
                (identity, taken)
            }
        };
        match taken {
            Ok(offer) => {
                self.complaint = None;
                (offer == Offer::Taken)
                    .then(|| self.store.loaded())
                    .flatten()
            }
            Err(error) => {
                let reason = error.to_string();
                let complaint = format!("{identity} {reason}");
                if self.complaint.as_ref() == Some(&complaint) {
                    return None;
                }
                self.complaint = Some(complaint);
                Some(self.store.kept(reason))
            }
        }
    }
}
