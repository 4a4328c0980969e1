//! The CA of a base: a key and a certificate that signs those of the base and its nodes.
//!
//! Both are kept as one text, so that a crash leaves neither alone. Certificates count from a day
//! before they are made: clocks of nodes may be late.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::certificate::key_of;
use super::{NODE_DOMAIN, PkiError, fingerprint_of, host_of, provider};
use crate::dist::ids::NodeName;
use crate::dist::token::Fingerprint;
use crate::dist::wire::agent::GivenCertificate;

/// The CA of a base.
pub struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Who signs certificates of nodes, and for how long.
#[derive(Debug, Clone)]
pub struct NodeSigner {
    /// The CA.
    pub authority: Arc<Authority>,
    /// For how long a certificate counts.
    pub life: Duration,
}

/// A request for a certificate of a node, signed by the node's key.
#[derive(Debug)]
pub struct NodeRequest {
    asked: CertificateSigningRequestParams,
}

impl Authority {
    /// A new one, with a name that no other has.
    ///
    /// # Errors
    /// `Unmade` when the system has no random numbers.
    pub fn generate(now_s: i64) -> Result<Self, PkiError> {
        let key = KeyPair::generate().map_err(unmade)?;
        let mut params = CertificateParams::default();
        let number: u64 = rand::random();
        params.distinguished_name = named(&format!("headend CA {number:016x}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, now_s, AUTHORITY_LIFE);
        let made = params.self_signed(&key).map_err(unmade)?;
        let certificate_pem = made.pem();
        let certificate = CertificateDer::from(made);
        Ok(Self { certificate, certificate_pem, issuer: Issuer::new(params, key) })
    }

    /// The one that [`Self::to_secret_pem`] wrote.
    ///
    /// # Errors
    /// Key or certificate are missing, or are not of each other.
    pub fn from_secret_pem(text: &str) -> Result<Self, PkiError> {
        let certificate = CertificateDer::from_pem_slice(text.as_bytes());
        let certificate = certificate.map_err(|_| PkiError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| PkiError::NoKey)?;
        let key = KeyPair::try_from(&key).map_err(|_| PkiError::NoKey)?;
        if key_of(&certificate).as_deref() != Some(key.public_key_raw()) {
            return Err(PkiError::OtherKey);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key);
        let issuer = issuer.map_err(|_| PkiError::NoCertificate)?;
        let certificate_pem = to_pem(&certificate);
        Ok(Self { certificate, certificate_pem, issuer })
    }

    /// Private key and certificate.
    #[must_use]
    pub fn to_secret_pem(&self) -> String {
        format!("{}{}", self.issuer.key().serialize_pem(), self.certificate_pem)
    }

    /// The certificate, which everyone may have.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// What tokens carry.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint_of(&self.certificate)
    }

    /// A certificate of the base for these addresses and host names, with a new key. The
    /// certificate of the CA goes along: clients that know its fingerprint alone need it.
    ///
    /// # Errors
    /// `BadName`; `Unmade` when the system has no random numbers.
    pub fn base_certificate(
        &self,
        names: impl IntoIterator<Item = impl AsRef<str>>,
        now_s: i64,
        life: Duration,
    ) -> Result<CertifiedKey, PkiError> {
        let key = KeyPair::generate().map_err(unmade)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("headend base");
        for name in names {
            params.subject_alt_names.push(subject(name.as_ref())?);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.complete(&mut params, now_s, life);
        let made = params.signed_by(&key, &self.issuer).map_err(unmade)?;
        let chain = vec![made.into(), self.certificate.clone()];
        CertifiedKey::from_der(chain, key.into(), &provider())
            .map_err(|error| PkiError::Unusable(error.to_string()))
    }

    /// The certificate of a node, for the key of its request, as PEM. Of the request only the key
    /// is taken.
    ///
    /// # Errors
    /// `Unmade`.
    pub fn node_certificate(
        &self,
        node: &NodeName,
        request: &NodeRequest,
        now_s: i64,
        life: Duration,
    ) -> Result<String, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(node.as_str());
        params.subject_alt_names = vec![subject(&host_of(node))?];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        self.complete(&mut params, now_s, life);
        let made = params.signed_by(&request.asked.public_key, &self.issuer).map_err(unmade)?;
        Ok(made.pem())
    }

    fn complete(&self, params: &mut CertificateParams, now_s: i64, life: Duration) {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        set_life(params, now_s, life);
    }
}

impl NodeSigner {
    /// A certificate for a node.
    ///
    /// # Errors
    /// See [`Authority::node_certificate`].
    pub fn give(
        &self,
        node: &NodeName,
        request: &NodeRequest,
        now_s: i64,
    ) -> Result<GivenCertificate, PkiError> {
        Ok(GivenCertificate {
            certificate: self.authority.node_certificate(node, request, now_s, self.life)?,
            authority: self.authority.certificate_pem().to_owned(),
            life_s: self.life.as_secs(),
        })
    }
}

impl NodeRequest {
    /// Reads a request (PEM) and checks that it is signed by its own key.
    ///
    /// # Errors
    /// `BadRequest`.
    pub fn read(pem: &str) -> Result<Self, PkiError> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|_| PkiError::BadRequest)?;
        let asked = CertificateSigningRequestParams::from_der(&der);
        Ok(Self { asked: asked.map_err(|_| PkiError::BadRequest)? })
    }

    /// Bytes of the public key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.asked.public_key.der_bytes()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Authority").field(&self.fingerprint()).finish()
    }
}

/// Whether this may be a name of a base: a host name or an address, and none that nodes have.
#[must_use]
pub fn is_base_name(name: &str) -> bool {
    subject(name).is_ok() && !name.to_ascii_lowercase().ends_with(NODE_DOMAIN)
}

/// A certificate for a server that has signed it itself, and its key (PEM).
pub(super) fn self_signed_server(
    names: impl IntoIterator<Item = impl AsRef<str>>,
    now_s: i64,
    life: Duration,
) -> Result<(String, String), PkiError> {
    let key = KeyPair::generate().map_err(unmade)?;
    let mut params = CertificateParams::default();
    for name in names {
        params.subject_alt_names.push(subject(name.as_ref())?);
    }
    params.distinguished_name = named("headend");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    set_life(&mut params, now_s, life);
    let made = params.self_signed(&key).map_err(unmade)?;
    Ok((made.pem(), key.serialize_pem()))
}

fn subject(name: &str) -> Result<SanType, PkiError> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let bad = || PkiError::BadName(name.to_owned());
    // What a client would look for must be found: the rules are those of rustls.
    rustls::pki_types::DnsName::try_from(name).map_err(|_| bad())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| bad())?))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_life(params: &mut CertificateParams, now_s: i64, life: Duration) {
    let now = Duration::from_secs(u64::try_from(now_s).unwrap_or(0));
    let start = date_time_ymd(1970, 1, 1);
    params.not_before = start + now.saturating_sub(CLOCKS_LATE);
    params.not_after = start + now + life;
}

fn to_pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(PEM_LINE) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn unmade(error: rcgen::Error) -> PkiError {
    PkiError::Unmade(error.to_string())
}

/// Twenty years: a new CA means new tokens for everyone.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3_600);
/// By how much a clock may be behind that of the base.
const CLOCKS_LATE: Duration = Duration::from_secs(24 * 3_600);
/// Characters of a line (RFC 7468 s2).
const PEM_LINE: usize = 64;
