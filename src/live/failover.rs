//! Fail-over for operators: switches the source of a path, and shows its sources.
//!
//! ```text
//!  request --source by name--> relay of the path --> reply: at once, or with its key frame
//! ```
//! Invariant: each request is answered once. Bound: a request a path waits; another one ends it.

use crate::live::core::failover::{
    FailoverInfo, FailoverSource, SwitchError, SwitchReply, SwitchRequest, SwitchTo,
};
use crate::live::front::Live;
use crate::session::cx::Cx;

impl Live {
    /// Switches the source of a path with its owner here, for an operator.
    pub fn switch_path(&mut self, cx: &Cx, path: &str, request: SwitchRequest, reply: SwitchReply) {
        if self.owner_info(cx, path).is_none() {
            return reply.answer(Err(SwitchError::NoPath));
        }
        let names = cx.configs.source_names(path);
        if names.is_empty() {
            return reply.answer(Err(SwitchError::NoFallbacks));
        }
        let to = match request.to {
            SwitchTo::Auto => None,
            SwitchTo::Source(text) => match cx.configs.source_place(path, &text) {
                Some(place) => Some(place),
                None => {
                    let paths = names.iter().zip(cx.configs.source_paths(path));
                    let known = paths.map(|(name, path)| match **path == **name {
                        true => name.clone(),
                        false => format!("{name} ({path})"),
                    });
                    let known = known.collect::<Vec<_>>().join(", ");
                    return reply.answer(Err(SwitchError::NoSource { known }));
                }
            },
        };
        self.sources.switch_relay(cx, path, (to, request.timing), reply);
    }

    /// The sources of a path with fallbacks and its owner here.
    pub(crate) fn failover_info(&self, cx: &Cx, path: &str) -> Option<FailoverInfo> {
        let names = cx.configs.source_names(path);
        if names.is_empty() {
            return None;
        }
        if let Some(relay) = self.sources.relays.of_path(path) {
            return Some(relay.info(cx, &names));
        }
        let paths = cx.configs.source_paths(path);
        let off = |(place, (name, path)): (usize, (String, &std::sync::Arc<str>))| FailoverSource {
            place,
            name,
            path: path.to_string(),
            state: "off",
            reason: None,
            since: None,
            age_s: 0.0,
        };
        let sources = (0..).zip(names.into_iter().zip(paths)).map(off).collect();
        Some(FailoverInfo { active: None, pinned: None, last_switch: None, sources })
    }
}
