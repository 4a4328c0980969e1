// The numbers of the server, a sample a second (GET /v1/feed).
//
// A page that nobody sees has no feed: it is closed when the tab is hidden, and opened again, with
// the minutes that were missed, when it is shown. A feed that breaks off is opened again, and so is
// one that is silent: a server that hangs, and a network that is gone, close no connection.

const AGAIN_MS = 3000;
const SILENT_MS = 5000;
const SAMPLES_MAX = 300;

/** Calls `onSamples` with all samples of the last minutes, oldest first, whenever there is a new
 * one; `onState` with `live`, `paused` or `lost`. */
export function openFeed(onSamples, onState) {
  let source = null;
  let again = null;
  let silence = null;
  let samples = [];

  const close = (state) => {
    clearTimeout(again);
    clearTimeout(silence);
    source?.close();
    source = null;
    onState(state);
  };
  const lose = () => {
    close("lost");
    if (!document.hidden) again = setTimeout(open, AGAIN_MS);
  };
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(lose, SILENT_MS);
  };
  const take = (kind, use) => {
    source.addEventListener(kind, (event) => {
      let data;
      try {
        data = JSON.parse(event.data);
      } catch {
        return lose();
      }
      listen();
      use(data);
      onSamples(samples);
    });
  };
  const open = () => {
    if (source) return;
    clearTimeout(again);
    source = new EventSource("/v1/feed");
    listen();
    take("history", (all) => {
      samples = all;
      onState("live");
    });
    take("sample", (newest) => (samples = [...samples, newest].slice(-SAMPLES_MAX)));
    source.addEventListener("error", lose);
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close("paused") : open()));
  if (!document.hidden) open();
}
