//! The page with the player in a real browser: a title and a live path play, a frame read back is
//! the clip's, seek works, and what cannot be shown says why.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use crate::support::browser::Browser;
use crate::support::http;
use crate::support::live::wait_until_described;
use crate::support::media::title;
use crate::support::players::publish_file;
use crate::support::process::run;
use crate::support::server::{Options, Server};
use crate::support::wait::until;
use crate::support::whep::{OFFER, made, post, publish_again_and_again, publish_low_latency};
use crate::support::{demo_clip, folder_with, hls};

fn server() -> Server {
    Server::start(&Options { hls: "127.0.0.1:0", ..Options::default() })
}

/// Mean colours of the four quarters of what the page shows: red, green, blue each.
fn shown(browser: &mut Browser) -> Vec<f64> {
    let colours = browser.eval(
        "(() => { const video = document.querySelector('video');
           const big = document.createElement('canvas');
           [big.width, big.height] = [video.videoWidth, video.videoHeight];
           const whole = big.getContext('2d', { willReadFrequently: true });
           whole.drawImage(video, 0, 0);
           const means = [];
           for (const [x, y] of [[0, 0], [1, 0], [0, 1], [1, 1]]) {
             const [w, h] = [big.width >> 1, big.height >> 1];
             const data = whole.getImageData(x * w, y * h, w, h).data;
             const sum = [0, 0, 0];
             for (let i = 0; i < data.length; i += 4) for (const c of [0, 1, 2]) sum[c] += data[i + c];
             means.push(...sum.map((value) => value / (data.length / 4)));
           }
           return means; })()",
    );
    colours.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// The same of each picture of the clip, decoded by FFmpeg: 25 a second.
fn of_clip() -> Vec<Vec<f64>> {
    let out = tempfile::NamedTempFile::new_in(crate::support::scratch()).unwrap();
    let (clip, to) = (demo_clip(), out.path().to_str().unwrap());
    let input = ["-loglevel", "error", "-y", "-i", clip.to_str().unwrap()];
    let small = ["-vf", "scale=160:90:flags=area", "-pix_fmt", "rgb24", "-f", "rawvideo", to];
    run("ffmpeg", &[&input[..], &small].concat());
    std::fs::read(to).unwrap().chunks(WIDTH * HEIGHT * 3).map(quarters).collect()
}

/// Mean colours of the quarters of a picture of `WIDTH` x `HEIGHT`.
fn quarters(picture: &[u8]) -> Vec<f64> {
    let (w, h) = (WIDTH / 2, HEIGHT / 2);
    let mut means = Vec::new();
    for (left, top) in [(0, 0), (w, 0), (0, h), (w, h)] {
        let mut sums = [0_u64; 3];
        for row in picture.chunks(WIDTH * 3).skip(top).take(h) {
            for pixel in row[left * 3..(left + w) * 3].chunks(3) {
                sums.iter_mut().zip(pixel).for_each(|(sum, colour)| *sum += u64::from(*colour));
            }
        }
        means.extend(sums.map(|sum| sum as f64 / (w * h) as f64));
    }
    means
}

fn difference(got: &[f64], wanted: &[f64]) -> f64 {
    got.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Which picture of the clip is shown: the one that is most alike. The browser's conversion of
/// colours differs a little from FFmpeg's.
fn place_in(clip: &[Vec<f64>], got: &[f64]) -> usize {
    assert!(got.iter().any(|value| *value > 30.0), "a black picture: {got:?}");
    let differences = clip.iter().map(|picture| difference(got, picture));
    let best = differences.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
    let (place, off) = best.expect("a clip");
    assert!(off < ALIKE, "{off}: {got:?} is not of the clip; most alike is {:?}", clip[place]);
    place
}

fn open(server: &Server, path: &str) -> Browser {
    let mut browser = Browser::start(1_000, 800);
    browser.open(&format!("http://{}/{path}", server.hls()));
    browser
}

/// Nothing was complained of, and nothing came from elsewhere. What a page makes itself has a name
/// of its own.
fn assert_own(browser: &mut Browser, server: &Server) {
    browser.eval("0");
    browser.requests.retain(|url| !url.starts_with("blob:"));
    browser.assert_content(&format!("http://{}", server.hls()));
}

fn until_playing(browser: &mut Browser) {
    browser.until("document.documentElement.dataset.state === 'playing'");
    let from = browser.eval("document.querySelector('video').currentTime").as_f64().unwrap();
    browser.until(&format!("document.querySelector('video').currentTime > {from} + 0.5"));
}

fn assert_title_plays(query: &str) {
    let server = server();
    let clip = of_clip();
    let mut browser = open(&server, &format!("demo/{query}"));
    until_playing(&mut browser);
    browser.until("Math.abs(document.querySelector('video').duration - 20) < 0.2");
    let places = [(7.5, 187), (3.25, 81), (17.0, 425)];
    for ((_, one), (_, next)) in places.iter().zip(&places[1..]) {
        assert!(difference(&clip[*one], &clip[*next]) > ALIKE, "the old picture would do");
    }
    for (seconds, place) in places {
        let wanted = &clip[place];
        browser.eval(&format!(
            "(async () => {{ const video = document.querySelector('video'); video.pause();
               const seeked = new Promise((done) => video.addEventListener('seeked', done, {{ once: true }}));
               video.currentTime = {seconds}; await seeked; }})()"
        ));
        // `seeked` may come before the picture: a busy machine shows the old one for a while.
        until(&format!("the picture at {seconds} s is shown"), || {
            difference(&shown(&mut browser), wanted) < ALIKE
        });
    }
    browser.eval("document.querySelector('video').currentTime = 19.5");
    browser.eval("document.querySelector('video').play()");
    browser.until("document.documentElement.dataset.state === 'ended'");
    assert_own(&mut browser, &server);
}

#[test]
fn title_plays_by_media_source_and_seeks() {
    assert_title_plays("?player=mse");
}

#[test]
fn title_plays_as_the_browser_chooses() {
    assert_title_plays("");
}

#[test]
fn live_path_plays_near_its_newest_part() {
    let server = server();
    let clip = demo_clip();
    let _publisher = publish_file(&clip, &server.url("live/a"), "tcp", &["-stream_loop", "-1"]);
    until("the path is there", || hls::get(server.hls(), "/live/a/index.m3u8").status == 200);
    let mut browser = open(&server, "live/a/?player=mse");
    until_playing(&mut browser);
    let pictures = of_clip();
    let first = place_in(&pictures, &shown(&mut browser));
    assert!(first < pictures.len());
    let behind = "(() => { const video = document.querySelector('video');
        return video.buffered.end(video.buffered.length - 1) - video.currentTime; })()";
    browser.until(&format!("{behind} < 8"));
    until_playing(&mut browser);
    assert_own(&mut browser, &server);
}

fn data(browser: &mut Browser, name: &str) -> String {
    let value = browser.eval(&format!("document.documentElement.dataset.{name}"));
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn live_path_plays_by_webrtc_with_its_sound() {
    let server = server();
    let _publisher = publish_low_latency(&server, "libopus");
    let mut browser = open(&server, "live/a/");
    until_playing(&mut browser);
    assert_eq!(data(&mut browser, "player"), "whep");
    place_in(&of_clip(), &shown(&mut browser));
    until_playing(&mut browser);
    // The time is told, and not judged: other tests share the machine.
    println!("first picture after {} ms", data(&mut browser, "firstPicture"));
    browser.until(
        "document.querySelector('video').srcObject.getAudioTracks().some((one) => !one.muted)",
    );
    assert_eq!(browser.eval("document.getElementById('left-out').textContent"), "");
    assert_own(&mut browser, &server);
    let sessions = || {
        let (_, text) = http::get(server.admin, "/metrics");
        assert!(text.contains("headend_whep_not_connected_total 0\n"), "{text}");
        // Nothing was made into segments: nobody has asked for them.
        assert!(text.contains("headend_hls_parts_total 0\n"), "{text}");
        text.contains("headend_whep_sessions_total 1\n")
    };
    assert!(sessions());
    // A page that is left ends its session.
    browser.open("about:blank");
    until("the session is over", || {
        let limits = http::list(http::get_json(server.admin, "/v1/limits"));
        limits.iter().any(|row| row["what"] == "webrtc_viewers" && row["used"] == 0)
    });
}

/// Chromium decodes one channel of Opus, unless its own offer says otherwise.
#[test]
fn sound_by_webrtc_is_played_in_stereo() {
    let server = server();
    let video = ["-f", "lavfi", "-i", "testsrc=size=320x180:rate=25:duration=10"];
    let sound = ["-f", "lavfi", "-i", "aevalsrc=0.4*sin(2*PI*440*t)|0:s=48000:d=10"];
    let codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "25"];
    let codecs = [&codecs[..], &["-pix_fmt", "yuv420p", "-c:a", "libopus", "-ac", "2"]].concat();
    let file = made("left_only.mp4", &[&video[..], &sound, &codecs].concat());
    let _publisher = publish_again_and_again(&server, &file);
    let mut browser = open(&server, "live/a/");
    until_playing(&mut browser);
    assert_eq!(data(&mut browser, "player"), "whep");
    // A click lets the page make sound.
    browser.click("document.getElementById('name')");
    browser.eval(
        "(async () => { const context = new AudioContext(); await context.resume();
           const source = context.createMediaStreamSource(document.querySelector('video').srcObject);
           const splitter = context.createChannelSplitter(2);
           source.connect(splitter);
           window.loudness = [0, 1].map((channel) => {
             const analyser = context.createAnalyser();
             splitter.connect(analyser, channel);
             return () => {
               const samples = new Float32Array(analyser.fftSize);
               analyser.getFloatTimeDomainData(samples);
               return Math.max(...samples.map(Math.abs));
             };
           }); })()",
    );
    browser.until("loudness[0]() > 0.2");
    let heard = browser.eval("loudness.map((channel) => channel())");
    let [left, right] = [0, 1].map(|channel| heard[channel].as_f64().unwrap());
    assert!(left > 0.2 && right < left / 4.0, "left {left}, right {right}");
    assert_own(&mut browser, &server);
}

/// A title of 40 s with a tone in each of three languages; the third one is Opus, and ends after
/// 12 s.
fn title_in_three_languages() -> std::path::PathBuf {
    let inputs = "-f lavfi -i testsrc=size=320x180:rate=25:duration=40 \
                  -f lavfi -i sine=frequency=440:sample_rate=48000:duration=40 \
                  -f lavfi -i sine=frequency=1000:sample_rate=44100:duration=40 \
                  -f lavfi -i sine=frequency=2000:sample_rate=48000:duration=12 \
                  -map 0 -map 1 -map 2 -map 3 -c:v libx264 -preset ultrafast -pix_fmt yuv420p \
                  -g 50 -c:a aac -c:a:2 libopus -metadata:s:a:0 language=eng \
                  -metadata:s:a:1 language=ger -metadata:s:a:2 language=fra";
    made("in_three_languages.mp4", &inputs.split_whitespace().collect::<Vec<_>>())
}

/// Has `tone()` say which frequency is heard, in hertz; 0 for silence.
fn listen(browser: &mut Browser) {
    // A click lets the page make sound.
    browser.click("document.getElementById('name')");
    browser.eval(
        "(async () => { const context = new AudioContext(); await context.resume();
           const video = document.querySelector('video');
           video.muted = false;
           const source = context.createMediaElementSource(video);
           const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
           source.connect(analyser).connect(context.destination);
           window.tone = () => {
             const bins = new Float32Array(analyser.frequencyBinCount);
             analyser.getFloatFrequencyData(bins);
             const loudest = bins.indexOf(Math.max(...bins));
             return bins[loudest] > -60 ? loudest * context.sampleRate / analyser.fftSize : 0;
           }; })()",
    );
}

fn until_heard(browser: &mut Browser, hertz: u32) {
    browser.until(&format!("Math.abs(tone() - {hertz}) < 20"));
}

fn seek(browser: &mut Browser, seconds: f64) {
    browser.eval(&format!("document.querySelector('video').currentTime = {seconds}"));
}

#[test]
fn sound_of_a_title_is_chosen_by_its_language() {
    let folder = folder_with(&[&title_in_three_languages()]);
    let options = Options { folder: Some(folder.path()), hls: "127.0.0.1:0", ..Options::default() };
    let server = Server::start(&options);
    let mut browser = Browser::start(360, 640);
    let languages = "Object.defineProperty(navigator, 'languages', { value: ['en-US'] })";
    browser.run_before_pages(languages);
    browser.open(&format!("http://{}/vod/in_three_languages.mp4/", server.hls()));
    until_playing(&mut browser);
    assert_eq!(data(&mut browser, "player"), "mse", "the browser's own HLS has no choice");
    let select = "document.getElementById('sound')";
    let options = browser.eval(&format!("[...{select}.options].map((one) => one.label)"));
    assert_eq!(options, serde_json::json!(["English", "German", "French"]));
    let named = ("combobox".to_owned(), "Sound".to_owned());
    assert!(browser.accessible().contains(&named), "{:?}", browser.accessible());
    // A finger needs 44 pixels, and nothing is beside the screen.
    let size = format!("{select}.getBoundingClientRect().height >= 44");
    assert_eq!(browser.eval(&size), true);
    assert_eq!(browser.eval("document.documentElement.scrollWidth <= innerWidth"), true);
    listen(&mut browser);
    until_heard(&mut browser, 440);
    // By keyboard.
    browser.eval(&format!("{select}.focus()"));
    browser.press("ArrowDown");
    until_heard(&mut browser, 1_000);
    until_playing(&mut browser);
    // Another codec.
    seek(&mut browser, 1.0);
    browser.press("ArrowDown");
    until_heard(&mut browser, 2_000);
    // A sound that has ended does not hold the picture up, and another one goes on.
    seek(&mut browser, 14.0);
    browser.until("tone() === 0 && document.querySelector('video').currentTime > 14.5");
    until_playing(&mut browser);
    browser.eval(&format!("{select}.value = 1; {select}.dispatchEvent(new Event('change'))"));
    until_heard(&mut browser, 1_000);
    // The chosen sound stays behind a seek.
    seek(&mut browser, 2.0);
    until_heard(&mut browser, 1_000);
    browser.press("ArrowDown");
    until_heard(&mut browser, 2_000);
    seek(&mut browser, 38.5);
    browser.until("document.documentElement.dataset.state === 'ended'");
    let all = "Math.abs(document.querySelector('video').currentTime - 40) < 0.2";
    assert_eq!(browser.eval(all), true);
    assert_own(&mut browser, &server);
}

#[test]
fn sound_of_a_live_path_is_chosen_too() {
    let server = server();
    let file = title_in_three_languages();
    let _publisher = publish_file(&file, &server.url("live/a"), "tcp", &["-stream_loop", "-1"]);
    until("the path is there", || hls::get(server.hls(), "/live/a/index.m3u8").status == 200);
    let mut browser = open(&server, "live/a/?player=mse");
    until_playing(&mut browser);
    listen(&mut browser);
    until_heard(&mut browser, 440);
    // Languages are not told by this publisher.
    let select = "document.getElementById('sound')";
    let options = browser.eval(&format!("[...{select}.options].map((one) => one.label)"));
    assert_eq!(options, serde_json::json!(["Sound 1", "Sound 2", "Sound 3"]));
    browser.eval(&format!("{select}.focus()"));
    browser.press("ArrowDown");
    until_heard(&mut browser, 1_000);
    until_playing(&mut browser);
    assert_own(&mut browser, &server);
}

#[test]
fn sound_in_the_language_of_the_browser_is_played_first() {
    let folder = folder_with(&[&title_in_three_languages()]);
    let options = Options { folder: Some(folder.path()), hls: "127.0.0.1:0", ..Options::default() };
    let server = Server::start(&options);
    let mut browser = Browser::start(1_000, 800);
    let languages =
        "Object.defineProperty(navigator, 'languages', { value: ['it', 'de-AT', 'en'] })";
    browser.run_before_pages(languages);
    browser.open(&format!("http://{}/vod/in_three_languages.mp4/?player=mse", server.hls()));
    until_playing(&mut browser);
    listen(&mut browser);
    until_heard(&mut browser, 1_000);
    let label = browser.eval("document.getElementById('sound').selectedOptions[0].label");
    assert_eq!(label, "tedesco", "named as its user calls it");
}

fn pictures_of(width: u32, sound: &[&str]) -> std::path::PathBuf {
    let size = format!("testsrc=size={width}x180:rate=25:duration=10");
    let video = ["-f", "lavfi", "-i", &size];
    let codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "25"];
    let name = format!("pictures_{width}_{}.mp4", sound.len());
    made(&name, &[&video[..], sound, &codecs, &["-pix_fmt", "yuv420p"]].concat())
}

#[test]
fn another_source_goes_on_in_the_same_session_or_in_one_that_begins_at_once() {
    let server = Server::start(&Options {
        hls: "127.0.0.1:0",
        config: Some("[path.\"live/a\"]\nhold = \"30s\"\n"),
        ..Options::default()
    });
    let publisher = publish_again_and_again(&server, &pictures_of(320, &[]));
    let mut browser = open(&server, "live/a/");
    until_playing(&mut browser);
    let posts = |browser: &mut Browser| {
        browser.eval("0");
        browser.requests.iter().filter(|url| url.ends_with("/whep")).count()
    };
    assert_eq!(posts(&mut browser), 1);
    // Another SPS: the session goes on.
    drop(publisher);
    let publisher = publish_again_and_again(&server, &pictures_of(640, &[]));
    browser.until("document.querySelector('video').videoWidth === 640");
    until_playing(&mut browser);
    assert_eq!((posts(&mut browser), data(&mut browser, "player")), (1, "whep".to_owned()));
    // Other tracks: the browser is told, and asks again.
    drop(publisher);
    let sound = ["-f", "lavfi", "-i", "sine=duration=10", "-c:a", "libopus"];
    let _publisher = publish_again_and_again(&server, &pictures_of(480, &sound));
    browser.until("document.querySelector('video').videoWidth === 480");
    until_playing(&mut browser);
    assert_eq!((posts(&mut browser), data(&mut browser, "player")), (2, "whep".to_owned()));
}

#[test]
fn sound_that_webrtc_does_not_have_is_left_out_and_the_page_says_so() {
    let server = server();
    let _publisher = publish_low_latency(&server, "aac");
    let mut browser = open(&server, "live/a/");
    until_playing(&mut browser);
    assert_eq!(data(&mut browser, "player"), "whep");
    place_in(&of_clip(), &shown(&mut browser));
    let left_out = browser.eval("document.getElementById('left-out').textContent");
    assert!(left_out.as_str().unwrap().contains("AAC sound"), "{left_out}");
    browser.click("document.getElementById('by-hls')");
    browser.until("document.documentElement.dataset.player === 'mse'");
    until_playing(&mut browser);
}

#[test]
fn path_that_webrtc_cannot_play_is_played_by_hls() {
    let server = Server::start(&Options { hls: "127.0.0.1:0", webrtc: "off", ..Options::USUAL });
    let _publisher = publish_low_latency(&server, "aac");
    let mut browser = open(&server, "live/a/");
    browser.until("document.documentElement.dataset.player === 'mse'");
    until_playing(&mut browser);
}

/// The clip itself has B-frames: Chromium shows the first two pictures of each group by WebRTC.
#[test]
fn path_with_b_frames_is_played_by_hls() {
    let server = server();
    let clip = demo_clip();
    let _publisher = publish_file(&clip, &server.url("live/a"), "tcp", &["-stream_loop", "-1"]);
    wait_until_described(&server, "live/a");
    let mut browser = open(&server, "live/a/");
    browser.until("document.documentElement.dataset.player === 'mse'");
    until_playing(&mut browser);
    let refused = post(server.hls(), "live/a", "", OFFER);
    assert_eq!(refused.status, 415);
    assert!(refused.text().contains("B-frames"), "{}", refused.text());
}

#[test]
fn page_says_why_there_is_no_picture() {
    let file = title("mjpeg_420_mov").file();
    let folder = folder_with(&[&file]);
    let options = Options { folder: Some(folder.path()), hls: "127.0.0.1:0", ..Options::default() };
    let server = Server::start(&options);
    let name = file.file_name().unwrap().to_str().unwrap();
    for (path, reason) in [
        (format!("vod/{name}/"), "Motion JPEG, which browsers do not play"),
        ("vod/none.mp4/".to_owned(), "no such title"),
        ("live/none/".to_owned(), "the path has no source"),
    ] {
        let mut browser = open(&server, &path);
        browser.until("document.documentElement.dataset.state === 'error'");
        let text = browser.eval("document.getElementById('state').textContent");
        assert!(text.as_str().unwrap().contains(reason), "{path}: {text}");
    }
}

/// Of the pictures that are compared.
const WIDTH: usize = 160;
const HEIGHT: usize = 90;
/// Of the mean colours of two pictures: below it they are taken for the same.
const ALIKE: f64 = 12.0;
