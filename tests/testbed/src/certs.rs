use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::Error;
use crate::scratch::Scratch;

/// A certificate and its key in PEM, and the files that contain them.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
    pub(crate) cert_path: PathBuf,
    pub(crate) key_path: PathBuf,
}

/// A certificate authority made for one instance.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    pub(crate) path: PathBuf,
}

impl Authority {
    pub(crate) fn new(scratch: &Scratch) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params("testbed-ca", None, Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let pem = params.self_signed(&key).map_err(failed)?.pem();
        let path = scratch.write("ca.crt", &pem)?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
            path,
        })
    }

    /// A server certificate for loopback and the given further DNS names.
    pub(crate) fn server(
        &self,
        scratch: &Scratch,
        name: &str,
        dns_names: &[&str],
    ) -> Result<Identity, Error> {
        let mut params = params(
            name,
            None,
            dns_names
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )?;
        params
            .subject_alt_names
            .push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        // Also for client use: if client certificates are required, etcd's JSON gateway connects to
        // etcd itself with this certificate.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.sign(scratch, name, params)
    }

    /// A client certificate. Kubernetes takes the user from `common_name` and the group from
    /// `organization`.
    pub(crate) fn client(
        &self,
        scratch: &Scratch,
        file: &str,
        common_name: &str,
        organization: Option<&str>,
    ) -> Result<Identity, Error> {
        let mut params = params(common_name, organization, Vec::<String>::new())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(scratch, file, params)
    }

    fn sign(
        &self,
        scratch: &Scratch,
        file: &str,
        mut params: CertificateParams,
    ) -> Result<Identity, Error> {
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        let key = KeyPair::generate().map_err(failed)?;
        let cert_pem = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        let key_pem = key.serialize_pem();
        let cert_path = scratch.write(&format!("{file}.crt"), &cert_pem)?;
        let key_path = scratch.write(&format!("{file}.key"), &key_pem)?;
        Ok(Identity {
            cert_pem,
            key_pem,
            cert_path,
            key_path,
        })
    }
}

/// The key pair that signs service-account tokens: paths of the private and of the public key.
pub(crate) fn service_account_keys(scratch: &Scratch) -> Result<(PathBuf, PathBuf), Error> {
    let key = KeyPair::generate().map_err(failed)?;
    Ok((
        scratch.write("service-account.key", &key.serialize_pem())?,
        scratch.write("service-account.pub", &key.public_key_pem())?,
    ))
}

fn params(
    common_name: &str,
    organization: Option<&str>,
    dns_names: Vec<String>,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(dns_names).map_err(failed)?;
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    Ok(params)
}

fn failed(error: rcgen::Error) -> Error {
    Error::doing("making certificates", error)
}
