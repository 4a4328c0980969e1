//! TEARDOWN (RFC 2326 s10.7): of the presentation, or of one stream of it.

use crate::rtsp::response::Status;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::{SessionKey, SessionRef};
use crate::session::transport::Transport;
use crate::vod::methods::{Scope, answer, scope};
use crate::vod::playback::State;
use crate::vod::stream::Phase;
use crate::vod::table::Players;

impl Players {
    pub(crate) fn teardown(&mut self, cx: &mut Cx, command: &Command, key: SessionKey) -> Executed {
        let Some(session) = self.session(key) else {
            return command.refuse(Status::SessionNotFound);
        };
        match scope(session, command) {
            Err(status) => command.refuse(status),
            Ok(Scope::Stream(index)) if session.streams.len() > 1 => {
                self.drop_stream(cx, command, key, index)
            }
            Ok(Scope::Stream(_) | Scope::Presentation) => {
                let response = answer(command, session);
                self.fail(cx, key, Some("teardown"));
                Executed::Reply(response)
            }
        }
    }

    /// Removes one stream of a session that does not play. In a playing session the removal would
    /// shift the other streams' indices, which timers and tasks refer to.
    fn drop_stream(
        &mut self,
        cx: &mut Cx,
        command: &Command,
        key: SessionKey,
        index: usize,
    ) -> Executed {
        let Some(session) = self.slab.get_mut(key.0 as usize) else {
            return command.refuse(Status::SessionNotFound);
        };
        if matches!(session.state, State::Playing | State::Priming(_)) {
            return command.refuse(Status::OnlyAggregateOperationAllowed);
        }
        if session.epoch.is_some() && session.streams[index].phase != Phase::Ended {
            self.send_report(cx, key, index, Some("teardown"));
        }
        let Some(session) = self.slab.get_mut(key.0 as usize) else {
            return command.refuse(Status::SessionNotFound);
        };
        let stream = session.streams.remove(index);
        cx.wheel.cancel(stream.timer);
        session.epoch_count = session.epoch_count.wrapping_add(1);
        match (stream.outgoing.transport, session.client.connection) {
            (Transport::Udp { pair, rtp, rtcp }, _) => cx.release_tuple(pair, rtp, rtcp),
            (Transport::Tcp { channel, rtcp_channel }, Some(entry)) => {
                cx.directory.give_channels_back(entry, (channel, rtcp_channel));
            }
            (Transport::Tcp { .. }, None) | (Transport::Group { .. }, _) => {}
        }
        let Some(session) = self.slab.get(key.0 as usize) else {
            return command.refuse(Status::SessionNotFound);
        };
        for (index, stream) in session.streams.iter().enumerate() {
            if let Transport::Udp { pair, rtcp, .. } = stream.outgoing.transport {
                let owner = (SessionRef::Title(key), u8::try_from(index).unwrap_or(u8::MAX));
                cx.sockets.rename(pair, rtcp, owner);
            }
        }
        Executed::Reply(answer(command, session))
    }
}
