//! Whose secret a request shows, and whether the connection is that node's.
//!
//! A token or a capability names a node. With TLS it counts only on a connection that shows the
//! certificate of that node: whoever has read it elsewhere cannot use it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::StatusCode;
use axum::http::request::Parts;
use jiff::Timestamp;

use super::Remote;
use super::clerk::problem;
use super::problem::Problem;
use crate::dist::ids::NodeName;
use crate::pki::certificate::NodeCertificate;

/// Who may use what names a node.
#[derive(Debug, Clone)]
pub enum Bearers {
    /// Anyone: there is no TLS.
    Anyone,
    /// The node, shown by its certificate, unless it is retired.
    Certified(Retired),
}

/// Nodes whose certificates count no longer. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Retired(Arc<RwLock<BTreeSet<NodeName>>>);

/// The certificate of a node that a request's connection shows, and its address.
#[derive(Default)]
pub(super) struct Caller {
    shown: Option<NodeCertificate>,
    from: Option<IpAddr>,
}

impl Bearers {
    /// The certificate of this node does not count any more.
    pub(super) fn retire(&self, node: NodeName) {
        if let Self::Certified(retired) = self {
            retired.add(node);
        }
    }

    /// # Errors
    /// 401 without a certificate that counts, 403 with that of another node or a retired one.
    pub(super) fn check(&self, caller: &Caller, node: &NodeName) -> Result<(), Problem> {
        self.check_at(caller, node, Timestamp::now().as_second())
    }

    /// Whether any node of the base asks.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn check_any(&self, caller: &Caller) -> Result<(), Problem> {
        match &caller.shown {
            Some(shown) => self.check(caller, &shown.node),
            None if matches!(self, Self::Anyone) => Ok(()),
            None => Err(missing()),
        }
    }

    fn check_at(&self, caller: &Caller, node: &NodeName, now_s: i64) -> Result<(), Problem> {
        let retired = match self {
            Self::Anyone => return Ok(()),
            Self::Certified(retired) => retired,
        };
        let Some(shown) = &caller.shown else {
            return Err(missing());
        };
        if !shown.counts_at(now_s) {
            let detail = "the certificate of this connection has expired";
            return Err(problem(StatusCode::UNAUTHORIZED, "certificate_expired", detail));
        }
        if shown.node != *node {
            let detail = "this is for another node than the one of the certificate";
            return Err(problem(StatusCode::FORBIDDEN, "certificate_of_another_node", detail));
        }
        if retired.has(node) {
            let detail = "the node was retired; its certificate does not count";
            return Err(problem(StatusCode::FORBIDDEN, "node_retired", detail));
        }
        Ok(())
    }
}

fn missing() -> Problem {
    let detail = "show the certificate of the node that this is for";
    problem(StatusCode::UNAUTHORIZED, "certificate_missing", detail)
}

impl Retired {
    /// The certificate of this node does not count any more.
    pub fn add(&self, node: NodeName) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(node);
    }

    fn has(&self, node: &NodeName) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(node)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let remote = parts.extensions.get::<ConnectInfo<Remote>>();
        let shown = remote.and_then(|ConnectInfo(remote)| remote.node.clone());
        Ok(Self { shown, from: remote.map(|ConnectInfo(remote)| remote.addr.ip()) })
    }
}

impl Caller {
    /// Where a server of the caller is that has this port.
    pub(super) fn server(&self, port: u16) -> Option<SocketAddr> {
        self.from.filter(|_| port != 0).map(|ip| SocketAddr::new(ip.to_canonical(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_of_a_node_counts_with_its_certificate_only() {
        let name = |text: &str| NodeName::new(text).unwrap();
        let retired = Retired::default();
        let bearers = Bearers::Certified(retired.clone());
        let shown = |node: &str| Caller {
            shown: Some(NodeCertificate { node: name(node), not_after_s: 9 }),
            from: None,
        };
        let check = |caller: &Caller, now_s| {
            let checked = bearers.check_at(caller, &name("a"), now_s);
            checked.map_err(|problem| format!("{problem:?}"))
        };
        assert_eq!(check(&shown("a"), 9), Ok(()));
        let of = |caller: &Caller, now_s, reason: &str| {
            let told = check(caller, now_s).unwrap_err();
            assert!(told.contains(reason), "{told}");
        };
        of(&shown("a"), 10, "certificate_expired");
        of(&shown("b"), 9, "certificate_of_another_node");
        of(&Caller::default(), 9, "certificate_missing");
        retired.add(name("a"));
        of(&shown("a"), 9, "node_retired");
        assert!(Bearers::Anyone.check_at(&Caller::default(), &name("a"), 9).is_ok());
    }
}
