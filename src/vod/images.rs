//! When windows are given images: packets in memory as on the wire, for many streams at once.
//!
//! ```text
//!  SETUP over UDP: SSRC and first numbers of the title, the same for all its players
//!  a stream enters a window --fits its image--> sends runs out of it, one piece of memory each
//!       |                   --numbers that no image has--> counted on the window
//!       |                                           `-- enough are alike: a worker makes it
//!  seek, pause, Scale, frames left out, another feed: the numbers are its own from then on, and so
//!  is the way of its packets: header and payload apart, as for all others
//! ```
//! What a stream sends, counts, reports and remembers is the same both ways: an image is only
//! another place to take the bytes from, and is looked at before each frame
//! (`media::image::PacketImage::shows`).
//!
//! Invariant: a stream never changes its numbers to fit an image. Bound: a question a window.

use crate::poll::task::{Task, TaskClass, TaskOwner, Work};
use crate::session::action::Action;
use crate::session::cx::Cx;
use crate::session::directory::StreamRef;
use crate::vod::service::Vod;

impl Vod {
    /// A stream has entered a window: notes that it uses the window's image, or counts it among
    /// those that would use one.
    #[cold]
    pub(crate) fn want_image(&self, cx: &mut Cx, at: StreamRef) {
        let Some(session) = self.players.session(at.session) else { return };
        let Some(stream) = session.streams.get(usize::from(at.stream_index)) else { return };
        let Some(window) = stream.feed.cursor.as_ref().and_then(|c| c.window_handle()) else {
            return;
        };
        let Some(numbers) = stream.image_numbers() else { return };
        if let Some(image) = &*window.image().load() {
            if image.numbers() == numbers {
                return image.note_entered(cx.now);
            }
            // Those who send from it keep it.
            if image.is_in_use(cx.now) {
                return;
            }
        }
        if window.image().want(numbers, cx.now) {
            let (title, window) = (session.title.clone(), window.clone());
            let work = Work::Image { title, window, numbers };
            let (owner, class) = (TaskOwner::Image, TaskClass::Prefetch);
            cx.out.push(Action::Submit(Task { shard: cx.shard, owner, class, work }));
        }
    }
}
