//! The certificate of a base: for the names by which it is reached, renewed while it runs.
//!
//! ```text
//! names of the configuration --issue--> Credentials, shown from the next connection on
//! an address that a connection came to --^      ^-- a third of its life is left
//! ```
//! Its key is made with it and kept nowhere: what clients know is the CA. A base that listens on
//! all addresses is named by each of them when it is first reached there.
//! Bound: `NAMES_MAX`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::http::Tls;
use crate::pki::PkiError;
use crate::pki::authority::{Authority, NodeSigner, is_base_name};
use crate::pki::credentials::Credentials;
use crate::pki::tls::{self, Callers};

/// What a base shows to whoever connects.
#[derive(Debug)]
pub(super) struct Certificates {
    authority: Arc<Authority>,
    credentials: Arc<Credentials>,
    life: Duration,
    issued: Mutex<Issued>,
}

/// The certificate as it is now.
#[derive(Debug)]
struct Issued {
    names: BTreeSet<String>,
    renew_at_s: i64,
}

impl Certificates {
    /// Makes the first one, for these names, those of this machine and the loopback.
    pub(super) fn new(
        authority: Arc<Authority>,
        addresses: &[IpAddr],
        host_names: &[String],
        life: Duration,
    ) -> Result<Arc<Self>, PkiError> {
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let addresses = addresses.iter().chain(&loopback).filter(|ip| !ip.is_unspecified());
        let mut names: BTreeSet<String> =
            addresses.map(|ip| ip.to_canonical().to_string()).collect();
        names.insert("localhost".to_owned());
        let own = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        names.extend(Some(own).filter(|name| is_base_name(name)));
        names.extend(host_names.iter().cloned());
        let issued = Mutex::new(Issued { names, renew_at_s: 0 });
        let made = Self { authority, credentials: Arc::default(), life, issued };
        made.change(|_| true)?;
        Ok(Arc::new(made))
    }

    /// TLS of the base's port.
    pub(super) fn tls(self: &Arc<Self>) -> Result<Tls, PkiError> {
        let credentials = Arc::clone(&self.credentials);
        let config = tls::server(credentials, self.authority.certificate(), Callers::Anyone)?;
        let certificates = Arc::clone(self);
        Ok(Tls { config, reached: Some(Arc::new(move |ip| certificates.reached(ip))) })
    }

    /// Signs certificates of nodes.
    pub(super) fn signer(&self) -> NodeSigner {
        NodeSigner { authority: Arc::clone(&self.authority), life: self.life }
    }

    /// Renews the certificate in time, for as long as it is awaited. Clocks may be set: the time is
    /// compared again and again.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep((self.life / 10).min(CLOCK_EVERY)).await;
            let now_s = Timestamp::now().as_second();
            self.change_or_say(|issued| issued.renew_at_s <= now_s);
        }
    }

    fn reached(&self, ip: IpAddr) {
        self.change_or_say(|issued| {
            issued.names.len() < NAMES_MAX && issued.names.insert(ip.to_string())
        });
    }

    fn change_or_say(&self, is_needed: impl FnOnce(&mut Issued) -> bool) {
        if let Err(error) = self.change(is_needed) {
            tracing::warn!(code = "HE-W936", %error, "the certificate of the base is not renewed");
        }
    }

    /// Makes a new certificate where one is needed.
    fn change(&self, is_needed: impl FnOnce(&mut Issued) -> bool) -> Result<(), PkiError> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_needed(&mut issued) {
            return Ok(());
        }
        let now_s = Timestamp::now().as_second();
        let key = self.authority.base_certificate(&issued.names, now_s, self.life)?;
        self.credentials.replace(key);
        let life_s = i64::try_from(self.life.as_secs()).unwrap_or(i64::MAX);
        issued.renew_at_s = now_s.saturating_add(life_s - life_s / 3);
        Ok(())
    }
}

/// More addresses than a base has.
const NAMES_MAX: usize = 128;
/// How often the clock is compared with the time of renewal.
const CLOCK_EVERY: Duration = Duration::from_secs(600);
