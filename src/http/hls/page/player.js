// Plays the path of this page: a title by the browser's own HLS where it has that, else by Media
// Source Extensions, which get the playlist's segments (fragmented MP4) one after the other. Live
// paths by WebRTC (WHEP), below a second behind, where the browser and the path have it; else by
// HLS the other way round: Chromium's own HLS stays six seconds behind, parts of half a second do
// not.
//
//   index.m3u8 -> CODECS, media playlist -> initialization, segments or parts -> SourceBuffer
//                 `-> the sound that is chosen, where there are several --------> another one
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
  const found = { codecs: "", uri: "", start: 0, leftOut: "", sounds: [] };
  let isNext = false, codecs = [];
  for (const line of text.split("\n")) {
    const variant = tag(line, "#EXT-X-STREAM-INF");
    const data = tag(line, "#EXT-X-SESSION-DATA");
    const media = tag(line, "#EXT-X-MEDIA");
    if (media && attributes(media).TYPE === "AUDIO") {
      const { NAME, LANGUAGE, URI, CHANNELS, DEFAULT, AUTOSELECT } = attributes(media);
      found.sounds.push({
        name: NAME, language: LANGUAGE, uri: URI, channels: parseInt(CHANNELS),
        isDefault: DEFAULT === "YES", isAutomatic: AUTOSELECT === "YES",
      });
    } else if (variant) {
      found.codecs = attributes(variant).CODECS || "";
      isNext = true;
    } else if (data && attributes(data)["DATA-ID"] === "headend.start") {
      found.start = Number(attributes(data).VALUE) || 0;
    } else if (data && attributes(data)["DATA-ID"] === "headend.left-out") {
      found.leftOut = attributes(data).VALUE;
    } else if (data && attributes(data)["DATA-ID"] === "headend.sounds") {
      codecs = attributes(data).VALUE.split(",");
    } else if (isNext && line && !line.startsWith("#")) {
      found.uri = line;
      isNext = false;
    }
  }
  if (!found.uri) throw new Failure("The playlist names nothing to play.");
  for (const [place, sound] of found.sounds.entries()) {
    // Without a URI it is what the variant has.
    sound.uri ??= found.uri;
    sound.type = `audio/mp4; codecs="${codecs[place]}"`;
  }
  // Of the picture alone, where sounds lie beside it.
  found.codecs = found.codecs.split(",").filter((one) => !codecs.includes(one)).join(",");
  return found;
}

// Segments with their parts. Of a title, `time` is where a segment begins.
function readMedia(text) {
  const found = { segments: [], isEnded: false, partHoldBack: 0, canBlock: false, next: [0, 0] };
  let number = 0, map = null, parts = [], duration = 0, time = 0, target = 1;
  let isBreak = false, isGap = false;
  for (const line of text.split("\n")) {
    let value;
    if ((value = tag(line, "#EXT-X-MEDIA-SEQUENCE"))) number = Number(value);
    else if ((value = tag(line, "#EXT-X-TARGETDURATION"))) target = Number(value);
    else if ((value = tag(line, "#EXT-X-SERVER-CONTROL"))) {
      found.canBlock = attributes(value)["CAN-BLOCK-RELOAD"] === "YES";
      found.partHoldBack = Number(attributes(value)["PART-HOLD-BACK"]) || 0;
    } else if ((value = tag(line, "#EXT-X-MAP"))) map = attributes(value).URI;
    else if (line === "#EXT-X-DISCONTINUITY") isBreak = true;
    else if (line === "#EXT-X-GAP") isGap = true;
    else if ((value = tag(line, "#EXT-X-PART"))) {
      const { URI: uri, DURATION, INDEPENDENT, GAP } = attributes(value);
      const [isIndependent, isGap] = [INDEPENDENT === "YES", GAP === "YES"];
      parts.push({ uri, duration: Number(DURATION), isIndependent, isGap });
    } else if ((value = tag(line, "#EXTINF"))) duration = parseFloat(value);
    else if (line === "#EXT-X-ENDLIST") found.isEnded = true;
    else if (line && !line.startsWith("#")) {
      found.segments.push({ number, uri: line, map, parts, duration, time, isBreak, isGap });
      number += 1;
      time += duration;
      parts = [];
      isBreak = isGap = false;
    }
  }
  found.next = [number, parts.length];
  if (parts.length) {
    found.segments.push({ number, uri: null, map, parts, duration: 0, time, isBreak, isGap });
  }
  found.target = target;
  found.duration = time;
  return found;
}

// A SourceBuffer that takes one thing after the other.
class Sink {
  constructor(source, type) {
    this.buffer = source.addSourceBuffer(type);
    this.type = type;
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

  // Forgets everything, and takes something else from now on.
  async restart(type) {
    if (this.buffer.buffered.length) await this.#done(() => this.buffer.remove(0, Infinity));
    if (type !== this.type) this.buffer.changeType(type);
    this.type = type;
    this.map = null;
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
    return secondsFrom(this.buffer.buffered, time);
  }
}

function secondsFrom(ranges, time) {
  for (let i = 0; i < ranges.length; i++) {
    // A few frames may be missing at a seam.
    if (ranges.start(i) - 0.2 <= time && time < ranges.end(i)) return ranges.end(i) - time;
  }
  return 0;
}

// A rendition, and where its segments go: the picture with the only sound, the picture alone, or
// the sound that is chosen.
class Feed {
  constructor(source, type, uri, isBeside) {
    this.sink = new Sink(source, type);
    this.uri = uri;
    // It is a sound beside a picture.
    this.isBeside = isBeside;
    this.media = null;
    // The sound to go on with.
    this.wanted = null;
    // There is nothing left of a title to be loaded.
    this.isDone = false;
  }

  async load(mark) {
    const separator = this.uri.includes("?") ? "&" : "?";
    const answer = await get(mark ? this.uri + separator + mark : this.uri);
    this.media = readMedia(await answer.text());
  }

  // Goes on with another sound, where one was chosen. True: it has begun anew.
  async turn() {
    if (!this.wanted) return false;
    this.isDone = false;
    while (this.wanted) {
      const { uri, type } = this.wanted;
      this.wanted = null;
      this.uri = uri;
      await this.load();
      if (!this.wanted) await this.sink.restart(type);
    }
    return true;
  }
}

async function openSource() {
  const source = new Source();
  if (Source === window.ManagedMediaSource) video.disableRemotePlayback = true;
  video.src = URL.createObjectURL(source);
  await new Promise((done) => source.addEventListener("sourceopen", done, { once: true }));
  return source;
}

// Something that a seek or another sound interrupts.
const sleepers = new Set();
const wake = () => sleepers.forEach((done) => done());
const idle = (ms) =>
  new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      sleepers.delete(end);
      done();
    };
    const timer = setTimeout(end, ms);
    sleepers.add(end);
  });

async function playTitle(source, feeds, start) {
  source.duration = Math.max(...feeds.map(({ media }) => media.duration));
  for (const { sink } of feeds) {
    sink.buffer.timestampOffset = -start;
    sink.buffer.appendWindowStart = 0;
  }
  const seeks = { count: 0 };
  video.addEventListener("seeking", () => {
    seeks.count += 1;
    wake();
  });
  const end = () => {
    if (source.readyState === "open" && feeds.every(({ isDone }) => isDone)) source.endOfStream();
  };
  await Promise.all(feeds.map((feed) => feedTitle(feed, seeks, end)));
}

async function feedTitle(feed, seeks, end) {
  let seen = -1, newest = -1, isTurned = false;
  for (;;) {
    if (await feed.turn()) [newest, isTurned] = [-1, true];
    if (seen !== seeks.count) newest = -1;
    seen = seeks.count;
    const { sink, media } = feed;
    const at = (time) => {
      const found = media.segments.findIndex((one) => time < one.time + one.duration);
      return found < 0 ? media.segments.length : found;
    };
    const ahead = sink.ahead(video.currentTime);
    // Sound may end a frame before the picture.
    let next = ahead > 0 ? at(video.currentTime + ahead + 0.25) : at(video.currentTime);
    if (next === newest) {
      // The segment is there, but begins later than its time, or ends earlier.
      const { time, duration } = media.segments[next];
      const begin = ahead === 0 && startBehind(sink.buffer.buffered, video.currentTime, time + duration);
      if (begin || (ahead === 0 && !feed.isBeside)) {
        video.currentTime = begin || video.currentTime + 0.5;
        continue;
      }
      next += 1;
    }
    while (media.segments[next]?.isGap) next += 1;
    feed.isDone = next >= media.segments.length;
    if (feed.isDone || ahead > AHEAD) {
      end();
      await idle(500);
      continue;
    }
    const segment = media.segments[next];
    await sink.begin(segment.map);
    const bytes = await (await get(segment.uri)).arrayBuffer();
    if (feed.wanted || (seen !== seeks.count && at(video.currentTime) !== next)) continue;
    await sink.append(bytes);
    newest = next;
    // What was decoded of the sound before is dropped by a seek, and after the end of a sound
    // Chromium takes up another one at a seek only.
    if (isTurned && sink.ahead(video.currentTime) > 0) {
      isTurned = false;
      video.currentTime = video.currentTime;
    }
    await sink.trim(BEHIND);
  }
}

// Where something begins between two times; undefined where nothing does.
function startBehind(ranges, time, end) {
  const starts = [...Array(ranges.length).keys()].map((i) => ranges.start(i));
  return starts.find((start) => time < start && start < end);
}

// Where a viewer begins: the newest part that stands alone and is so many seconds behind the end.
// Sound stands alone everywhere, whole segments too.
function startOf(media, holdBack, isSound) {
  let found = [media.segments[0]?.number ?? 0, 0];
  let isFirst = true;
  for (const segment of media.segments) {
    const parts = segment.parts.length || !isSound ? segment.parts : [{ isIndependent: true }];
    for (const [place, part] of parts.entries()) {
      if (!part.isIndependent) continue;
      if (isFirst || secondsBehind(media, segment, place) >= holdBack) {
        found = [segment.number, place];
        isFirst = false;
      }
    }
  }
  return found;
}

async function playLive(source, feeds) {
  const [lead] = feeds;
  const live = { lead, wantsStart: true };
  // All begin with the same part: those of all renditions have the same numbers.
  const first = startOf(lead.media, lead.media.partHoldBack);
  await Promise.all(feeds.map((feed) => feedLive(live, feed, first)));
  if (source.readyState === "open") source.endOfStream();
}

async function feedLive(live, feed, first) {
  const { lead } = live;
  let next = first, failures = 0;
  const anew = () => {
    if (feed === lead) {
      live.wantsStart = true;
      return startOf(feed.media, feed.media.partHoldBack);
    }
    // A little before what is shown.
    return startOf(feed.media, lead.sink.ahead(video.currentTime) + 1, true);
  };
  for (;;) {
    try {
      if (await feed.turn()) next = anew();
      for (const segment of feed.media.segments) {
        const parts = segment.parts.length ? segment.parts : [segment];
        for (const [place, part] of parts.entries()) {
          const isOld = segment.number < next[0] || (segment.number === next[0] && place < next[1]);
          if (isOld || part.isGap || feed.wanted) continue;
          await feed.sink.begin(segment.map);
          await feed.sink.append(await (await get(part.uri)).arrayBuffer());
          next = [segment.number, place + 1];
          follow(live, feed);
        }
      }
      if (feed.wanted) continue;
      if (feed.media.isEnded) return;
      await feed.sink.trim(BEHIND);
      if (!feed.media.canBlock) await idle(feed.media.target * 500);
      const [segment, part] = feed.media.next;
      await feed.load(feed.media.canBlock ? `_HLS_msn=${segment}&_HLS_part=${part}` : "");
      failures = 0;
    } catch (error) {
      // Too late for a part: begin anew, a few times.
      failures += 1;
      if (error.status !== 404 || failures > 3) throw error;
      await pause(500);
      await feed.load();
      next = anew();
    }
    if (feed.media.segments.length && feed.media.segments[0].number > next[0]) next = anew();
  }
}

// Keeps a viewer of a live path near its end.
function follow(live, feed) {
  // What all renditions have.
  const ranges = video.buffered;
  if (!ranges.length || (feed !== live.lead && !live.wantsStart)) return;
  const last = ranges.length - 1;
  const end = ranges.end(last);
  const holdBack = Math.max(live.lead.media.partHoldBack, 1);
  const wanted = Math.max(ranges.start(last), end - holdBack);
  const now = video.currentTime;
  const isLate = end - now > holdBack + LATE || (secondsFrom(ranges, now) === 0 && wanted > now);
  if (live.wantsStart || (isLate && !video.paused)) {
    video.currentTime = wanted;
    if (live.wantsStart) video.play().catch(() => {});
    live.wantsStart = false;
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

const Source = window.MediaSource || window.ManagedMediaSource;

async function playByMediaSource(multivariant) {
  if (!Source) throw new Failure("This browser plays neither HLS nor Media Source Extensions.");
  const { codecs, sounds, uri } = multivariant;
  const heard = sounds.filter(({ type }) => Source.isTypeSupported(type));
  const type = `video/mp4; codecs="${codecs}"`;
  if ((codecs && !Source.isTypeSupported(type)) || (sounds.length && !heard.length)) {
    const all = [codecs, ...new Set(sounds.map((sound) => sound.type))].filter(Boolean);
    throw new Failure(`This browser has no decoder for ${all.join(", ")}.`);
  }
  const source = await openSource();
  const feeds = codecs ? [new Feed(source, type, uri, false)] : [];
  if (sounds.length) {
    const sound = preferred(heard);
    const feed = new Feed(source, sound.type, sound.uri, codecs !== "");
    feeds.push(feed);
    offerSounds(sounds, sound, (other) => {
      feed.wanted = other;
      wake();
    });
  }
  await Promise.all(feeds.map((feed) => feed.load()));
  const [{ media }] = feeds;
  if (media.isEnded && !media.canBlock) await playTitle(source, feeds, multivariant.start);
  else await playLive(source, feeds);
}

// The sound in a language of this browser's user, else the one that the playlist names.
function preferred(sounds) {
  const primary = (language) => language?.split("-")[0].toLowerCase();
  for (const language of navigator.languages) {
    const isOwn = (sound) => sound.isAutomatic && primary(sound.language) === primary(language);
    const own = sounds.find(isOwn);
    if (own) return own;
  }
  return sounds.find(({ isDefault }) => isDefault) ?? sounds[0];
}

// A choice among sounds, each by its language as this browser's user calls it.
function offerSounds(sounds, first, choose) {
  const select = document.getElementById("sound");
  const labels = labelsOf(sounds);
  for (const [place, sound] of sounds.entries()) {
    const option = new Option(labels[place], place, sound === first, sound === first);
    option.disabled = !Source.isTypeSupported(sound.type);
    select.add(option);
  }
  select.addEventListener("change", () => choose(sounds[select.value]));
  document.getElementById("sounds").hidden = false;
}

function labelsOf(sounds) {
  const languages = new Intl.DisplayNames(navigator.languages, { type: "language" });
  const labels = sounds.map(({ name, language, channels }) => {
    let label = name;
    try {
      if (language) label = languages.of(language);
    } catch (notKnown) {
      // The playlist's own name has to do.
    }
    return channels > 2 ? `${label}, ${channels} channels` : label;
  });
  const isOnce = (label) => labels.indexOf(label) === labels.lastIndexOf(label);
  return labels.map((label, place) => (isOnce(label) ? label : `${label} (${sounds[place].name})`));
}

function playNatively() {
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
const prefersNative = isNative && (isTitle || !Source);
const wantsNative = chosen === "native" || (prefersNative && chosen !== "mse");
const wantsWebRtc =
  chosen === "whep" || (!chosen && !isTitle && "RTCPeerConnection" in window);
const playByHls = async () => {
  // The reason for a failure is in the answer, which the video element does not show.
  const multivariant = await loadMultivariant();
  // Chromium's own HLS plays several sounds, and has no choice of them; Safari's controls have.
  const hasChoice = !multivariant.sounds.length || "audioTracks" in video;
  const byBrowser = wantsNative && (chosen === "native" || hasChoice || !Source);
  document.documentElement.dataset.player = byBrowser ? "native" : "mse";
  return byBrowser ? playNatively() : playByMediaSource(multivariant);
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
