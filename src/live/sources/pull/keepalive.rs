//! Keep-alive of a camera's session: by a method that the camera lists, or by another one after the
//! camera has refused that method.
//!
//! ```text
//!  GET_PARAMETER, where listed --refused--> OPTIONS --> GET_PARAMETER --> SET_PARAMETER
//! ```
//! Invariant: a method that was refused is not used again, whatever later answers list. After all
//! have been refused OPTIONS is used: for most cameras a request is a sign of life, whatever its
//! answer is. Bound: one refusal for each method, so at most two further requests at once.

use crate::rtsp::request::Method;

/// The choice of a camera's keep-alive method: see the module.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KeepAlive {
    lists_get_parameter: bool,
    /// Refused methods, by `Kind`.
    refused: [bool; 3],
}

/// A request that keeps a session alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    GetParameter,
    Options,
    SetParameter,
}

impl KeepAlive {
    /// The camera lists GET_PARAMETER in `Public`.
    pub(crate) fn handle_listed(&mut self) {
        self.lists_get_parameter = true;
    }

    /// The camera has refused a method. True when another method is to be used at once.
    pub(crate) fn handle_refused(&mut self, kind: Kind) -> bool {
        let is_news = !std::mem::replace(&mut self.refused[kind as usize], true);
        is_news && self.refused.contains(&false)
    }

    /// The method of the next keep-alive.
    pub(crate) fn kind(&self) -> Kind {
        let listed = Some(Kind::GetParameter).filter(|_| self.lists_get_parameter);
        let others = [Kind::Options, Kind::GetParameter, Kind::SetParameter];
        let mut kinds = listed.into_iter().chain(others);
        kinds.find(|kind| !self.refused[*kind as usize]).unwrap_or(Kind::Options)
    }
}

impl Kind {
    pub(crate) fn method(self) -> Method {
        match self {
            Self::GetParameter => Method::GetParameter,
            Self::Options => Method::Options,
            Self::SetParameter => Method::SetParameter,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is listed and refused, in any order.
        #[test]
        fn refused_keep_alive_method_is_not_used_while_another_is_left(
            events in prop::collection::vec(any::<bool>(), 0..20),
        ) {
            let mut keep_alive = KeepAlive::default();
            let (mut refused, mut others) = (Vec::new(), 0);
            for is_refused in events {
                let kind = keep_alive.kind();
                prop_assert_eq!(refused.contains(&kind), refused.len() == 3, "{:?}", refused);
                if is_refused {
                    others += usize::from(keep_alive.handle_refused(kind));
                    if !refused.contains(&kind) {
                        refused.push(kind);
                    }
                } else {
                    keep_alive.handle_listed();
                }
            }
            prop_assert!(others <= 2);
        }
    }
}
