//! The metadata store and the object storage that a component uses.

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    comparable::{ComparableValue, cleaned, trimmed},
    located::Located,
};
use crate::milvus::{
    component::Topology,
    config::{Setting, Unknown},
    endpoint::Host,
};

impl<'a> Located<'a> {
    /// `etcd`, `embedded` (etcd in Milvus' own process), `tikv` or `mysql`.
    pub(super) fn metastore(&self) -> Result<ComparableValue<'a, Cow<'a, str>>, &'a Unknown> {
        let setting = self.value("metastore.type")?;
        let named = setting.map_or("etcd", |setting| setting.value.trim());
        if named.eq_ignore_ascii_case("etcd")
            && let Some(embed) = self.value("etcd.use.embed")?.filter(Setting::is_true)
            && self.release.topology() == Topology::Standalone
        {
            return Ok(ComparableValue {
                value: "embedded".into(),
                setting: Some(embed),
            });
        }
        Ok(ComparableValue {
            value: named.to_ascii_lowercase().into(),
            setting,
        })
    }

    /// The name of the metadata store; `None` if it is not known.
    pub(in crate::milvus) fn metastore_name(&self) -> Option<&'static str> {
        let metastore = self.metastore().ok()?;
        ["etcd", "embedded", "tikv", "mysql"]
            .into_iter()
            .find(|name| *name == metastore.value)
    }

    /// The addresses of a setting; `None` if it is not known. An absent setting has none.
    pub(in crate::milvus) fn addresses(&self, key: &'a str) -> Option<BTreeSet<Host>> {
        let setting = self.value(key).ok()?;
        Some(self.hosts(setting.map_or("", |setting| setting.value), None))
    }

    /// A root path without slashes at its ends; `None` if it is not known.
    pub(in crate::milvus) fn root_path(&self, key: &'a str) -> Option<String> {
        let setting = self.value(key).ok()?;
        Some(trimmed(setting.map_or("by-dev", |setting| setting.value)).to_owned())
    }

    /// `remote` or `local`. `minio` is the old name of `remote`, and `opendal` is another client of
    /// the same store (Milvus `internal/storage/factory.go`).
    pub(super) fn storage(&self) -> Result<ComparableValue<'a, Cow<'a, str>>, &'a Unknown> {
        let setting = self.value("common.storageType")?;
        let named = setting
            .map_or("remote", |setting| setting.value.trim())
            .to_ascii_lowercase();
        let value = match &*named {
            "minio" | "opendal" => "remote".to_owned(),
            _ => named,
        };
        Ok(ComparableValue {
            value: value.into(),
            setting,
        })
    }

    /// `remote` or `local`; `None` if it is not known.
    pub(in crate::milvus) fn storage_name(&self) -> Option<Cow<'a, str>> {
        Some(self.storage().ok()?.value)
    }

    /// The root path in the bucket, as Milvus joins it with its keys; `None` if it is not known.
    pub(in crate::milvus) fn objects_path(&self) -> Option<String> {
        let setting = self.value("minio.rootPath").ok()?;
        // The code has no default; the file of the image has one.
        let default = if self.view.replaces_own_file() {
            ""
        } else {
            "files"
        };
        Some(cleaned(setting.map_or(default, |setting| setting.value)))
    }

    /// Where Woodpecker keeps the log: `minio`, `local` or `service`.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn woodpecker(&self) -> Result<Cow<'a, str>, &'a Unknown> {
        let setting = self.value("woodpecker.storage.type")?;
        Ok(setting.map_or("minio".into(), |setting| {
            setting.value.trim().to_ascii_lowercase().into()
        }))
    }

    /// Provider of the object storage: `aws`, `azure`, `gcp` and others.
    pub(super) fn cloud_provider(&self) -> Result<Cow<'a, str>, &'a Unknown> {
        let setting = self.value("minio.cloudProvider")?;
        Ok(setting.map_or("aws".into(), |setting| {
            setting.value.trim().to_ascii_lowercase().into()
        }))
    }

    /// The storage account of Azure, and the setting that names it. Milvus' client takes it from
    /// `minio.accessKeyID`, or from a connection string where one is set and the identity of the
    /// pod is not used. Its endpoint counts where it is not that of `minio.address`.
    pub(super) fn account(
        &self,
        key: &'a str,
    ) -> Result<(String, Option<Setting<'a>>), &'a Unknown> {
        let is_of_pod = self
            .value("minio.useIAM")?
            .is_some_and(|setting| setting.is_true());
        if !is_of_pod && let Some(setting) = self.value(CONNECTION_STRING)? {
            let address = self
                .value("minio.address")?
                .map_or("", |setting| setting.value);
            let suffix = self.hosts(address, None).into_iter().next();
            let suffix = suffix.map_or_else(String::new, |host| host.host());
            return Ok((named_account(setting.value, &suffix), Some(setting)));
        }
        let setting = self.value(key)?;
        let name = setting.map_or("", |setting| setting.value.trim());
        Ok((name.to_ascii_lowercase(), setting))
    }
}

/// The variable from which the client of Azure takes account and key.
const CONNECTION_STRING: &str = "AZURE_STORAGE_CONNECTION_STRING";

/// The account that a connection string names. Keys and tokens in it are left out, so that a new
/// key does not make another account.
fn named_account(text: &str, suffix: &str) -> String {
    let part = |wanted: &str| {
        text.split(';').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.trim()
                .eq_ignore_ascii_case(wanted)
                .then(|| value.trim().to_ascii_lowercase())
                .filter(|value| !value.is_empty())
        })
    };
    if let Some(endpoint) = part("BlobEndpoint") {
        let host = Host::parse(&endpoint, None).host();
        let bare = host
            .strip_suffix(suffix)
            .and_then(|rest| rest.strip_suffix(".blob."));
        return bare.map_or(host.clone(), str::to_owned);
    }
    let name = part("AccountName").unwrap_or_default();
    match part("EndpointSuffix") {
        Some(other) if other != suffix => format!("{name}.{other}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::named_account;

    #[rstest]
    #[case(
        "AccountName=Acct1;AccountKey=a==;EndpointSuffix=core.windows.net",
        "acct1"
    )]
    #[case("AccountName=acct1;AccountKey=b==", "acct1")]
    #[case(
        "BlobEndpoint=https://acct1.blob.core.windows.net/;SharedAccessSignature=x",
        "acct1"
    )]
    #[case(
        "AccountName=acct1;EndpointSuffix=core.chinacloudapi.cn",
        "acct1.core.chinacloudapi.cn"
    )]
    #[case(
        "BlobEndpoint=https://blob.example.com/?sig=secret",
        "blob.example.com"
    )]
    #[case("secret", "")]
    fn the_account_of_a_connection_string(#[case] text: &str, #[case] account: &str) {
        assert_eq!(named_account(text, "core.windows.net"), account);
    }
}
