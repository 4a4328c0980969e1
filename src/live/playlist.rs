//! Playlists, as operators ask for them.

use std::sync::Arc;

use crate::live::front::Live;
use crate::live::sources::titles::playlists::{PlaylistAnswer, PlaylistRefusal, PlaylistRequest};
use crate::session::cx::Cx;

impl Live {
    /// Shows or edits the playlist of a path with its owner here.
    ///
    /// # Errors
    /// See [`PlaylistRefusal`].
    pub fn ask_playlist(
        &mut self,
        cx: &mut Cx,
        path: &str,
        request: &PlaylistRequest,
    ) -> Result<PlaylistAnswer, PlaylistRefusal> {
        if !cx.path_config(path).is_playlist() {
            let is_known = self.owner_info(cx, path).is_some();
            let (known, unknown) = (PlaylistRefusal::NoPlaylist, PlaylistRefusal::UnknownPath);
            return Err(if is_known { known } else { unknown });
        }
        let path: Arc<str> = path.into();
        let answer = self.sources.ask_playlist(cx, &mut self.hub, &path, request);
        self.settle_live(cx);
        answer
    }
}
