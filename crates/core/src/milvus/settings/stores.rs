//! The metadata store and the object storage that a component uses.

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    comparable::{ComparableValue, trimmed},
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

    /// `remote` (`minio` is its old name), `local` or `opendal`.
    pub(super) fn storage(&self) -> Result<ComparableValue<'a, Cow<'a, str>>, &'a Unknown> {
        let setting = self.value("common.storageType")?;
        let named = setting
            .map_or("remote", |setting| setting.value.trim())
            .to_ascii_lowercase();
        let value = if named == "minio" {
            "remote".to_owned()
        } else {
            named
        };
        Ok(ComparableValue {
            value: value.into(),
            setting,
        })
    }

    /// `remote`, `local` or `opendal`; `None` if it is not known.
    pub(in crate::milvus) fn storage_name(&self) -> Option<Cow<'a, str>> {
        Some(self.storage().ok()?.value)
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
}
