//! The names and addresses of Services that lead to the same pods.
//!
//! One etcd can be reached by its Service, by another Service with the same selector, by a cluster
//! IP, by the address of a load balancer, and by a Service of type `ExternalName` in any namespace.
//! A person who may create a Service in one namespace must not connect data of others: a name is
//! followed only in the direction in which its own Service leads, and external IPs, which anyone
//! may claim, are not followed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::Value;

use super::{
    data_location::DataLocation,
    endpoint::{Host, Name, STORE_SUFFIXES},
};

/// Services of one namespace that are read. A namespace with more keeps the first ones.
pub const MAX_SERVICES: usize = 1000;
/// Addresses, ports and labels of one Service that are read. Kubernetes allows two cluster IPs.
const MAX_PARTS: usize = 32;
/// Characters of a host name. DNS allows 253.
const MAX_HOST: usize = 253;
/// Services of type `ExternalName` that are followed one after the other.
const MAX_HOPS: usize = 4;
/// Names of one host that are looked for.
const MAX_NAMES: usize = 256;

/// What a Service leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTarget {
    /// Cluster IPs and addresses of the load balancer, which Kubernetes assigns.
    addresses: Vec<Box<str>>,
    /// The host that it stands for (`type: ExternalName`).
    external_name: Option<Box<str>>,
    /// The labels of its pods as `key=value`, ordered; empty if it selects none.
    selector: Box<str>,
    ports: Vec<Box<str>>,
}

impl ServiceTarget {
    /// Reads a Service. `None` if it leads nowhere that could be known.
    #[must_use]
    pub fn read(service: &Value) -> Option<Self> {
        let spec = &service["spec"];
        let texts = |value: &Value| -> Vec<Box<str>> {
            let items = value.as_array().into_iter().flatten();
            items
                .take(MAX_PARTS)
                .filter_map(Value::as_str)
                .filter(|text| !matches!(*text, "" | "None") && text.len() <= MAX_HOST)
                .map(Box::from)
                .collect()
        };
        let external_name = spec["externalName"]
            .as_str()
            .filter(|_| spec["type"] == "ExternalName")
            .filter(|name| !name.is_empty() && name.len() <= MAX_HOST)
            .map(Box::from);
        let mut addresses = texts(&spec["clusterIPs"]);
        if addresses.is_empty() {
            addresses = texts(&Value::Array(vec![spec["clusterIP"].clone()]));
        }
        let ingress = service.pointer("/status/loadBalancer/ingress");
        for one in ingress
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .take(MAX_PARTS)
        {
            addresses.extend(texts(&Value::Array(vec![
                one["ip"].clone(),
                one["hostname"].clone(),
            ])));
        }
        let labels: BTreeMap<&str, &str> = spec["selector"]
            .as_object()
            .filter(|_| external_name.is_none())
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect();
        let selector: Vec<String> = labels
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let ports = spec["ports"].as_array().into_iter().flatten();
        let ports = ports
            .take(MAX_PARTS)
            .filter_map(|port| port["port"].as_u64())
            .map(|port| port.to_string().into())
            .collect();
        let target = Self {
            addresses,
            external_name,
            selector: selector.join(",").into(),
            ports,
        };
        let leads = !target.addresses.is_empty()
            || target.external_name.is_some()
            || !target.selector.is_empty();
        leads.then_some(target)
    }
}

/// The Services of a cluster, by what leads to what.
#[derive(Clone, Debug, Default)]
pub struct ServiceNames {
    services: HashMap<Name, Arc<ServiceTarget>>,
    /// How many Services of a namespace are known.
    counts: HashMap<String, usize>,
    /// The Service behind an address that Kubernetes assigned.
    by_address: HashMap<Box<str>, Name>,
    /// Services by namespace and selector.
    by_selector: HashMap<(String, Box<str>), Vec<Name>>,
    /// Services of type `ExternalName` by the host that they stand for.
    standing_for: HashMap<Name, Vec<Name>>,
}

impl ServiceNames {
    /// Whether a Service is known as it is.
    #[must_use]
    pub fn holds(&self, namespace: &str, name: &str, target: Option<&ServiceTarget>) -> bool {
        self.services.get(&own(namespace, name)).map(Arc::as_ref) == target
    }

    /// Takes a Service in, replaces it, or forgets it.
    pub fn set(&mut self, namespace: &str, name: &str, target: Option<ServiceTarget>) {
        let own = own(namespace, name);
        if let Some(old) = self.services.remove(&own) {
            for address in &old.addresses {
                if let Name::External(host) = assigned(address)
                    && self.by_address.get(host.as_str()) == Some(&own)
                {
                    self.by_address.remove(host.as_str());
                }
            }
            let key = (namespace.to_owned(), old.selector.clone());
            forget(&mut self.by_selector, &key, &own);
            if let Some(host) = &old.external_name {
                forget(&mut self.standing_for, &external(host, namespace), &own);
            }
            forget_one(&mut self.counts, namespace);
        }
        let Some(target) = target else { return };
        let count = self.counts.entry(namespace.to_owned()).or_default();
        if *count >= MAX_SERVICES {
            return;
        }
        *count += 1;
        for address in &target.addresses {
            if let Name::External(host) = assigned(address) {
                self.by_address.insert(host.into(), own.clone());
            }
        }
        if !target.selector.is_empty() {
            let key = (namespace.to_owned(), target.selector.clone());
            self.by_selector.entry(key).or_default().push(own.clone());
        }
        if let Some(host) = &target.external_name {
            let host = external(host, namespace);
            self.standing_for.entry(host).or_default().push(own.clone());
        }
        self.services.insert(own, Arc::new(target));
    }

    /// A location with every name and address under which its hosts are known.
    #[must_use]
    pub fn known_as(&self, location: DataLocation) -> DataLocation {
        match location {
            DataLocation::Store {
                kind,
                hosts,
                root_path,
            } => {
                let mut all = hosts.clone();
                for host in &hosts {
                    self.add_names(host, &mut all);
                }
                DataLocation::Store {
                    kind,
                    hosts: all,
                    root_path,
                }
            }
            location @ DataLocation::Volume { .. } => location,
        }
    }

    fn add_names(&self, host: &Host, all: &mut BTreeSet<Host>) {
        let limit = all.len() + MAX_NAMES;
        let mut add = |name: &Name, ports: &[Box<str>]| {
            if all.len() >= limit {
                return;
            }
            let ports = ports.iter().map(|port| Some(port.to_string()));
            for port in ports.chain([host.port.clone()]) {
                let host = Host {
                    name: name.clone(),
                    port,
                };
                all.insert(host.of_store());
            }
        };
        let mut reached: Vec<Name> = Vec::new();
        let mut name = host.name.clone();
        for _ in 0..MAX_HOPS {
            for sibling in self.siblings(&name) {
                if !reached.contains(&sibling) && reached.len() < MAX_NAMES {
                    reached.push(sibling);
                }
            }
            match self.leads_to(&name) {
                Some(next) if next != name => name = next,
                _ => break,
            }
        }
        // Services that stand for a name are names of it too, and so are those that stand for them.
        let mut at = 0;
        while let Some(name) = reached.get(at).cloned() {
            at += 1;
            let aliases = self.standing_for.get(&name).into_iter().flatten();
            for alias in aliases.take(MAX_NAMES) {
                if !reached.contains(alias) && reached.len() < MAX_NAMES {
                    reached.push(alias.clone());
                }
            }
            let target = self.services.get(&name);
            let ports = target.map_or(&[][..], |target| &target.ports);
            add(&name, ports);
            for address in target.iter().flat_map(|target| &target.addresses) {
                add(&assigned(address), ports);
            }
        }
    }

    /// A name with the Services that select the same pods.
    fn siblings(&self, name: &Name) -> Vec<Name> {
        let mut all = vec![name.clone()];
        // Names in a location are those of the store, without the ending of its Service.
        let known = self.spellings(name);
        for name in known {
            let Name::Service(_, Some(namespace)) = &name else {
                continue;
            };
            if let Some(target) = self.services.get(&name)
                && !target.selector.is_empty()
                && let Some(same) = self
                    .by_selector
                    .get(&(namespace.clone(), target.selector.clone()))
            {
                all.extend(same.iter().take(MAX_NAMES).cloned());
            }
            all.push(name);
        }
        all
    }

    /// The Services of a store by its name.
    fn spellings(&self, name: &Name) -> Vec<Name> {
        let Name::Service(short, namespace) = name else {
            return Vec::new();
        };
        std::iter::once("")
            .chain(STORE_SUFFIXES)
            .map(|ending| Name::Service(format!("{short}{ending}"), namespace.clone()))
            .filter(|name| self.services.contains_key(name))
            .collect()
    }

    /// What a name stands for: the Service of an address, the host of an `ExternalName`.
    fn leads_to(&self, name: &Name) -> Option<Name> {
        match name {
            Name::External(host) => self.by_address.get(host.as_str()).cloned(),
            Name::Service(_, Some(namespace)) => self
                .spellings(name)
                .iter()
                .find_map(|name| self.services.get(name)?.external_name.as_deref())
                .map(|host| external(host, namespace)),
            Name::Service(_, None) => None,
        }
    }
}

fn own(namespace: &str, name: &str) -> Name {
    Name::Service(name.to_owned(), Some(namespace.to_owned()))
}

/// Takes a Service out of a list, and the list out of its index when it is empty.
fn forget<K: Eq + std::hash::Hash>(index: &mut HashMap<K, Vec<Name>>, key: &K, own: &Name) {
    if let Some(list) = index.get_mut(key) {
        list.retain(|name| name != own);
        if list.is_empty() {
            index.remove(key);
        }
    }
}

fn forget_one(counts: &mut HashMap<String, usize>, namespace: &str) {
    if let Some(count) = counts.get_mut(namespace) {
        *count -= 1;
        if *count == 0 {
            counts.remove(namespace);
        }
    }
}

/// The name of an address that Kubernetes assigned: an IP address, or the host name of a load
/// balancer.
fn assigned(address: &str) -> Name {
    let is_v6 = address.contains(':') && !address.starts_with('[');
    let host = if is_v6 {
        Host::parse(&format!("[{address}]"), None)
    } else {
        Host::parse(address, None)
    };
    match host.name {
        Name::Service(name, _) => Name::External(name),
        name @ Name::External(_) => name,
    }
}

/// The name of the host of an `ExternalName` of this namespace.
fn external(host: &str, namespace: &str) -> Name {
    let host = Host::parse(host, None).in_namespace(Some(namespace));
    host.of_store().name
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn names() -> ServiceNames {
        let services = [
            ("one", "etcd", json!({"spec": {"clusterIPs": ["10.0.0.7", "fd00::7"], "clusterIP": "10.0.0.7", "selector": {"app": "etcd"}, "ports": [{"port": 2379}]}})),
            ("one", "etcd-headless", json!({"spec": {"clusterIP": "None", "selector": {"app": "etcd"}}})),
            ("one", "front", json!({"spec": {"clusterIP": "10.0.0.8", "selector": {"app": "etcd"}, "ports": [{"port": 80}]}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}]}}})),
            ("one", "other", json!({"spec": {"clusterIP": "10.0.0.9", "selector": {"app": "other"}, "ports": [{"port": 2379}]}})),
            ("one", "bare", json!({"spec": {"clusterIP": "10.0.0.10", "ports": [{"port": 2379}]}})),
            ("two", "alias", json!({"spec": {"type": "ExternalName", "externalName": "etcd.one.svc.cluster.local"}})),
            ("two", "alias-of-alias", json!({"spec": {"type": "ExternalName", "externalName": "alias.two.svc.cluster.local"}})),
            ("two", "cloud", json!({"spec": {"type": "ExternalName", "externalName": "etcd.example.com"}})),
            ("two", "loop", json!({"spec": {"type": "ExternalName", "externalName": "loop.two.svc.cluster.local"}})),
            ("two", "etcd", json!({"spec": {"clusterIP": "10.0.0.11", "selector": {"app": "etcd"}, "ports": [{"port": 2379}]}})),
            // Someone claims the addresses of others.
            ("three", "claim", json!({"spec": {"clusterIP": "10.0.0.12", "selector": {"app": "x"}, "externalIPs": ["10.0.0.7", "10.0.0.9"], "ports": [{"port": 2379}]}})),
        ]
        .map(|(namespace, name, object)| (namespace, name, ServiceTarget::read(&object).unwrap()));
        let mut names = ServiceNames::default();
        for (namespace, name, target) in services {
            names.set(namespace, name, Some(target));
        }
        names
    }

    fn location(address: &str, namespace: &str) -> DataLocation {
        DataLocation::Store {
            kind: "etcd".into(),
            hosts: BTreeSet::from([Host::parse(address, Some(namespace))
                .in_namespace(Some(namespace))
                .of_store()]),
            root_path: "by-dev".into(),
        }
    }

    #[rstest]
    #[case::cluster_ip("10.0.0.7:2379", true)]
    #[case::second_cluster_ip("[fd00::7]:2379", true)]
    #[case::another_service("front.one:80", true)]
    #[case::ip_of_another_service("10.0.0.8:80", true)]
    #[case::load_balancer("192.0.2.1:80", true)]
    #[case::name_of_load_balancer("http://lb.example.com:80", true)]
    #[case::external_name("alias:2379", true)]
    #[case::chain_of_external_names("alias-of-alias.two.svc:2379", true)]
    #[case::headless("etcd-headless.one:2379", true)]
    #[case::pod("etcd-0.etcd-headless.one.svc:2379", true)]
    #[case::other_pods("other.one:2379", false)]
    #[case::ip_of_other_pods("10.0.0.9:2379", false)]
    #[case::no_selector("bare.one:2379", false)]
    #[case::same_labels_elsewhere("etcd.two:2379", false)]
    #[case::ip_of_same_labels_elsewhere("10.0.0.11:2379", false)]
    #[case::claims_its_address("claim.three:2379", false)]
    #[case::itself("loop:2379", false)]
    #[case::cloud("cloud:2379", false)]
    #[case::unknown("10.9.9.9:2379", false)]
    fn a_store_is_known_by_every_name_of_its_services(#[case] address: &str, #[case] same: bool) {
        let names = names();
        let (etcd, other) = (location("etcd:2379", "one"), location(address, "two"));
        assert_eq!(names.known_as(other.clone()).is_same(&etcd), same);
        assert_eq!(names.known_as(etcd.clone()).is_same(&other), same);
        // Keys are how other namespaces are searched.
        let shares = |one: DataLocation, other: &DataLocation| {
            let keys = one.keys();
            other.keys().iter().any(|key| keys.contains(key))
        };
        assert_eq!(shares(names.known_as(other.clone()), &etcd), same);
        assert_eq!(shares(names.known_as(etcd), &other), same);
    }

    #[test]
    fn an_external_name_is_its_host() {
        let names = names();
        let (cloud, alias) = (
            location("etcd.example.com:2379", "one"),
            location("cloud:2379", "two"),
        );
        assert!(names.known_as(alias.clone()).is_same(&cloud));
        assert!(names.known_as(cloud).is_same(&alias));
    }

    #[test]
    fn a_service_that_changes_or_goes_is_not_known_by_its_old_names() {
        let mut names = names();
        let etcd = location("etcd:2379", "one");
        let is_known = |names: &ServiceNames, address: &str| {
            names.known_as(location(address, "two")).is_same(&etcd)
        };
        let moved = json!({"spec": {"clusterIP": "10.0.0.20", "selector": {"app": "x"}, "ports": [{"port": 80}]}});
        let moved = ServiceTarget::read(&moved);
        assert!(!names.holds("one", "front", moved.as_ref()));
        names.set("one", "front", moved.clone());
        assert!(names.holds("one", "front", moved.as_ref()));
        for gone in [
            "10.0.0.8:80",
            "192.0.2.1:80",
            "10.0.0.20:80",
            "front.one:80",
        ] {
            assert!(!is_known(&names, gone), "{gone}");
        }
        names.set("two", "alias", None);
        assert!(names.holds("two", "alias", None));
        assert!(!is_known(&names, "alias:2379") && !is_known(&names, "alias-of-alias:2379"));
        assert!(is_known(&names, "10.0.0.7:2379"));
    }

    #[test]
    fn an_odd_service_is_bounded() {
        let many: Vec<Value> = (0..100_000)
            .map(|n| json!(format!("10.1.{}.{}", n / 256, n % 256)))
            .collect();
        let target = ServiceTarget::read(
            &json!({"spec": {"clusterIPs": many, "ports": [{"port": "x"}, {}]}}),
        )
        .unwrap();
        assert_eq!((target.addresses.len(), target.ports.len()), (MAX_PARTS, 0));
        for nothing in [
            json!({}),
            json!({"spec": {"clusterIP": "None"}}),
            json!({"spec": {"externalName": "x"}}),
            json!([1]),
        ] {
            assert_eq!(ServiceTarget::read(&nothing), None);
        }
        let one = json!({"spec": {"selector": {"a": "b"}}});
        let target = ServiceTarget::read(&one).unwrap();
        let mut names = ServiceNames::default();
        for number in 0..2 * MAX_SERVICES {
            names.set("one", &format!("s{number}"), Some(target.clone()));
        }
        assert_eq!(names.services.len(), MAX_SERVICES);
        let DataLocation::Store { hosts, .. } = names.known_as(location("s1:2379", "one")) else {
            panic!()
        };
        assert!(hosts.len() <= 2 * MAX_NAMES, "{}", hosts.len());
        for number in 0..2 * MAX_SERVICES {
            names.set("one", &format!("s{number}"), None);
        }
        assert!(
            names.services.is_empty() && names.by_selector.is_empty() && names.counts.is_empty()
        );
    }
}
