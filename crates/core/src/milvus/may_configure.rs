//! Which `ConfigMap`s pods of Milvus may read settings from, by their keys, names and labels: what
//! the API server sends to the guard (`_match.tpl` of its chart says the same in CEL) and what the
//! guard keeps. Whether a pod of Milvus refers to one, only its release knows.

use crate::manifest::object::{ConfigMap, SourceKind};

use super::config::is_variable_of;

/// Variables of Milvus that rules look at, as Milvus compares them: without case and separators.
pub const VARIABLES: [&str; 64] = [
    "commonchannameprefixcluster",
    "commonchannameprefixrootcoorddml",
    "commondefaultpartitionname",
    "commonentityexpiration",
    "commonprecreatedtopicenabled",
    "commonsecurityauthorizationenabled",
    "commonsecurityinternaltlsenabled",
    "commonsecuritysuperusers",
    "commonsecuritytlsmode",
    "commonstoragetype",
    "commonstorageuseloonffi",
    "commonsubnameprefixdatacoordsubnameprefix",
    "commonsubnameprefixdatanodesubnameprefix",
    "commonsubnameprefixproxysubnameprefix",
    "commonsubnameprefixquerynodesubnameprefix",
    "commonsubnameprefixrootcoordsubnameprefix",
    "datacoordgcdroptolerance",
    "datacoordgcinterval",
    "datacoordgcmissingtolerance",
    "datacoordtargetscalarindexversion",
    "datacoordtargetvecindexversion",
    "etcdauthenabled",
    "etcddatadir",
    "etcdendpoints",
    "etcdkvsubpath",
    "etcdmetasubpath",
    "etcdrootpath",
    "etcduseembed",
    "kafkabrokerlist",
    "localstoragepath",
    "messagequeue",
    "metastoretype",
    "milvusconf",
    "minioaccesskeyid",
    "minioaddress",
    "miniobucketname",
    "miniocloudprovider",
    "minioiamendpoint",
    "minioport",
    "miniorootpath",
    "miniouseiam",
    "miniousessl",
    "mqtype",
    "msgchannelchannameprefixcluster",
    "msgchannelchannameprefixrootcoorddml",
    "msgchannelsubnameprefixdatacoordsubnameprefix",
    "msgchannelsubnameprefixdatanodesubnameprefix",
    "msgchannelsubnameprefixproxysubnameprefix",
    "msgchannelsubnameprefixquerynodesubnameprefix",
    "msgchannelsubnameprefixrootcoordsubnameprefix",
    "natsmqserverstoredir",
    "pulsaraddress",
    "pulsarnamespace",
    "pulsarport",
    "pulsartenant",
    "rocksmqpath",
    "rootcoorddmlchannelnum",
    "tikvendpoints",
    "tikvkvsubpath",
    "tikvmetasubpath",
    "tikvrootpath",
    "woodpeckermetaprefix",
    "woodpeckerstoragerootpath",
    "woodpeckerstoragetype",
];

/// Keys of an object that are looked at. The API server bounds what an expression may cost.
pub const MAX_KEYS: usize = 2000;

/// Whether pods of Milvus may read settings from an object: its file names are Milvus' own, a key
/// is a variable of Milvus, or its name or a label says Milvus and a key may be a variable, a
/// file that is merged into the configuration, or a script that starts Milvus.
#[must_use]
pub fn may_configure(config: &ConfigMap) -> bool {
    let keys = || config.files.iter().map(|file| file.key.as_str());
    let is_one = || {
        config.files.len() <= MAX_KEYS
            && (keys().any(is_variable)
                || says_milvus(config) && keys().any(may_be_part_of_configuration))
    };
    config.is_milvus_configuration() || config.kind == SourceKind::ConfigMap && is_one()
}

fn is_variable(key: &str) -> bool {
    VARIABLES.iter().any(|name| is_variable_of(name, key))
}

fn may_be_part_of_configuration(key: &str) -> bool {
    !key.contains('.')
        || [".yaml", ".yml", ".env", ".sh"]
            .iter()
            .any(|end| key.ends_with(end))
}

/// Whether the name or a label of an object says Milvus. Records of Helm do not configure Milvus.
fn says_milvus(config: &ConfigMap) -> bool {
    let meta = &config.meta;
    let name = &meta.object.name;
    let is_of_chart = meta
        .label("helm.sh/chart")
        .and_then(|chart| chart.strip_prefix("milvus-"))
        .is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()));
    let is_labelled = ["app.kubernetes.io/name", "app.kubernetes.io/part-of"]
        .into_iter()
        .any(|label| meta.label(label) == Some("milvus"));
    !name.starts_with("sh.helm.release.v1.")
        && (name.contains("milvus") || is_of_chart || is_labelled)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{manifest::Object, milvus::catalogue::Catalogue, rules::testing::objects_of};

    #[test]
    fn every_setting_that_a_rule_compares_is_a_known_variable() {
        let missing: Vec<&str> = Catalogue::embedded()
            .settings
            .iter()
            .filter(|row| row.rule.is_some())
            .flat_map(|row| {
                let more = row.aliases.iter().chain(&row.port).map(String::as_str);
                std::iter::once(row.key.as_str()).chain(more)
            })
            .filter(|key| !is_variable(key))
            .collect();
        assert!(
            missing.is_empty(),
            "add them here and to _match.tpl: {missing:?}"
        );
        assert!(VARIABLES.is_sorted());
    }

    #[rstest]
    #[case::own_file("{name: n}", "user.yaml", true)]
    #[case::variable("{name: search-config}", "ETCD_ENDPOINTS", true)]
    #[case::other_spelling("{name: n}", "milvus.etcd.rootPath", true)]
    #[case::a_variable_of_another("{name: n}", "KAFKA_BOOTSTRAP_SERVERS", false)]
    #[case::another_file("{name: n}", "prometheus.yml", false)]
    #[case::part(
        "{name: n, labels: {app.kubernetes.io/part-of: milvus}}",
        "00_a.yaml",
        true
    )]
    #[case::by_name("{name: my-milvus-env}", "endpoints", true)]
    #[case::by_chart("{name: n, labels: {helm.sh/chart: milvus-4.2.1}}", "a.env", true)]
    #[case::a_start_script("{name: my-milvus-scripts}", "start.sh", true)]
    #[case::dashboard("{name: milvus-dashboard}", "milvus.json", false)]
    #[case::record("{name: sh.helm.release.v1.milvus.v1}", "release", false)]
    fn names_and_keys_say_whose_it_is(
        #[case] metadata: &str,
        #[case] key: &str,
        #[case] expected: bool,
    ) {
        for (kind, section, may) in [
            ("ConfigMap", "data", expected),
            ("Secret", "stringData", key == "user.yaml"),
        ] {
            let text = format!("kind: {kind}\nmetadata: {metadata}\n{section}: {{{key}: x}}\n");
            let Object::Config(config) = objects_of(&text).remove(0) else {
                panic!("{text}");
            };
            assert_eq!(may_configure(&config), may, "{text}");
        }
    }
}
