// Plays the path of this page: a title by the browser's own HLS where it has that, else by Media
// Source Extensions, which get the playlist's segments (fragmented MP4) one after the other. Live
// paths by WebRTC (WHEP), below a second behind, where the browser and the path have it; else by
// HLS the other way round: Chromium's own HLS stays six seconds behind, parts of half a second do
// not.
//
//   index.m3u8 -> CODECS, media playlist -> initialization, segments or parts -> SourceBuffer
//   offer -> whep -> answer -> RTP
//
// ?player=whep, =mse and =native choose one of the three; ?token=.. goes to every request.
// States are in `document.documentElement.dataset.state`: loading, playing, ended, error.
"use strict";

const video = document.getElementById("video");
const query = new URLSearchParams(location.search);
const chosen = query.get("player");
query.delete("player");
const suffix = query.size ? "?" + query : "";

// Seconds of a title that are loaded ahead, and kept behind.
const AHEAD = 30;
const BEHIND = 30;
// Seconds that a viewer of a live path may be late before the player jumps.
const LATE = 8;

class Failure extends Error {}

function say(state, text) {
  document.documentElement.dataset.state = state;
  const line = document.getElementById("state");
  line.textContent = text;
  line.className = state === "error" ? "error" : "";
}

async function get(url, options) {
  for (let attempt = 0; ; attempt++) {
    let answer;
    try {
      answer = await fetch(url, { credentials: "same-origin", ...options });
    } catch (error) {
      if (attempt === 4) throw new Failure("The server does not answer.");
      await pause(500 << attempt);
      continue;
    }
    if (answer.ok) return answer;
    if (answer.status === 503 && attempt < 4) {
      await pause(1000 * (Number(answer.headers.get("Retry-After")) || 1));
      continue;
    }
    throw await failureOf(answer);
  }
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// NAME=value pairs of a tag; quoted values without their quotes.
function attributes(text) {
  const found = {};
  for (const [, name, quoted, plain] of text.matchAll(/([A-Z0-9-]+)=(?:"([^"]*)"|([^,]*))/g)) {
    found[name] = quoted ?? plain;
  }
  return found;
}

const tag = (line, name) => (line.startsWith(name + ":") ? line.slice(name.length + 1) : null);

function readMultivariant(text) {
  const found = { codecs: "", uri: "", start: 0, leftOut: "" };
  let isNext = false;
  for (const line of text.split("\n")) {
    const variant = tag(line, "#EXT-X-STREAM-INF");
    const data = tag(line, "#EXT-X-SESSION-DATA");
    if (variant) {
      found.codecs = attributes(variant).CODECS || "";
      isNext = true;
    } else if (data && attributes(data)["DATA-ID"] === "headend.start") {
      found.start = Number(attributes(data).VALUE) || 0;
    } else if (data && attributes(data)["DATA-ID"] === "headend.left-out") {
      found.leftOut = attributes(data).VALUE;
    } else if (isNext && line && !line.startsWith("#")) {
      found.uri = line;
      isNext = false;
    }
  }
  if (!found.uri) throw new Failure("The playlist names nothing to play.");
  return found;
}

// Segments with their parts. Of a title, `time` is where a segment begins.
function readMedia(text) {
  const found = { segments: [], isEnded: false, partHoldBack: 0, canBlock: false, next: [0, 0] };
  let number = 0, map = null, parts = [], duration = 0, time = 0, target = 1, isBreak = false;
  for (const line of text.split("\n")) {
    let value;
    if ((value = tag(line, "#EXT-X-MEDIA-SEQUENCE"))) number = Number(value);
    else if ((value = tag(line, "#EXT-X-TARGETDURATION"))) target = Number(value);
    else if ((value = tag(line, "#EXT-X-SERVER-CONTROL"))) {
      found.canBlock = attributes(value)["CAN-BLOCK-RELOAD"] === "YES";
      found.partHoldBack = Number(attributes(value)["PART-HOLD-BACK"]) || 0;
    } else if ((value = tag(line, "#EXT-X-MAP"))) map = attributes(value).URI;
    else if (line === "#EXT-X-DISCONTINUITY") isBreak = true;
    else if ((value = tag(line, "#EXT-X-PART"))) {
      const { URI: uri, DURATION: seconds, INDEPENDENT } = attributes(value);
      parts.push({ uri, duration: Number(seconds), isIndependent: INDEPENDENT === "YES" });
    } else if ((value = tag(line, "#EXTINF"))) duration = parseFloat(value);
    else if (line === "#EXT-X-ENDLIST") found.isEnded = true;
    else if (line && !line.startsWith("#")) {
      found.segments.push({ number, uri: line, map, parts, duration, time, isBreak, isWhole: true });
      number += 1;
      time += duration;
      parts = [];
      isBreak = false;
    }
  }
  found.next = [number, parts.length];
  if (parts.length) {
    found.segments.push({ number, uri: null, map, parts, duration: 0, time, isBreak, isWhole: false });
  }
  found.target = target;
  found.duration = time;
  return found;
}

// A SourceBuffer that takes one thing after the other.
class Sink {
  constructor(source, type) {
    this.buffer = source.addSourceBuffer(type);
    this.map = null;
  }

  #done(act) {
    return new Promise((done, failed) => {
      const end = () => {
        this.buffer.removeEventListener("updateend", end);
        this.buffer.removeEventListener("error", wrong);
        done();
      };
      const wrong = () => {
        this.buffer.removeEventListener("updateend", end);
        this.buffer.removeEventListener("error", wrong);
        failed(new Failure("The browser cannot decode this."));
      };
      this.buffer.addEventListener("updateend", end);
      this.buffer.addEventListener("error", wrong);
      act();
    });
  }

  async append(bytes) {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#done(() => this.buffer.appendBuffer(bytes));
      } catch (error) {
        if (error.name !== "QuotaExceededError" || attempt === 3) throw error;
        await this.trim(2 >> attempt);
      }
    }
  }

  // Makes sure that a segment's initialization was the last one.
  async begin(map) {
    if (map === this.map) return;
    await this.append(await (await get(map)).arrayBuffer());
    this.map = map;
  }

  // Forgets what was shown longer ago than that.
  async trim(seconds) {
    const end = video.currentTime - seconds;
    const ranges = this.buffer.buffered;
    if (ranges.length && ranges.start(0) < end - 1) {
      await this.#done(() => this.buffer.remove(0, end));
    }
  }

  // Seconds that are there from a time on.
  ahead(time) {
    const ranges = this.buffer.buffered;
    for (let i = 0; i < ranges.length; i++) {
      // A few frames may be missing at a seam.
      if (ranges.start(i) - 0.2 <= time && time < ranges.end(i)) return ranges.end(i) - time;
    }
    return 0;
  }
}

async function openSource() {
  const Source = window.MediaSource || window.ManagedMediaSource;
  const source = new Source();
  if (Source === window.ManagedMediaSource) video.disableRemotePlayback = true;
  video.src = URL.createObjectURL(source);
  await new Promise((done) => source.addEventListener("sourceopen", done, { once: true }));
  return source;
}

// Something that a seek interrupts.
let wake = () => {};
const idle = (ms) =>
  new Promise((done) => {
    const timer = setTimeout(done, ms);
    wake = () => {
      clearTimeout(timer);
      done();
    };
  });

async function playTitle(source, sink, media, start) {
  source.duration = media.duration;
  sink.buffer.timestampOffset = -start;
  sink.buffer.appendWindowStart = 0;
  let seeks = 0, newest = -1;
  const at = (time) => {
    const found = media.segments.findIndex((one) => time < one.time + one.duration);
    return found < 0 ? media.segments.length : found;
  };
  video.addEventListener("seeking", () => {
    seeks += 1;
    newest = -1;
    wake();
  });
  for (;;) {
    const seen = seeks;
    const ahead = sink.ahead(video.currentTime);
    // Sound may end a frame before the picture.
    const next = ahead > 0 ? at(video.currentTime + ahead + 0.25) : at(video.currentTime);
    if (next >= media.segments.length) {
      if (source.readyState === "open") source.endOfStream();
      await idle(500);
      continue;
    }
    if (ahead > AHEAD) {
      await idle(500);
      continue;
    }
    if (ahead === 0 && next === newest) {
      // The segment is there, but begins a little later than its time.
      const ranges = sink.buffer.buffered;
      const later = [...Array(ranges.length).keys()].map((i) => ranges.start(i));
      video.currentTime = later.find((time) => time > video.currentTime) ?? video.currentTime + 0.5;
      continue;
    }
    const segment = media.segments[next];
    await sink.begin(segment.map);
    const bytes = await (await get(segment.uri)).arrayBuffer();
    if (seen !== seeks && at(video.currentTime) !== next) continue;
    await sink.append(bytes);
    newest = next;
    await sink.trim(BEHIND);
  }
}

// Where a viewer begins: the newest part that stands alone and is far enough behind the end.
function startOf(media) {
  let found = [media.segments[0]?.number ?? 0, 0];
  let isFirst = true;
  for (const segment of media.segments) {
    for (const [place, part] of segment.parts.entries()) {
      if (!part.isIndependent) continue;
      if (isFirst || secondsBehind(media, segment, place) >= media.partHoldBack) {
        found = [segment.number, place];
        isFirst = false;
      }
    }
  }
  return found;
}

async function playLive(sink, url, first) {
  let media = first, next = startOf(media), wantsStart = true, failures = 0;
  const again = (mark) => {
    const separator = url.includes("?") ? "&" : "?";
    return get(mark ? url + separator + mark : url).then((answer) => answer.text()).then(readMedia);
  };
  for (;;) {
    try {
      for (const segment of media.segments) {
        const parts = segment.parts.length ? segment.parts : [{ uri: segment.uri }];
        for (const [place, part] of parts.entries()) {
          const isOld = segment.number < next[0] || (segment.number === next[0] && place < next[1]);
          if (isOld) continue;
          await sink.begin(segment.map);
          await sink.append(await (await get(part.uri)).arrayBuffer());
          next = [segment.number, place + 1];
          follow(sink, media, wantsStart);
          wantsStart = false;
        }
      }
      if (media.isEnded) return;
      await sink.trim(BEHIND);
      if (!media.canBlock) await pause(media.target * 500);
      const [segment, part] = media.next;
      media = await again(media.canBlock ? `_HLS_msn=${segment}&_HLS_part=${part}` : "");
      failures = 0;
    } catch (error) {
      // Too late for a part: begin anew, a few times.
      failures += 1;
      if (error.status !== 404 || failures > 3) throw error;
      await pause(500);
      media = await again("");
      next = startOf(media);
      wantsStart = true;
    }
    if (media.segments.length && media.segments[0].number > next[0]) {
      next = startOf(media);
      wantsStart = true;
    }
  }
}

// Keeps a viewer of a live path near its end.
function follow(sink, media, wantsStart) {
  const ranges = sink.buffer.buffered;
  if (!ranges.length) return;
  const last = ranges.length - 1;
  const end = ranges.end(last);
  const holdBack = Math.max(media.partHoldBack, 1);
  const isLate = end - video.currentTime > holdBack + LATE || sink.ahead(video.currentTime) === 0;
  if (wantsStart || (isLate && !video.paused)) {
    video.currentTime = Math.max(ranges.start(last), end - holdBack);
    if (wantsStart) video.play().catch(() => {});
  }
  document.getElementById("latency").textContent =
    `${(end - video.currentTime).toFixed(1)} s behind the newest part`;
}

function secondsBehind(media, segment, place) {
  let seconds = 0;
  for (const one of media.segments) {
    if (one.number < segment.number) continue;
    const parts = one.parts.length ? one.parts : [{ duration: one.duration }];
    for (const [at, part] of parts.entries()) {
      if (one.number > segment.number || at >= place) seconds += part.duration;
    }
  }
  return seconds;
}

async function loadMultivariant() {
  const found = readMultivariant(await (await get("index.m3u8" + suffix)).text());
  if (found.leftOut) document.getElementById("left-out").textContent = `Left out: ${found.leftOut}.`;
  return found;
}

async function playByMediaSource() {
  if (!window.MediaSource && !window.ManagedMediaSource) {
    throw new Failure("This browser plays neither HLS nor Media Source Extensions.");
  }
  const multivariant = await loadMultivariant();
  const type = `video/mp4; codecs="${multivariant.codecs}"`;
  if (!(window.MediaSource || window.ManagedMediaSource).isTypeSupported(type)) {
    throw new Failure(`This browser has no decoder for ${multivariant.codecs}.`);
  }
  const media = readMedia(await (await get(multivariant.uri)).text());
  const source = await openSource();
  const sink = new Sink(source, type);
  if (media.isEnded && !media.canBlock) {
    await playTitle(source, sink, media, multivariant.start);
  } else {
    await playLive(sink, multivariant.uri, media);
    if (source.readyState === "open") source.endOfStream();
  }
}

async function playNatively() {
  // The reason for a failure is in the answer, which the video element does not show.
  await loadMultivariant();
  video.src = "index.m3u8" + suffix;
}

// A session of WHEP until it is over; `Failure` when it does not begin.
async function playByWebRtc(isAgain) {
  const peer = new RTCPeerConnection();
  for (const kind of ["video", "audio"]) peer.addTransceiver(kind, { direction: "recvonly" });
  const stream = new MediaStream();
  peer.addEventListener("track", (event) => stream.addTrack(event.track));
  let session = null;
  const leave = () => {
    if (session) fetch(session, { method: "DELETE", keepalive: true }).catch(() => {});
    session = null;
    peer.close();
  };
  window.addEventListener("pagehide", leave, { once: true });
  try {
    const { sdp } = await peer.createOffer();
    await peer.setLocalDescription({ type: "offer", sdp: inStereo(sdp) });
    // No candidate of ours is waited for: the server finds this browser by its first datagram.
    const headers = { "Content-Type": "application/sdp" };
    const answer = await offer({
      method: "POST", headers, body: peer.localDescription.sdp, credentials: "same-origin",
    });
    session = answer.headers.get("Location");
    const leftOut = answer.headers.get("Headend-Left-Out");
    document.getElementById("left-out").textContent =
      leftOut ? `Left out: ${leftOut} sound, which WebRTC does not have. HLS has it.` : "";
    await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    video.srcObject = stream;
    video.play().catch(() => {});
    await connected(peer, isAgain ? 10_000 : 4_000);
    document.getElementById("latency").textContent = "by WebRTC";
    await Promise.race([gone(peer), pictures(peer)]);
    await gone(peer);
  } finally {
    window.removeEventListener("pagehide", leave);
    leave();
    video.srcObject = null;
  }
}

// Many pages may begin at the same moment: the server says when to ask again. HLS is there for who
// would have to wait for longer.
async function offer(request) {
  for (let attempt = 0; ; attempt++) {
    const answer = await fetch("whep" + suffix, request);
    if (answer.ok) return answer;
    const wait = Number(answer.headers.get("Retry-After"));
    if (answer.status !== 503 || !(wait > 0 && wait <= 5) || attempt === 5) {
      throw await failureOf(answer);
    }
    await pause(1000 * (wait + Math.random()));
  }
}

// Browsers decode one channel of Opus unless their own offer says otherwise (RFC 7587 s6.1).
function inStereo(sdp) {
  const opus = /^a=rtpmap:(\d+) opus\//im.exec(sdp)?.[1];
  return opus ? sdp.replace(`a=fmtp:${opus} `, `a=fmtp:${opus} stereo=1;`) : sdp;
}

async function failureOf(answer) {
  let detail = answer.statusText;
  try {
    detail = (await answer.json()).detail || detail;
  } catch (notJson) {
    // The status has to do.
  }
  const failure = new Failure(`${detail} (${answer.status})`);
  failure.status = answer.status;
  return failure;
}

function connected(peer, ms) {
  return new Promise((done, failed) => {
    const refuse = () => failed(new Failure("No connection by UDP came up."));
    const timer = setTimeout(refuse, ms);
    const look = () => {
      if (peer.connectionState === "connected") done();
      else if (["failed", "closed"].includes(peer.connectionState)) refuse();
      else return;
      clearTimeout(timer);
      peer.removeEventListener("connectionstatechange", look);
    };
    peer.addEventListener("connectionstatechange", look);
    look();
  });
}

// The server closes DTLS when a path ends; a server that is gone is noticed by ICE.
function gone(peer) {
  return new Promise((done) => {
    const look = () => {
      if (["failed", "closed", "disconnected"].includes(peer.connectionState)) done();
    };
    peer.addEventListener("connectionstatechange", look);
    for (const { transport } of peer.getReceivers()) {
      transport?.addEventListener("statechange", () => {
        if (transport.state === "closed" || transport.state === "failed") done();
      });
    }
    look();
  });
}

// Pictures are decoded soon, or something between the server and this screen does not take them.
// Sound alone has none.
async function pictures(peer) {
  const isWanted = peer.getTransceivers().some(({ currentDirection, receiver }) =>
    currentDirection === "recvonly" && receiver.track.kind === "video");
  for (let waited = 0; isWanted && waited < 8_000; waited += 250) {
    await pause(250);
    if (["failed", "closed"].includes(peer.connectionState)) return;
    const found = [...(await peer.getStats()).values()];
    if (found.some(({ type, framesDecoded }) => type === "inbound-rtp" && framesDecoded > 0)) return;
  }
  if (isWanted) throw new Failure("No picture comes by WebRTC.");
}

// By WebRTC as long as that works: a session that is over, because another source brings other
// tracks for instance, is followed by another one at once. A path that has ended says so, when it
// has not come back for a while; all else is left to HLS.
async function playLowLatency() {
  let absent = 0;
  for (let times = 0; ; times++) {
    const begun = performance.now();
    try {
      await playByWebRtc(times > 0);
      absent = 0;
    } catch (error) {
      console.debug(error);
      if (times > 0 && error.status === 404) {
        if (absent++ === 6) return say("ended", "The end");
        await pause(2000);
        continue;
      }
      if (chosen === "whep") throw error;
      document.getElementById("left-out").textContent = "";
      return playByHls();
    }
    say("loading", "Waiting for data");
    // Sessions that last no time are not asked for without end.
    await pause(Math.max(0, 1000 - (performance.now() - begun)));
  }
}

video.addEventListener("playing", () => {
  say("playing", "Playing");
  // Milliseconds from the beginning of the page to its first picture.
  document.documentElement.dataset.firstPicture ??= Math.round(performance.now());
});
video.addEventListener("waiting", () => say("loading", "Waiting for data"));
video.addEventListener("ended", () => say("ended", "The end"));
video.addEventListener("error", () => {
  say("error", `The browser cannot play this: ${video.error?.message || "unknown reason"}`);
});

document.getElementById("name").textContent = decodeURIComponent(location.pathname).replace(/^\/|\/$/g, "");
document.title = document.getElementById("name").textContent + " - headend";
document.getElementById("playlist").href = "index.m3u8" + suffix;
say("loading", "Loading");
const isNative = video.canPlayType("application/vnd.apple.mpegurl") !== "";
const isTitle = /^\/+(vod\/|demo\/*$)/.test(location.pathname);
const prefersNative = isNative && (isTitle || !(window.MediaSource || window.ManagedMediaSource));
const wantsNative = chosen === "native" || (prefersNative && chosen !== "mse");
const wantsWebRtc =
  chosen === "whep" || (!chosen && !isTitle && "RTCPeerConnection" in window);
const playByHls = () => {
  document.documentElement.dataset.player = wantsNative ? "native" : "mse";
  return wantsNative ? playNatively() : playByMediaSource();
};
const play = wantsWebRtc ? playLowLatency : playByHls;
if (wantsWebRtc) document.documentElement.dataset.player = "whep";
if (!isTitle) {
  for (const player of ["whep", "mse"]) {
    const link = document.getElementById(player === "whep" ? "by-whep" : "by-hls");
    link.href = `?${new URLSearchParams([...query, ["player", player]])}`;
  }
  document.getElementById("choice").hidden = false;
}
play().catch((error) => {
  console.debug(error);
  say("error", error instanceof Failure ? error.message : `The player failed: ${error.message}`);
});
