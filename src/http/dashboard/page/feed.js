// The numbers of the server, a sample a second (GET /v1/feed).
//
// A page that nobody sees has no feed: it is closed when the tab is hidden, and opened again, with
// the minutes that were missed, when it is shown. A feed that breaks off is opened again.

const AGAIN_MS = 3000;
const SAMPLES_MAX = 300;

/** Calls `onSamples` with all samples of the last minutes, oldest first, whenever there is a new
 * one; `onState` with `live`, `paused` or `lost`. */
export function openFeed(onSamples, onState) {
  let source = null;
  let timer = null;
  let samples = [];

  const close = (state) => {
    clearTimeout(timer);
    source?.close();
    source = null;
    onState(state);
  };
  const open = () => {
    if (source) return;
    source = new EventSource("/v1/feed");
    source.addEventListener("history", (event) => {
      samples = JSON.parse(event.data);
      onState("live");
      onSamples(samples);
    });
    source.addEventListener("sample", (event) => {
      samples = [...samples, JSON.parse(event.data)].slice(-SAMPLES_MAX);
      onSamples(samples);
    });
    source.addEventListener("error", () => {
      close("lost");
      if (!document.hidden) timer = setTimeout(open, AGAIN_MS);
    });
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close("paused") : open()));
  if (!document.hidden) open();
}
