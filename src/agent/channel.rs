//! Connections of a node to its base and to other nodes: with TLS, or without.
//!
//! ```text
//! hello   first()  believes the base by the token's fingerprint or a CA file; shows no certificate
//! others  own()    believes servers of the base's CA; shows the node's certificate
//! ```
//! A new certificate makes new connections; those that are open end with what they are at.
//! Invariant: with TLS nothing but a hello is sent before the node has a certificate. Bound: an
//! address is kept for each node that was a source.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::dist::ids::NodeName;
use crate::dist::keys::NodeKeys;
use crate::pki::credentials::{Credentials, node_credentials};
use crate::pki::tls::{self, Callers};
use crate::pki::trust::Trust;
use crate::pki::{PkiError, host_of};

/// Connections of a node. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Channel(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    first: Client,
    own: RwLock<Client>,
    secure: Option<Secure>,
}

#[derive(Debug)]
struct Secure {
    trust: Trust,
    credentials: Arc<Credentials>,
    addresses: Arc<Addresses>,
    authority: RwLock<Option<CertificateDer<'static>>>,
}

/// Where nodes are. Their names for TLS are no names of hosts.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<String, SocketAddr>>);

impl Channel {
    /// Without TLS.
    pub(super) fn plain() -> io::Result<Self> {
        // It never comes to TLS: redirects are not followed.
        let nobody = tls::client(&Trust::Roots(Vec::new()), None).map_err(io::Error::other)?;
        let client = build(builder().tls_backend_preconfigured(nobody))?;
        Ok(Self(Arc::new(Shared { first: client.clone(), own: RwLock::new(client), secure: None })))
    }

    /// With TLS, to the base that `trust` is of.
    pub(super) fn secure(trust: Trust) -> io::Result<Self> {
        let config = tls::client(&trust, None).map_err(io::Error::other)?;
        let first = build(builder().tls_backend_preconfigured(config))?;
        let secure = Secure {
            trust,
            credentials: Arc::default(),
            addresses: Arc::default(),
            authority: RwLock::default(),
        };
        let own = RwLock::new(first.clone());
        Ok(Self(Arc::new(Shared { first, own, secure: Some(secure) })))
    }

    /// What hello is said by.
    pub(super) fn first(&self) -> Client {
        self.0.first.clone()
    }

    /// What everything else is asked by.
    pub(super) fn own(&self) -> Client {
        self.0.own.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_secure(&self) -> bool {
        self.0.secure.is_some()
    }

    /// Whether more than a hello may be sent.
    pub(super) fn is_ready(&self) -> bool {
        let is_known = |secure: &Secure| {
            secure.authority.read().unwrap_or_else(PoisonError::into_inner).is_some()
        };
        self.0.secure.as_ref().is_none_or(is_known)
    }

    /// Shows this certificate from now on, and believes its CA.
    pub(super) fn install(
        &self,
        keys: &NodeKeys,
        certificate: &str,
        authority: &str,
    ) -> Result<(), PkiError> {
        let Some(secure) = &self.0.secure else { return Ok(()) };
        let authority = CertificateDer::from_pem_slice(authority.as_bytes());
        let authority = authority.map_err(|_| PkiError::NoCertificate)?;
        let key = node_credentials(keys, certificate)?;
        let trust = Trust::Roots(vec![authority.clone()]);
        let config = tls::client(&trust, Some(Arc::clone(&secure.credentials)))?;
        let resolver = Arc::clone(&secure.addresses);
        let client = builder().tls_backend_preconfigured(config).dns_resolver(resolver);
        let client = build(client).map_err(|error| PkiError::Unusable(error.to_string()))?;
        secure.credentials.replace(key);
        *secure.authority.write().unwrap_or_else(PoisonError::into_inner) = Some(authority);
        *self.0.own.write().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    /// Whether the node may believe this CA: without TLS there is none.
    pub(super) fn believes(&self, authority: &str) -> bool {
        let authority = CertificateDer::from_pem_slice(authority.as_bytes());
        let secure = self.0.secure.as_ref();
        secure.is_some_and(|secure| authority.is_ok_and(|one| secure.trust.includes(&one)))
    }

    /// TLS of the port for peers; none without.
    pub(super) fn server(&self) -> Result<Option<Arc<ServerConfig>>, PkiError> {
        let Some(secure) = &self.0.secure else { return Ok(None) };
        let authority = secure.authority.read().unwrap_or_else(PoisonError::into_inner).clone();
        let authority = authority.ok_or(PkiError::NoCertificate)?;
        let credentials = Arc::clone(&secure.credentials);
        tls::server(credentials, &authority, Callers::Certified).map(Some)
    }

    /// URL of a node at `addr`, without a slash behind.
    pub(super) fn url_of(&self, node: &NodeName, addr: &str) -> String {
        let Some(secure) = &self.0.secure else { return format!("http://{addr}") };
        // The base has checked it; what is none cannot be reached.
        let Ok(parsed) = addr.parse::<SocketAddr>() else { return format!("https://{addr}") };
        let host = host_of(node);
        let mut known = secure.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        let url = format!("https://{host}:{}", parsed.port());
        known.insert(host, parsed);
        url
    }
}

impl Resolve for Addresses {
    fn resolve(&self, name: Name) -> Resolving {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(name.as_str()).copied();
        Box::pin(async move {
            if let Some(addr) = known {
                return Ok(Box::new(std::iter::once(addr)) as Addrs);
            }
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// No proxies; small requests leave at once.
fn builder() -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_MAX)
        .pool_idle_timeout(POOL_IDLE)
        .redirect(reqwest::redirect::Policy::none())
}

fn build(builder: ClientBuilder) -> io::Result<Client> {
    builder.build().map_err(|error| io::Error::other(error.to_string()))
}

const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Shorter than servers keep idle connections.
const POOL_IDLE: Duration = Duration::from_secs(30);
